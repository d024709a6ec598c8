"""`genrecls reproduce`: a run trained again from its own record, in a scratch folder, and compared bit by bit."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genrecls import divergence, environment, manifest, provenance, training
from genrecls.compute import resolve
from genrecls.config import Config
from genrecls.divergence import Compared, Contents, Difference
from genrecls.errors import ConfigError, GenreclsError, Interrupted
from genrecls.evaluation import evaluate
from genrecls.identity import run_id
from genrecls.interruption import Interruption
from genrecls.lock import held
from genrecls.preparation import Ground, Workplace, ground, index
from genrecls.run import Entry, Run
from genrecls.seeding import make_deterministic
from genrecls.trainer import EpochSeen

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
    by name; of the Nth machine that went on with the run as "resumed-N.name". not_recorded: what is known here and the
    run does not say, because an earlier version made it. corpus_changes: ids of the clips that differ by kind of
    change, None where none do or it is not known.
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


def reproduce(found: Run, asked: Asked, place: Workplace, seen: EpochSeen) -> Reproduction:
    """Train the run again and compare. The run is only read; the scratch folder is removed afterwards.

    Where the corpus is another, that is the difference, and nothing is trained. Raises GenreclsError where the run is
    not finished or damaged, or cannot be trained here; OSError where the disk does not take the scratch folder.
    """
    started = time.monotonic()
    _check_finished(found)
    if found.files is None:
        place.say(provenance.unsealed(found))
    # A damaged run is noticed before the work.
    recorded, settings = found.environment, found.config
    if settings.compute.ranks > 1:
        raise GenreclsError(
            f"The run {found.path} was trained by {settings.compute.ranks} processes together, and reproduce has one: "
            f"train it again by torchrun --standalone --nproc-per-node {settings.compute.ranks}, below other --runs, "
            "and compare the hashes that --json gives."
        )
    kept, entries = divergence.contents(found), found.read_corpus()
    compute = replace(settings.compute, device=asked.device or settings.compute.device)
    compute = resolve(replace(compute, threads=asked.threads or compute.threads))
    where = {"data_dir": asked.data_dir or recorded["data_dir"], "groups": recorded["groups"]}
    config = replace(settings, compute=compute, dataset=replace(settings.dataset, **where))
    here = environment.describe(make_deterministic(compute.deterministic, compute.threads))
    apart, not_recorded = environment.differences(recorded, here)
    if compute.device != settings.compute.device:
        apart["device"] = (settings.compute.device, compute.device)
    made_by = provenance.changes(found)
    if made_by is None:
        not_recorded = [*not_recorded, "code"]
    else:
        apart |= {f"code.{name}": each for name, each in provenance.digests(found, made_by).items()}
    for number, later in enumerate(recorded.get("resumed") or [], 1):
        others, _ = environment.differences(later, here)
        apart |= {f"resumed-{number}.{name}": values for name, values in others.items()}
    interruption = Interruption()
    try:
        with (
            interruption.noticed(),
            interruption.at_once(),
            tempfile.TemporaryDirectory(prefix="genrecls-reproduce-") as scratch,
        ):
            work = _Repetition(kept, entries, config, asked, place, Path(scratch))
            compared = [_settings(found, settings), *work.compared(seen), divergence.own(found, kept)]
    except (KeyboardInterrupt, Interrupted) as error:
        raise GenreclsError("Interrupted: nothing is kept of a repetition, so run the same command again.") from error
    seconds = time.monotonic() - started
    return Reproduction(found, tuple(compared), apart | work.apart, tuple(not_recorded), work.changes, seconds)


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
    known, made = record["id"], run_id(settings, record["fingerprint"], record["cache_key"])
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


class _Repetition:
    """The work in the scratch folder. apart: what differs of the ground, (run, here). changes: of the corpus' clips."""

    def __init__(
        self,
        kept: Contents,
        entries: Mapping[str, Entry] | None,
        config: Config,
        asked: Asked,
        place: Workplace,
        scratch: Path,
    ) -> None:
        self._kept, self._entries, self._config, self._asked = kept, entries, config, asked
        self._res, self._runs = place.res, scratch / "runs"
        self._bench = replace(place, res=place.res if asked.cached else scratch / "res", say=_once(place.say))
        self.apart: dict[str, tuple[Any, Any]] = {}
        self.changes: dict[str, list[str]] | None = None

    def compared(self, seen: EpochSeen) -> list[Compared]:
        """The corpus, and where it is the run's all that training makes of it."""
        try:
            corpus = index(self._config.dataset, self._res)
        except GenreclsError as error:
            if self._asked.data_dir and isinstance(error, ConfigError):
                raise
            return [self._no_corpus(error)]
        # A cache is no cause to trust what is remembered of the files.
        standing = ground(corpus, self._bench, verify=True)
        part = self._of_corpus(standing)
        return [part] if part.difference else [part, *self._trained(standing, seen)]

    def _note(self, name: str, recorded: object, here: object) -> None:
        if recorded != here:
            self.apart[name] = (recorded, here)

    def _no_corpus(self, error: GenreclsError) -> Compared:
        self._note("corpus.fingerprint", self._kept.record["fingerprint"], None)
        said = str(error).rstrip(".")
        statement = f"the corpus is not there as the run found it, so nothing was trained (--data-dir names it): {said}"
        return Compared("corpus", "no files", Difference("corpus", statement))

    def _of_corpus(self, standing: Ground) -> Compared:
        record, here = self._kept.record, standing.fingerprint
        self._note("corpus.fingerprint", record["fingerprint"], here)
        self._note("cache_key", record["cache_key"], standing.cache_key(self._config))
        difference = None
        if here != record["fingerprint"]:
            if self._entries is not None:
                rows = manifest.entries(standing.corpus, standing.manifest)
                now = {str(clip): Entry(*(label or "" for label in labels)) for clip, *labels in rows}
                self.changes = divergence.corpus_changes(self._entries, now)
            difference = Difference(
                "corpus",
                f"the corpus in {standing.corpus.root} is not the one that the run was trained on, so nothing was "
                f"trained: {_said(self.changes)}",
                clip=next((clips[0] for clips in (self.changes or {}).values() if clips), None),
                figure="fingerprint",
                run=record["fingerprint"],
                here=here,
                differing=sum(map(len, self.changes.values())) if self.changes else None,
            )
        return Compared("corpus", f"{len(standing.corpus.clips)} files", difference)

    def _trained(self, standing: Ground, seen: EpochSeen) -> list[Compared]:
        # The corpus' own place is below --res, which is not the bench's.
        dataset = replace(self._config.dataset, data_dir=str(standing.corpus.root))
        config, bench, known = replace(self._config, dataset=dataset), self._bench, self._kept.history
        if self._asked.cached and config.training.epochs:
            caches = standing.caches(config, bench)
            for each in (caches, *standing.variants(config, caches, bench)):
                for cache in each.values():
                    cache.verify()
        parted = False

        def watched(line: dict[str, Any], epochs: int) -> None:
            nonlocal parted
            epoch = line["epoch"]
            if not parted and known[epoch : epoch + 1] != [line]:
                parted = True
                bench.say(f"Epoch {epoch} is not as the run had it: the rest is trained to see how far they part.")
            seen(line, epochs)

        again = training.train(config, bench, self._runs, watched).run
        for subset in self._kept.predictions:
            evaluate(again, bench, subset)
        return divergence.compare(self._kept, divergence.contents(again))


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    """The same without repetitions: training and evaluation read one corpus, and each has its remarks."""
    said: set[str] = set()

    def fresh(line: str) -> None:
        if line not in said:
            said.add(line)
            say(line)

    return fresh


def _said(changes: Mapping[str, list[str]] | None) -> str:
    parts = []
    for kind, clips in (changes or {}).items():
        if clips:
            more = f" and {len(clips) - SHOWN} more" if len(clips) > SHOWN else ""
            count = f"{len(clips)} clip{'s' if len(clips) > 1 else ''}"
            parts.append(f"{count} {_CHANGES[kind]} ({', '.join(clips[:SHOWN])}{more})")
    return "; ".join(parts) or "which clips differ is not known, because an earlier version of genrecls made the run"
