"""`genrecls reproduce`: a run trained again from its own record, in a scratch folder, and compared bit by bit."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from genrecls import divergence, environment, manifest, run, training
from genrecls.compute import resolve
from genrecls.config import Config
from genrecls.divergence import Compared, Contents, Difference
from genrecls.errors import GenreclsError
from genrecls.evaluation import evaluate
from genrecls.lock import held
from genrecls.preparation import Ground, Workplace, ground, index
from genrecls.run import Entry, Run
from genrecls.seeding import make_deterministic
from genrecls.training import EpochSeen

SHOWN = 5
"""Clips that a sentence names."""
_CHANGES = {
    "changed": "with other bytes",
    "unreadable": "that cannot be read",
    "missing": "gone",
    "added": "new",
    "relabelled": "with other labels",
}


@dataclass(frozen=True)
class Asked:
    """What of a repetition is not the run's own record.

    data_dir: where the corpus lies now, "" where the run found it. device, threads: "" and 0 are the run's own. cached:
    whether features are taken from the cache below `res` where it is there, instead of made from the audio again.
    """

    data_dir: str = ""
    device: str = ""
    threads: int = 0
    cached: bool = False


@dataclass(frozen=True)
class Reproduction:
    """What came of it.

    compared: the parts, the nearest to the cause first. environment: what differs between the two machines, (run, here)
    by name. not_recorded: what is known here and the run does not say, because an earlier version made it.
    corpus_changes: ids of the clips that differ by kind of change, None where none do or it is not known.
    """

    run: Run
    compared: tuple[Compared, ...]
    environment: dict[str, tuple[Any, Any]]
    not_recorded: tuple[str, ...]
    corpus_changes: dict[str, list[str]] | None
    seconds: float

    @property
    def differences(self) -> list[Difference]:
        """Of all parts, the nearest to the cause first."""
        return [each.difference for each in self.compared if each.difference is not None]

    @property
    def identical(self) -> bool:
        """Whether every bit that was compared is the same."""
        return not self.differences

    def values(self) -> dict[str, Any]:
        """The fields of `reproduce --json`."""
        differences = [each.values() for each in self.differences]
        return {
            "run": str(self.run.path),
            "id": self.run.record["id"],
            "identical": self.identical,
            "first_difference": differences[0] if differences else None,
            "differences": differences,
            "compared": [each.part for each in self.compared],
            "environment_differences": [
                {"name": name, "run": recorded, "here": here} for name, (recorded, here) in self.environment.items()
            ],
            "environment_not_recorded": list(self.not_recorded),
            "corpus_changes": self.corpus_changes,
            "seconds": self.seconds,
        }


@dataclass
class _Repetition:
    """The work under way."""

    found: Run
    config: Config
    held: Contents
    compared: list[Compared] = field(default_factory=list)
    environment: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    changes: dict[str, list[str]] | None = None

    def note(self, name: str, recorded: object, here: object) -> None:
        """Remember a difference between the two machines, if it is one."""
        if recorded != here:
            self.environment[name] = (recorded, here)


def reproduce(found: Run, asked: Asked, place: Workplace, seen: EpochSeen) -> Reproduction:
    """Train the run again and compare. The run is only read; the scratch folder is removed afterwards.

    Where the corpus is another, that is the difference, and nothing is trained. Raises GenreclsError where the run is
    not finished or damaged, or cannot be trained here; OSError where the disk does not take the scratch folder.
    """
    started = time.monotonic()
    _check_finished(found)
    # A damaged run is noticed before the work.
    recorded, settings = found.environment, found.config
    work = _Repetition(found, settings, divergence.contents(found))
    entries = found.read_corpus()
    compute = replace(settings.compute, device=asked.device or settings.compute.device)
    compute = resolve(replace(compute, threads=asked.threads or compute.threads))
    where = {"data_dir": asked.data_dir or recorded["data_dir"], "groups": recorded["groups"]}
    config = replace(settings, compute=compute, dataset=replace(settings.dataset, **where))
    here = environment.describe(make_deterministic(compute.deterministic, compute.threads))
    work.environment, not_recorded = environment.differences(recorded, here)
    work.note("device", settings.compute.device, compute.device)
    work.compared.append(_settings(found, settings))
    with tempfile.TemporaryDirectory(prefix="genrecls-reproduce-") as scratch:
        bench = replace(place, res=place.res if asked.cached else Path(scratch) / "res", say=_once(place.say))
        standing = _ground(work, config, entries, place, bench, bool(asked.data_dir))
        if standing is not None:
            _train(work, config, standing, bench, Path(scratch) / "runs", seen, asked.cached)
    work.compared.append(divergence.own(found, work.held))
    return Reproduction(
        found, tuple(work.compared), work.environment, tuple(not_recorded), work.changes, time.monotonic() - started
    )


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    """The same without repetitions: training and evaluation read one corpus, and each has its remarks."""
    said: set[str] = set()

    def fresh(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return fresh


def _check_finished(found: Run) -> None:
    if found.finished:
        return
    if held(found.path / ".lock"):
        raise GenreclsError(f"The run {found.path} is being trained by another process: wait for its end.")
    raise GenreclsError(
        f"The run {found.path} is not finished, so there is nothing to compare with: go on with it by its `genrecls "
        "train` command first."
    )


def _settings(found: Run, settings: Config) -> Compared:
    """Whether `config.toml` is what the run's id stands for."""
    record = found.record
    known, made = record["id"], run.identity(settings, record["fingerprint"], record["cache_key"])
    difference = None
    if made != known:
        difference = Difference(
            "settings",
            f"config.toml stands for the id {made} and run.json has {known}: a setting was changed after training, or "
            "another version of genrecls made the run",
            figure="id",
            run=known,
            here=made,
        )
    return Compared("settings", "the run's id", difference)


def _ground(
    work: _Repetition,
    config: Config,
    entries: Mapping[str, Entry] | None,
    place: Workplace,
    bench: Workplace,
    named: bool,
) -> Ground | None:
    """The corpus, every file hashed anew, or None where it is not the run's. named: whether the user said where."""
    try:
        corpus = index(config.dataset, place.res)
    except GenreclsError as error:
        if named:
            raise
        work.note("corpus.fingerprint", work.held.record["fingerprint"], None)
        said = str(error).rstrip(".")
        statement = f"the corpus is not there as the run found it, so nothing was trained (--data-dir names it): {said}"
        work.compared.append(Compared("corpus", "", Difference("corpus", statement)))
        return None
    # A cache is no cause to trust what is remembered of the files.
    standing = ground(corpus, bench, verify=True)
    known = work.held.record["fingerprint"]
    work.note("corpus.fingerprint", known, standing.fingerprint)
    work.note("cache_key", work.held.record["cache_key"], standing.cache_key(config))
    difference = None
    if standing.fingerprint != known:
        if entries is not None:
            rows = manifest.entries(corpus, standing.manifest)
            work.changes = divergence.corpus_changes(
                entries, {str(clip): Entry(*(value or "" for value in labels)) for clip, *labels in rows}
            )
        difference = _of_corpus(work, corpus.root, known, standing.fingerprint)
    work.compared.append(Compared("corpus", f"{len(corpus.clips)} files", difference))
    return None if difference else standing


def _of_corpus(work: _Repetition, root: Path, known: str, here: str) -> Difference:
    parts, first = [], None
    for kind, clips in (work.changes or {}).items():
        if clips:
            first = first or clips[0]
            more = f" and {len(clips) - SHOWN} more" if len(clips) > SHOWN else ""
            count = f"{len(clips)} clip{'s' if len(clips) > 1 else ''}"
            parts.append(f"{count} {_CHANGES[kind]} ({', '.join(clips[:SHOWN])}{more})")
    said = "; ".join(parts) or "which clips differ is not known, because an earlier version of genrecls made the run"
    return Difference(
        "corpus",
        f"the corpus in {root} is not the one that the run was trained on, so nothing was trained: {said}",
        clip=first,
        figure="fingerprint",
        run=known,
        here=here,
        differing=sum(map(len, work.changes.values())) if work.changes else None,
    )


def _train(
    work: _Repetition,
    config: Config,
    standing: Ground,
    bench: Workplace,
    runs: Path,
    seen: EpochSeen,
    cached: bool,
) -> None:
    config = replace(config, dataset=replace(config.dataset, data_dir=str(standing.corpus.root)))
    if cached and config.training.epochs:
        caches = standing.caches(config, bench)
        for each in (caches, *standing.variants(config, caches, bench)):
            for cache in each.values():
                cache.verify()

    parted = False

    def watched(line: dict[str, Any], epochs: int) -> None:
        nonlocal parted
        epoch = line["epoch"]
        if not parted and work.held.history[epoch : epoch + 1] != [line]:
            parted = True
            bench.say(f"Epoch {epoch} is not as the run had it: the rest is trained to see how far they part.")
        seen(line, epochs)

    again = training.train(config, bench, runs, watched).run
    for subset in work.held.predictions:
        evaluate(again, bench, subset)
    work.compared += divergence.compare(work.held, divergence.contents(again))
