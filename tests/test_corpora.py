"""One contract for every corpus: ids that hold, splits that are complete and disjoint."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fma_tree
import pytest

from genrecls.config import SplitSettings
from genrecls.datasets import gtzan
from genrecls.datasets.index import Corpus
from genrecls.datasets.loader import DATASETS, Source, loader
from genrecls.datasets.synth.corpus import render
from genrecls.errors import ConfigError
from genrecls.splits import ROLES, resolve_policy, roles, spans


def _gtzan(root: Path) -> Source:
    for name in gtzan.NAMES:
        path = root / "gtzan" / "genres" / name.split(".")[0] / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Source(root)


def _folder(root: Path) -> Source:
    rows = ["clip,group"]
    for genre in ("a", "b"):
        for i in range(30):
            path = root / "music" / genre / f"{i}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            rows.append(f"{genre}/{i}.flac,{genre}{i // 3}")
    (root / "groups.csv").write_text("\n".join(rows))
    return Source(root, data_dir=root / "music", groups=root / "groups.csv")


def _synth(root: Path) -> Source:
    render(root / "synth", artists=5, clips=1)
    return Source(root)


def _fma(subset: str) -> Callable[[Path], Source]:
    def prepare(root: Path) -> Source:
        listed = list(fma_tree.lines(subset=subset))
        fma_tree.write_table(root / "fma", listed)
        fma_tree.write_audio(root / "fma", subset, listed, b"")
        return Source(root)

    return prepare


PREPARED: dict[str, Callable[[Path], Source]] = {
    "gtzan": _gtzan,
    "folder": _folder,
    "synth": _synth,
    "fma-small": _fma("small"),
    "fma-medium": _fma("medium"),
    "fma-large": _fma("large"),
}


def test_every_corpus_is_held_to_the_contract() -> None:
    assert set(PREPARED) == set(DATASETS)


@pytest.fixture(scope="module", params=DATASETS)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    name: str = request.param
    return loader(name).index(PREPARED[name](tmp_path_factory.mktemp(name)))


def test_ids_are_unique_sorted_and_of_no_machine(corpus: Corpus) -> None:
    ids = [clip.id for clip in corpus.clips]
    assert ids == sorted(set(ids))
    assert not any(str(corpus.root) in clip.id or clip.id.startswith("/") for clip in corpus.clips)


def test_clips_exist_below_the_root(corpus: Corpus) -> None:
    assert all(clip.path.is_file() and clip.path.is_relative_to(corpus.root) for clip in corpus.clips)


def test_indexing_twice_gives_the_same(corpus: Corpus, tmp_path: Path) -> None:
    again = loader(corpus.name).index(PREPARED[corpus.name](tmp_path))
    named = [(clip.id, clip.genre, clip.group, clip.official_split) for clip in corpus.clips]
    assert named == [(clip.id, clip.genre, clip.group, clip.official_split) for clip in again.clips]


def test_the_default_split_is_one_it_has(corpus: Corpus) -> None:
    assert resolve_policy(corpus, SplitSettings()) == corpus.default_split


@pytest.mark.parametrize("policy", ["filtered", "official", "grouped", "random", "kfold", "contaminated"])
def test_splits_are_disjoint_and_complete(corpus: Corpus, policy: str) -> None:
    settings = SplitSettings(policy)
    try:
        settings = replace(settings, policy=resolve_policy(corpus, settings))
    except ConfigError:
        assert policy in ("filtered", "official")
        return
    frames = {clip.id: 500 for clip in corpus.clips}
    made = spans(corpus, settings, frames, 100)
    assert {span.role for span in made} == set(ROLES)
    assert len({(span.clip, span.first_frame) for span in made}) == len(made)
    if policy == "contaminated":
        assert sum(span.frames for span in made) == sum(frames.values())
        return
    assert len({span.clip for span in made}) == len(made)
    assert all((span.first_frame, span.frames) == (0, 500) for span in made)
    if policy not in ("filtered", "official"):
        assert {span.clip for span in made} == set(frames)
    if policy in ("grouped", "kfold"):
        role = {span.clip: span.role for span in made}
        sides = {(clip.group, role[clip.id]) for clip in corpus.clips if clip.group is not None}
        assert len(sides) == len({clip.group for clip in corpus.clips if clip.group is not None})
    genre = {clip.id: clip.genre for clip in corpus.clips}
    held = {(genre[span.clip], span.role) for span in made}
    assert len(held) == 3 * len(corpus.genres)


def test_the_filtered_split_has_its_published_size(tmp_path: Path) -> None:
    corpus = loader("gtzan").index(_gtzan(tmp_path))
    made = roles(corpus, SplitSettings("filtered"))
    assert Counter(made.values()) == {"train": 443, "valid": 197, "test": 290}
    # No artist of its test clips is trained on: that is what the filter is for.
    artist = {clip.id: clip.group for clip in corpus.clips}
    tested = {artist[clip] for clip, role in made.items() if role == "test"} - {None}
    assert not tested & {artist[clip] for clip, role in made.items() if role != "test"}
