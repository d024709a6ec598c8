"""Trackers: a training shown in TensorBoard or Weights & Biases while it goes on.

They are told what a run's own files hold, and nothing depends on them: no setting, no id, no draw, no file of the run.
Each keeps its files in a folder of its own in the run's directory, and is told all epochs anew when training is gone on
with, or the run is found. A tracker that fails is given up with one remark.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from genrecls import reading
from genrecls.distributed import launch
from genrecls.errors import GenreclsError
from genrecls.reading import Damaged

if TYPE_CHECKING:
    from genrecls.config import Config
    from genrecls.preparation import Workplace
    from genrecls.run import Run
    from genrecls.trainer import EpochSeen
    from genrecls.training import Outcome, RunSeen

Counts = Sequence[Sequence[int]]
Picture = NDArray[np.uint8]
"""(height, width, 3)."""

KEY = "WANDB_API_KEY"
DOTENV = Path(".env")
"""Where Weights & Biases' key is looked for besides its client's own places: in the working folder."""
_LONGEST_ENV = 1 << 20
PROJECT = "genrecls"
"""Of Weights & Biases, where WANDB_PROJECT names no other."""


class Tracker(Protocol):
    """name: for remarks. Making one raises GenreclsError where its client is not installed.

    Its methods are called in the order given here, `epoch` and `confusion` any number of times.
    """

    name: str

    def begin(self, found: "Run") -> None:
        """Training begins, is gone on with, or was finished before. The run has its record and its settings."""
        ...

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """What an epoch, counted from 0, came to, by name."""
        ...

    def confusion(self, subset: str, genres: Sequence[str], counts: Counts, picture: Picture | None) -> None:
        """Clips by true (row) and predicted (column) genre; the same as a picture, where there is matplotlib."""
        ...

    def end(self, record: Mapping[str, Any]) -> None:
        """The run is finished. record: its `run.json`."""
        ...

    def abandon(self) -> None:
        """Training ended before its end. Called after `begin` in place of `end`."""
        ...


class TensorBoard:
    """Event files in the run's folder `tensorboard`, so that `tensorboard --logdir` shows all runs by their names."""

    name = "TensorBoard"

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        self._open = SummaryWriter
        self._last = 0

    def begin(self, found: "Run") -> None:
        """As the protocol says."""
        found.discard(("tensorboard",))
        self._writer = self._open(str(found.path / "tensorboard"))
        self._text("config", found.text("config.toml"))

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """As the protocol says."""
        self._last = number
        for name, value in figures.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    def confusion(self, subset: str, genres: Sequence[str], counts: Counts, picture: Picture | None) -> None:
        """As the protocol says."""
        rows = [["true \\ predicted", *genres], ["---"] * (len(genres) + 1)]
        rows += [[genre, *map(str, row)] for genre, row in zip(genres, counts, strict=True)]
        self._writer.add_text(f"confusion/{subset}", "\n".join(f"| {' | '.join(row)} |" for row in rows), self._last)
        if picture is not None:
            self._writer.add_image(f"confusion/{subset}", picture, self._last, dataformats="HWC")

    def end(self, record: Mapping[str, Any]) -> None:
        """As the protocol says."""
        self._text("run", json.dumps(record, indent=2))
        self._writer.close()

    def abandon(self) -> None:
        """As the protocol says."""
        self._writer.close()

    def _text(self, tag: str, text: str) -> None:
        """Indented, which Markdown shows as it is."""
        self._writer.add_text(tag, "\n".join(f"    {line}" for line in text.splitlines()), self._last)


class WeightsAndBiases:
    """A run of W&B under the run's id. WANDB_MODE=offline keeps it in the run's folder `wandb`, for `wandb sync`."""

    name = "W&B"

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb") from error
        self._wandb = wandb
        self._last = 0

    def begin(self, found: "Run") -> None:
        """As the protocol says."""
        found.discard(("wandb",))
        found.path.joinpath("wandb").mkdir()  # Else the client looks for another place.
        record = found.record
        facts = {name: record[name] for name in ("id", "corpus", "fingerprint", "cache_key", "genres")}
        # Before anything else, so that a client without a key fails instead of asking for one.
        self._wandb.setup(settings=self._wandb.Settings(silent=True))
        settings = self._wandb.Settings(silent=True, console="off", save_code=False)
        if KEY not in os.environ and (key := key_of(DOTENV)):
            settings.api_key = key
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=record["id"],
            name=found.name,
            dir=str(found.path),
            config={**found.config.values(), "run": facts},
            resume="allow",
            settings=settings,
        )

    def epoch(self, number: int, figures: Mapping[str, float]) -> None:
        """As the protocol says."""
        self._last = number
        self._run.log({**figures, "epoch": number}, step=number)

    def confusion(self, subset: str, genres: Sequence[str], counts: Counts, picture: Picture | None) -> None:
        """As the protocol says."""
        table = np.asarray(counts)
        true, predicted = (np.repeat(at, table.reshape(-1)).tolist() for at in np.indices(table.shape).reshape(2, -1))
        chart = self._wandb.plot.confusion_matrix(y_true=true, preds=predicted, class_names=list(genres))
        shown: dict[str, Any] = {f"confusion/{subset}": chart}
        if picture is not None:
            shown[f"confusion/{subset}/picture"] = self._wandb.Image(picture)
        self._run.log(shown, step=self._last)

    def end(self, record: Mapping[str, Any]) -> None:
        """As the protocol says."""
        names = ("best_epoch", "epochs", "valid", "weights_sha256", "history_sha256", "seconds")
        self._run.summary.update({"outcome": {name: record[name] for name in names}})
        self._run.finish()

    def abandon(self) -> None:
        """As the protocol says."""
        self._run.finish(exit_code=1)


TRACKERS: dict[str, Callable[[], Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def _missing(package: str) -> GenreclsError:
    return GenreclsError(
        f"--track {package} needs {package}, which is not installed: run `pip install -e '.[{package}]'` in the "
        "checkout."
    )


def key_of(path: Path) -> str | None:
    """The value of WANDB_API_KEY in a `.env` file, whose lines are NAME=VALUE; None where there is none.

    `export` before the name, quotes around the value and comments behind it are left out. Raises GenreclsError where it
    is no text file in UTF-8.
    """
    try:
        lines = reading.text(reading.read_bytes(path, _LONGEST_ENV)).splitlines()
    except FileNotFoundError:
        return None
    except Damaged as error:
        raise GenreclsError(f"{path} cannot be read ({error}): make it a text file in UTF-8") from error
    for line in lines:
        name, is_assignment, value = line.strip().removeprefix("export ").partition("=")
        if is_assignment and name.strip() == KEY:
            words = value.split("#")[0].strip().strip("'\"")
            return words or None
    return None


class Tracking:
    """The trackers of one training, each given up when it fails."""

    def __init__(self, names: Sequence[str], say: Callable[[str], None]) -> None:
        self._trackers = [TRACKERS[name]() for name in dict.fromkeys(names)]
        self._say = say
        self._begun = False

    def begin(self, found: "Run") -> None:
        """Tell the run, and the epochs that it has already."""
        if self._begun:
            return
        self._begun = True
        self._each(lambda tracker: tracker.begin(found))
        for line in found.history:
            self.epoch(line)

    def epoch(self, line: Mapping[str, Any]) -> None:
        """Tell a line of metrics.jsonl."""
        figures = {name: value for name, value in _figures(line) if name != "epoch"}
        self._each(lambda tracker: tracker.epoch(line["epoch"], figures))

    def end(self, found: "Run", place: "Workplace") -> None:
        """Tell the confusion matrices, of validation and, where it was scored, of test, and the outcome."""
        from genrecls import evaluation, metrics
        from genrecls.scores import scores

        record = found.record
        if record["best_epoch"] is not None and self._trackers:
            try:
                made = evaluation.score(found, place, "valid")
                self._confusion("valid", made.genres, metrics.confusion(made.by_clip, made.genre, len(made.genres)))
                if (scored := scores(found)) is not None:
                    self._confusion("test", scored["genres"], scored["confusion"])
            except GenreclsError as error:
                self._say(f"The trackers get no confusion matrix. {error}")
        self._each(lambda tracker: tracker.end(record))
        self._trackers.clear()

    def abandon(self) -> None:
        """Tell that there will be no end; does nothing after it."""
        if self._begun:
            self._each(lambda tracker: tracker.abandon())

    def _confusion(self, subset: str, genres: Sequence[str], counts: Counts) -> None:
        from genrecls import pictures

        try:
            picture = pictures.pixels(pictures.confusion_matrix(genres, counts, f"Clips of {subset}"))
        except GenreclsError:  # no matplotlib: the numbers are told all the same
            picture = None
        self._each(lambda tracker: tracker.confusion(subset, genres, counts, picture))

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                tell(tracker)
            # Clients raise errors of a dozen classes without a common one, none of which may cost a training.
            except Exception as error:  # noqa: BLE001
                self._trackers.remove(tracker)
                reason = str(error).strip().rstrip(".") or type(error).__name__
                self._say(
                    f"{tracker.name} failed ({' '.join(reason.split())}) and is told nothing more: metrics.jsonl has "
                    "all figures, and the same command tells them again."
                )


def _figures(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{before}{name}/")
        else:
            yield f"{before}{name}", value


def train(
    config: "Config", place: "Workplace", runs: Path, seen: "EpochSeen", known: "RunSeen", trackers: Sequence[str] = ()
) -> "Outcome":
    """`training.train`, shown by these trackers; of several processes the first alone tells them.

    Raises GenreclsError as it does, and where a tracker is not installed.
    """
    from genrecls import training

    tracking = Tracking(trackers if launch().rank == 0 else (), place.say)

    def both(line: dict[str, Any], epochs: int) -> None:
        seen(line, epochs)
        tracking.epoch(line)

    try:
        outcome = training.train(config, place, runs, both, known, tracking.begin)
        if trackers and launch().rank == 0:
            tracking.begin(outcome.run)  # which was found, or has no epochs
            tracking.end(outcome.run, place)
    finally:
        tracking.abandon()
    return outcome
