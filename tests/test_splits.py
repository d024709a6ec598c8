"""Splits: complete, disjoint, stratified, grouped, and independent of what they should not depend on."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from genrecls.config import SplitSettings
from genrecls.datasets.index import Clip, Corpus
from genrecls.errors import ConfigError, GenreclsError
from genrecls.splits import Span, resolve_policy, roles, spans


def corpus(per_genre: int = 50, genres: int = 4, group_of: int = 0, default: str = "random") -> Corpus:
    """group_of: clips of each artist, 0 where artists are not known."""
    clips = tuple(
        Clip(f"g{g}/{i:03d}", Path(f"g{g}/{i:03d}.wav"), f"g{g}", f"artist {g}-{i // group_of}" if group_of else None)
        for g in range(genres)
        for i in range(per_genre)
    )
    return Corpus("test", Path(), clips, default)


def counts(made: Mapping[str, str], of: Corpus) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for clip in of.clips:
        if clip.id in made:
            found[clip.genre][made[clip.id]] += 1
    return found


def test_random_gives_each_genre_its_shares() -> None:
    made = roles(corpus(), SplitSettings("random"))
    assert all(count == {"train": 40, "valid": 5, "test": 5} for count in counts(made, corpus()).values())


def test_random_works_from_three_clips_of_a_genre_on() -> None:
    made = counts(roles(corpus(3), SplitSettings("random")), corpus(3))
    assert all(count == {"train": 1, "valid": 1, "test": 1} for count in made.values())


def test_the_seed_moves_clips_and_nothing_else_does() -> None:
    first, again = (roles(corpus(), SplitSettings("random", seed=3)) for _ in range(2))
    assert first == again
    assert first != roles(corpus(), SplitSettings("random", seed=4))


def test_grouped_keeps_artists_together_and_shares_near() -> None:
    of = corpus(per_genre=120, group_of=12)
    made = roles(of, SplitSettings("grouped"))
    sides = defaultdict(set)
    for clip in of.clips:
        sides[clip.group].add(made[clip.id])
    assert all(len(found) == 1 for found in sides.values())
    assert all(count == {"train": 96, "valid": 12, "test": 12} for count in counts(made, of).values())


def test_grouped_copes_with_artists_of_all_sizes_and_several_genres() -> None:
    sizes = [60, 25, 10, 8, 5, 3, 3, 2, 2, 1, 1]
    clips, number = [], 0
    for g in range(3):
        for artist, size in enumerate(sizes):
            for i in range(size):
                # The artist 3 plays in every genre.
                group = "everywhere" if artist == 3 else f"{g}-{artist}"
                clips.append(
                    Clip(f"c{number:04d}", Path(f"{number}.wav"), f"g{g}", group if i or artist != 10 else None)
                )
                number += 1
    of = Corpus("test", Path(), tuple(clips), "grouped")
    for seed in range(5):
        made = roles(of, SplitSettings("grouped", seed=seed))
        sides = defaultdict(set)
        for clip in clips:
            sides[clip.group or clip.id].add(made[clip.id])
        assert all(len(found) == 1 for found in sides.values())
        for count in counts(made, of).values():
            assert abs(count["valid"] - 12) <= 6
            assert abs(count["test"] - 12) <= 6


@pytest.mark.parametrize("artists", [3, 4, 5, 7])
def test_grouped_leaves_no_part_without_a_genre(artists: int) -> None:
    """Artists of as many clips each, so few that no artist fits into a tenth of the clips."""
    names = [(f"{genre}{artist}", genre) for genre in "abc" for artist in range(artists)]
    clips = tuple(Clip(f"{name}-{i}", Path(name), genre, name) for name, genre in names for i in range(3))
    for seed in range(5):
        made = roles(Corpus("x", Path(), clips, "grouped"), SplitSettings("grouped", seed=seed))
        held = Counter((clip.genre, made[clip.id]) for clip in clips)
        assert len(held) == 9
        assert all(held[genre, "train"] == 3 * (artists - 2) for genre in "abc")


def test_another_seed_tests_on_other_artists() -> None:
    of = corpus(per_genre=120, group_of=12)
    made = [roles(of, SplitSettings("grouped", seed=seed)) for seed in range(4)]
    assert len({frozenset(clip.group for clip in of.clips if role[clip.id] == "test") for role in made}) == 4


@pytest.mark.parametrize("group_of", [0, 5])
def test_folds_test_every_clip_once(group_of: int) -> None:
    of = corpus(per_genre=50, group_of=group_of)
    tested: Counter[str] = Counter()
    for fold in range(5):
        made = roles(of, SplitSettings("kfold", fold=fold))
        assert set(made) == {clip.id for clip in of.clips}
        tested.update(clip for clip, role in made.items() if role == "test")
        if group_of:
            sides = defaultdict(set)
            for clip in of.clips:
                sides[clip.group].add(made[clip.id])
            assert all(len(found) == 1 for found in sides.values())
    assert tested == Counter(clip.id for clip in of.clips)


def test_contaminated_cuts_clips_and_nothing_overlaps() -> None:
    of = corpus(10)
    lengths = {clip.id: 1000 + i for i, clip in enumerate(of.clips)}
    made = spans(of, SplitSettings("contaminated"), lengths, 100)
    assert len(made) == sum(length // 100 for length in lengths.values())
    assert all(span.frames == 100 and span.first_frame % 100 == 0 for span in made)
    assert len({(span.clip, span.first_frame) for span in made}) == len(made)
    both = {span.clip for span in made if span.role == "train"} & {span.clip for span in made if span.role == "test"}
    assert len(both) > 20
    shares = Counter(span.role for span in made)
    assert shares["test"] == pytest.approx(len(made) / 10, abs=4)


def test_a_clip_that_cannot_be_used_moves_no_other() -> None:
    of = corpus()
    whole = spans(of, SplitSettings("random"), {clip.id: 100 for clip in of.clips}, 10)
    without = spans(of, SplitSettings("random"), {clip.id: 100 for clip in of.clips[1:]}, 10)
    assert without == [span for span in whole if span.clip != of.clips[0].id]


def published(per_genre: int = 10) -> Corpus:
    """Eight training clips of ten, one to validate, one to test."""
    of = corpus(per_genre)
    sides = ["train"] * (per_genre - 2) + ["valid", "test"]
    clips = tuple(replace(clip, official_split=sides[i % per_genre]) for i, clip in enumerate(of.clips))  # type: ignore[arg-type]
    return Corpus("published", Path(), clips, "filtered")


def test_a_published_split_is_taken_as_it_is() -> None:
    of = published()
    assert resolve_policy(of, SplitSettings()) == "filtered"
    made = spans(of, SplitSettings("filtered"), {clip.id: 100 for clip in of.clips}, 10)
    assert made == [Span(clip.id, 0, 100, clip.official_split) for clip in of.clips]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("of", "policy", "sentence"),
    [
        (corpus(), "filtered", "has no split 'filtered' (--split): choose grouped, random, kfold, contaminated"),
        (published(), "official", "has no split 'official' (--split): choose filtered, grouped"),
        (corpus(), "grouped", "give --groups FILE, or choose random"),
    ],
)
def test_policies_that_a_corpus_does_not_have(of: Corpus, policy: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_policy(of, SplitSettings(policy))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("of", "settings", "sentence"),
    [
        (corpus(2), SplitSettings("random"), "The genre 'g0' has 2 clips, and the split 'random' needs at least 3"),
        (corpus(50, group_of=25), SplitSettings("grouped"), "has 2 groups, and the split 'grouped' needs at least 3"),
        (corpus(4), SplitSettings("kfold"), "has 4 clips, and the split 'kfold' needs at least 5"),
    ],
)
def test_too_few_clips_are_named(of: Corpus, settings: SplitSettings, sentence: str) -> None:
    with pytest.raises(GenreclsError) as caught:
        spans(of, settings, {clip.id: 100 for clip in of.clips}, 10)
    assert sentence in str(caught.value)


def test_roles_that_end_up_empty_are_named() -> None:
    of = published()
    lengths = {clip.id: 100 for clip in of.clips if clip.official_split != "valid"}
    with pytest.raises(GenreclsError, match="has no usable clip for 'valid'"):
        spans(of, SplitSettings("filtered"), lengths, 10)
    lengths = {clip.id: 100 for clip in of.clips if not (clip.official_split == "train" and clip.genre == "g2")}
    with pytest.raises(GenreclsError, match="has no usable training clip of g2"):
        spans(of, SplitSettings("filtered"), lengths, 10)
