"""What is wrong with a corpus before anyone trains on it: faults, copies, and what a split leaks of both.

Every file is decoded once; what came of it is kept below `res/audit/`, keyed by the file's content, so that a
second audit reads only what is new. Copies are looked for each time.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from genrecls import atomic, reading, splits
from genrecls.audit import copies, fingerprint, soundness
from genrecls.audit.fingerprint import DIFFERENCES, Fingerprint
from genrecls.audit.soundness import Inspection, Problem, Sound
from genrecls.config import SplitSettings
from genrecls.datasets.index import Clip, Corpus, Role
from genrecls.datasets.loader import Progress
from genrecls.errors import ConfigError, GenreclsError
from genrecls.manifest import UNREADABLE, Manifest, file_sha256
from genrecls.reading import Damaged, field, optional
from genrecls.workers import by_blocks

USUAL = 0.9
"""A rate, a number of channels or a length that this share of the clips has is the corpus's own."""
_SHORTER = 0.9
"""Of the usual length; clips within the tenth below it have it."""
_USELESS = (UNREADABLE, "non-finite", "short", "silent")
_UNLIKE = ("rate", "channels", "length")
_BLOCK = 32


@dataclass(frozen=True)
class Finding:
    """A problem of one clip. kind: as `soundness.Problem` has it, or rate, channels or length where it is unlike the
    others', or what the corpus itself says of a clip that is known to be of no use.
    """

    clip: str
    kind: str
    reason: str


@dataclass(frozen=True)
class NearCopy:
    """Two clips of one recording that do not decode to the same samples. Of clips that do, the first stands for all.

    score: correlation of their fingerprints in the seconds they share. shift: in seconds, by which the same sound comes
    earlier in b than in a.
    """

    a: str
    b: str
    score: float
    seconds: float
    shift: float


@dataclass(frozen=True)
class Audit:
    """What was found in a corpus.

    findings: by clip, those that are only unlike the others last. exact_copies: ids of clips that decode to the same
    samples. families: ids of clips of one recording: exact and near copies, and copies of copies. genres, groups: of
    each clip by id (groups: where known). roles: of each clip that can be used under the split; None where the corpus
    cannot be split so, and `unsplit` says why.
    sounds: of each clip that can be decoded.
    """

    dataset: str
    split: str
    genres: dict[str, str]
    groups: dict[str, str]
    sounds: dict[str, Sound]
    findings: tuple[Finding, ...]
    exact_copies: tuple[tuple[str, ...], ...]
    near_copies: tuple[NearCopy, ...]
    families: tuple[tuple[str, ...], ...]
    roles: dict[str, Role] | None
    unsplit: str = ""

    @property
    def copies_across_splits(self) -> list[tuple[str, ...]]:
        """The families with clips in more than one part of the split."""
        return [family for family in self.families if len(self._parts(family)) > 1]

    @property
    def copies_across_genres(self) -> list[tuple[str, ...]]:
        """The families with more than one label: one of them is wrong, or both are."""
        return [family for family in self.families if len({self.genres[clip] for clip in family}) > 1]

    @property
    def groups_across_splits(self) -> list[dict[str, Any]]:
        """Artists or recordings with clips in more than one part: {group, train, valid, test}, counts but the first."""
        members: dict[str, list[str]] = {}
        for clip, group in self.groups.items():
            members.setdefault(group, []).append(clip)
        return [
            {"group": group, **{role: self._parts(members[group])[role] for role in splits.ROLES}}
            for group in sorted(members)
            if len(self._parts(members[group])) > 1
        ]

    def _parts(self, clips: Iterable[str]) -> Counter[Role]:
        roles = self.roles or {}
        return Counter(roles[clip] for clip in clips if clip in roles)

    @property
    def class_counts(self) -> dict[str, int]:
        """Clips of each genre."""
        return dict(sorted(Counter(self.genres.values()).items()))

    @property
    def class_counts_by_part(self) -> dict[str, dict[str, int]]:
        """Usable clips of each genre in each part of the split; all 0 where there is no split."""
        counted = Counter((self.genres[clip], role) for clip, role in (self.roles or {}).items())
        return {genre: {role: counted[genre, role] for role in splits.ROLES} for genre in self.class_counts}

    @property
    def leaks(self) -> bool:
        """Whether a recording or a group stands on two sides of the split."""
        return bool(self.copies_across_splits or self.groups_across_splits)

    def counts(self, name: str) -> dict[str, int]:
        """How many clips have each rate (in Hz) or number of channels. name: "rate" or "channels"."""
        return {
            str(value): count for value, count in Counter(getattr(s, name) for s in self.sounds.values()).most_common()
        }

    def values(self) -> dict[str, Any]:
        """The fields of `audit --json`."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "unsplit": self.unsplit or None,
            "clips": len(self.genres),
            "audio_seconds": round(sum(sound.seconds for sound in self.sounds.values()), 3),
            "unreadable": [
                {"clip": each.clip, "reason": each.reason} for each in self.findings if each.kind == UNREADABLE
            ],
            "problems": [asdict(each) for each in self.findings if each.kind != UNREADABLE],
            "exact_copies": [list(each) for each in self.exact_copies],
            "near_copies": [asdict(each) for each in self.near_copies],
            "copies_across_splits": [list(each) for each in self.copies_across_splits],
            "copies_across_genres": [list(each) for each in self.copies_across_genres],
            "groups_across_splits": self.groups_across_splits,
            "groups_known": len(set(self.groups.values())),
            "class_counts": self.class_counts,
            "class_counts_by_part": self.class_counts_by_part,
            "rates": self.counts("rate"),
            "channels": self.counts("channels"),
            "leaks": self.leaks,
        }


def audit(
    corpus: Corpus, manifest: Manifest, split: SplitSettings, res: Path, progress: Progress, jobs: int = 0
) -> Audit:
    """Inspect every file of a corpus and compare every pair of clips.

    split: whose leaks are looked for; one that the corpus does not have (`auto` aside) raises ConfigError, and so does
    `contaminated`. jobs: worker processes, 0 for one each core.
    Raises GenreclsError where a file is changed meanwhile or a worker dies.
    """
    policy = splits.resolve_policy(corpus, split)
    if policy == "contaminated":
        raise ConfigError(
            "The split 'contaminated' (--split) puts fragments of every clip on both sides on purpose: choose another "
            "one to audit."
        )
    inspections = _inspect_all(corpus, manifest, res, progress, jobs)
    sounds = {clip: each.sound for clip, each in inspections.items() if each.sound is not None}
    exact = _exact(inspections)
    near = _near(inspections, exact, progress, jobs)
    links = [*exact, *((each.a, each.b) for each in near)]
    roles, unsplit = None, ""
    try:
        made = splits.roles(corpus, replace(split, policy=policy))
        useless = {clip.id for clip in corpus.clips if clip.known_fault or not _usable(inspections[clip.id])}
        roles = {clip: role for clip, role in made.items() if clip not in useless}
        if lacking := _lacking(corpus, roles):
            roles, unsplit = None, f"No usable clip is left {lacking}: replace those that are named as problems."
    except GenreclsError as error:
        unsplit = str(error)
    return Audit(
        dataset=corpus.name,
        split=policy,
        genres={clip.id: clip.genre for clip in corpus.clips},
        groups={clip.id: clip.group for clip in corpus.clips if clip.group is not None},
        sounds=sounds,
        findings=tuple(sorted(_findings(corpus, inspections, sounds), key=lambda each: each.kind in _UNLIKE)),
        exact_copies=tuple(exact),
        near_copies=tuple(near),
        families=tuple(_families(links)),
        roles=roles,
        unsplit=unsplit,
    )


def _lacking(corpus: Corpus, roles: dict[str, Role]) -> str:
    """What nothing can be trained without, in words: a part of the split, or a genre in training."""
    empty = [role for role in splits.ROLES if role not in roles.values()]
    trained = {clip.genre for clip in corpus.clips if roles.get(clip.id) == "train"}
    untrained = [genre for genre in corpus.genres if genre not in trained]
    if empty:
        return f"for {' and '.join(empty)}"
    return f"to train {', '.join(untrained)} with" if untrained else ""


def _findings(corpus: Corpus, inspections: dict[str, Inspection], sounds: dict[str, Sound]) -> Generator[Finding]:
    lengths = [sound.seconds for sound in sounds.values()]
    usual = {name: _usual([getattr(sound, name) for sound in sounds.values()]) for name in ("rate", "channels")}
    length = median(lengths) if lengths else 0.0
    alike = sum(_SHORTER * length <= each <= length / _SHORTER for each in lengths) >= USUAL * len(lengths)
    for clip in corpus.clips:
        if clip.known_fault is not None:
            yield Finding(clip.id, *clip.known_fault)
            continue
        for problem in inspections[clip.id].problems:
            yield Finding(clip.id, problem.kind, problem.reason)
        if clip.id not in sounds:
            continue
        sound = sounds[clip.id]
        if usual["rate"] not in (None, sound.rate):
            yield Finding(clip.id, "rate", f"{sound.rate} Hz, where most clips have {usual['rate']} Hz")
        if usual["channels"] not in (None, sound.channels):
            yield Finding(clip.id, "channels", f"{sound.channels}, where most clips have {usual['channels']}")
        named = {problem.kind for problem in inspections[clip.id].problems} & {"truncated", "short"}
        if alike and not named and sound.seconds < _SHORTER * length:
            yield Finding(clip.id, "length", f"{sound.seconds:.2f} s, where most clips have about {length:.1f} s")


def _usual(values: Sequence[int]) -> int | None:
    """The value that nearly all have, if there is one."""
    if not values:
        return None
    value, count = Counter(values).most_common(1)[0]
    return value if count >= USUAL * len(values) else None


def _exact(inspections: dict[str, Inspection]) -> list[tuple[str, ...]]:
    """Clips of the same samples; silence and what else is of no use apart."""
    alike: dict[str, list[str]] = {}
    for clip, each in inspections.items():
        if each.sound is not None and _usable(each):
            alike.setdefault(each.sound.audio_sha256, []).append(clip)
    return [tuple(clips) for clips in alike.values() if len(clips) > 1]


def _usable(inspection: Inspection) -> bool:
    return not any(problem.kind in _USELESS for problem in inspection.problems)


def _near(
    inspections: dict[str, Inspection], exact: Sequence[tuple[str, ...]], progress: Progress, jobs: int
) -> list[NearCopy]:
    doubles = {clip for clips in exact for clip in clips[1:]}
    ids = [clip for clip in inspections if clip not in doubles]
    found = copies.matches([inspections[clip].fingerprint for clip in ids], progress, jobs)
    return [NearCopy(ids[match.a], ids[match.b], match.score, match.seconds, match.shift) for match in found]


def _families(links: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """What hangs together by links, sorted."""
    family: dict[str, set[str]] = {}
    for link in links:
        joined = set(link).union(*(family.get(clip, ()) for clip in link))
        family.update(dict.fromkeys(joined, joined))
    return sorted({tuple(sorted(each)) for each in family.values()})


def _inspect_all(corpus: Corpus, manifest: Manifest, res: Path, progress: Progress, jobs: int) -> dict[str, Inspection]:
    """By clip id, in the order of ids; known faults are not decoded."""
    clips = [clip for clip in corpus.clips if clip.known_fault is None]
    blocks = [_Block(res / "audit", clips[first : first + _BLOCK], manifest) for first in range(0, len(clips), _BLOCK)]
    missing = [block for block in blocks if not block.file.is_file()]
    left = sum(len(block.clips) for block in missing)
    ready = len(clips) - left
    progress("inspecting", ready, len(clips))
    with closing(by_blocks(_make, missing, left, jobs, ["genrecls.audit.soundness"], "audit")) as made:
        for block in made:
            ready += len(block.clips)
            progress("inspecting", ready, len(clips))
    return {clip: each for block in blocks for clip, each in block.read()}


def _make(block: "_Block") -> "_Block":
    block.make()
    return block


class _Block:
    """Some clips, and the file that holds what came of them.

    Its first line is the SHA-256 of all that follows, its second is JSON: a fact for each clip, and the length of its
    fingerprint. The fingerprints follow as they are, one after the other.
    """

    def __init__(self, folder: Path, clips: Sequence[Clip], manifest: Manifest) -> None:
        self.clips = [(clip.id, clip.path, manifest.sha256[clip.id]) for clip in clips]
        # The ending decides how a file is decoded, its name does not.
        content = [(sha256, path.suffix.lower()) for _, path, sha256 in self.clips]
        hashed = json.dumps([soundness.VERSION, fingerprint.VERSION, content])
        self.file = folder / f"{hashlib.sha256(hashed.encode()).hexdigest()[:32]}.audit"

    def make(self) -> None:
        """Inspect the files. Raises GenreclsError where one is not the one of the manifest any more."""
        facts, prints = [], []
        for _, path, sha256 in self.clips:
            made = soundness.inspect(path)
            if file_sha256(path) != sha256:
                raise GenreclsError(
                    f"{path} is not the file that was read before (it was changed or removed meanwhile): leave the "
                    "corpus alone and run `genrecls audit` again."
                )
            problems = [asdict(problem) for problem in made.problems]
            facts.append({"sound": made.sound and asdict(made.sound), "problems": problems})
            prints.append(made.fingerprint)
        head = json.dumps({"facts": facts, "lengths": [len(each) for each in prints]})
        content = b"\n".join([head.encode(), b"".join(each.tobytes() for each in prints)])
        atomic.write_bytes(self.file, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    def read(self) -> list[tuple[str, Inspection]]:
        """By clip id. Raises GenreclsError where the file is damaged."""
        try:
            return [(clip, each) for (clip, _, _), each in zip(self.clips, self._inspections(), strict=True)]
        except Damaged as error:
            raise GenreclsError(
                f"{self.file} is damaged ({error}): remove it and run the same command again."
            ) from error

    def _inspections(self) -> list[Inspection]:
        digest, _, content = reading.read_bytes(self.file).partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            raise Damaged("it is not what was written")
        head, _, frames = content.partition(b"\n")
        found = reading.json_object(head)
        facts, lengths = reading.items(found, "facts", dict), reading.items(found, "lengths", int)
        if (len(facts), len(lengths)) != (len(self.clips),) * 2 or min(lengths) < 0:
            raise Damaged("it is not of the same clips")
        if sum(lengths) * DIFFERENCES != len(frames):
            raise Damaged("its parts do not fit each other")
        prints = np.frombuffer(frames, np.int8).reshape(-1, DIFFERENCES)
        split = np.split(prints, np.cumsum(lengths)[:-1])
        return [_inspection(fact, each) for fact, each in zip(facts, split, strict=True)]


def _inspection(fact: dict[str, Any], frames: Fingerprint) -> Inspection:
    sound = None
    if known := optional(fact, "sound", dict):
        rate, channels = (field(known, name, int, low=1) for name in ("rate", "channels"))
        sound = Sound(rate, channels, field(known, "seconds", float, low=0), field(known, "audio_sha256", str))
    problems = reading.items(fact, "problems", dict)
    return Inspection(
        sound, frames, tuple(Problem(field(each, "kind", str), field(each, "reason", str)) for each in problems)
    )
