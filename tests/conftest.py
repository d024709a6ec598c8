"""What tests share: a command line run in processes forked from one that has torch, and a small corpus."""

import ctypes
import itertools
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import context, forkserver, popen_forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from genrecls import kernels
from genrecls.cli.main import COMMANDS, spin_briefly
from genrecls.digests import file_sha256
from genrecls.seal import sealed
from genrecls.seeding import name_key, uniform

# No test may see the working folders of whoever runs it.
for name in ("GENRECLS_RES", "GENRECLS_RUNS"):
    os.environ.pop(name, None)

spin_briefly()
kernels.enter(kernels.PORTABLE)
# PyTorch imports its compiler, which takes a second, when deterministic algorithms are first switched on.
PRELOADED = [
    *("genrecls.training", "genrecls.evaluation", "genrecls.predict", "genrecls.audition", "torch._inductor"),
    *("sklearn.metrics", "scipy.special"),
    *("genrecls.report.page", "matplotlib.figure"),
    *("genrecls.sweep", "optuna.storages", "optuna.importance"),
    *(f"genrecls.cli.{name}" for name in COMMANDS),
    *("conftest", "warm"),
]


class _Server(forkserver.ForkServer):
    """A fork server with kernels of this kind, which is started when it is first needed."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self.set_forkserver_preload(PRELOADED)

    def ensure_running(self) -> None:
        before = dict(os.environ)
        # Python up to 3.13 does not tell a fork server where else modules are: it would leave out what is beside this.
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(Path(__file__).parent), *filter(None, [before.get("PYTHONPATH")])]
        )
        try:
            with kernels.for_children(self._kind):
                super().ensure_running()
        finally:
            os.environ.clear()
            os.environ.update(before)


class _Popen(popen_forkserver.Popen):
    server: _Server

    def _launch(self, process_obj: Any) -> None:
        # Not for good: the package's own pools take the usual server, in the processes that are forked from here, too.
        usual = forkserver.connect_to_new_process
        forkserver.connect_to_new_process = self.server.connect_to_new_process
        try:
            super()._launch(process_obj)  # type: ignore[misc]
        finally:
            forkserver.connect_to_new_process = usual


class _PortablePopen(_Popen):
    server = _Server(kernels.PORTABLE)


class _NativePopen(_Popen):
    server = _Server(kernels.NATIVE)


class PortableProcess(context.ForkServerProcess):
    """A process forked from one that has imported torch with portable kernels, and done nothing else."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return _PortablePopen(process_obj)


class NativeProcess(context.ForkServerProcess):
    """A process forked from one that has imported torch with native kernels."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802
        return _NativePopen(process_obj)


class _Forks(context.ForkServerContext):
    Process = PortableProcess


FORKS = _Forks()
"""What has processes and queues of the first kind."""


RATE = 22050
SHORT = (
    *("--n-mels", "32", "--fragment", "1", "--crops-per-clip", "1"),
    *("--batch-size", "8", "--epochs", "2", "--threads", "1"),
)
"""A feature and a schedule for a model that is named beside them."""
TINY = ("--model", "cel", "--nodes", "8-8", *SHORT)
"""A model and a schedule that train in a tenth of a second."""
TINY_SE_RESNET = ("--width", "4", "--se-ratio", "4", *SHORT)
"""The default model, whose eighteen layers take three times as long however narrow they are."""


def _signal_at(name: str, target: str, count: str, word: str = "") -> None:
    """Let the process send itself a signal when the function `target` (module.name) is called for the count-th time.

    word: only calls count that have an argument with it.
    """
    module, _, function = target.rpartition(".")
    calls = 0
    original = getattr(import_module(module), function)

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal calls
        counts = not word or any(word in str(each) for each in given)
        calls += counts
        if counts and calls == int(count):
            os.kill(os.getpid(), getattr(signal, name))
        return original(*given, **named)

    setattr(import_module(module), function, counted)


def _code_is_in(folder: Path) -> None:
    """Let the process take the package in `folder` for the code that it runs."""
    from genrecls import provenance, sourcecode

    usual = sourcecode._root
    sourcecode._root = lambda top: folder / top if top == "genrecls" else usual(top)  # type: ignore[assignment]
    provenance.package_code.cache_clear()
    provenance.model_code.cache_clear()


def _child(arguments: list[str], folder: str, changed: dict[str, str], output: str) -> None:
    """In the forked process: take the place that `python -m genrecls` would have."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    # A shell that runs the tests in the background leaves it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(changed)
    tempfile.tempdir = None  # The parent's, found out before TMPDIR may have changed.
    if "TEST_FILE_LIMIT" in changed:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(changed["TEST_FILE_LIMIT"]),) * 2)
    if "TEST_MORE_MEMORY" in changed:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + int(changed["TEST_MORE_MEMORY"]),) * 2)
    if "TEST_WATCHED" in changed:
        watch(changed["TEST_WATCHED"].split(os.pathsep), Path(output, "events"), changed.get("TEST_SIGNAL_AT"))
    for name in ("TEST_SIGNAL", "TEST_SIGNAL_ALSO"):
        if name in changed:
            _signal_at(*changed[name].split())
    if "TEST_CODE" in changed:
        _code_is_in(Path(changed["TEST_CODE"]))
    if "TEST_OWN_GROUP" in changed:
        os.setpgid(0, 0)
    if "TEST_NAMESPACE_OF" in changed:
        for kind in ("user", "mnt"):
            with open(f"/proc/{changed['TEST_NAMESPACE_OF']}/ns/{kind}") as handle:
                if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns")
    os.chdir(folder)
    sys.argv = ["genrecls", *arguments]
    from genrecls.cli.main import main

    main(arguments)


def watch(folders: list[str], log: Path, signal_at: str | None) -> None:
    """Log what this process does to files below these folders: a line before each is opened, renamed or removed.

    signal_at: "N S" sends this process the signal S before its Nth line's deed: a moment that no clock decides.
    """
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    count, (last, number) = itertools.count(1), map(int, (signal_at or "0 0").split())

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            return
        name = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        below = (
            event in ("os.remove", "os.rmdir") and arguments[1] >= 0
        )  # `shutil.rmtree` names them from their folder.
        if below or name.startswith(tuple(folders)):
            os.write(written, f"{event} {name}\n".encode())
            if next(count) == last:
                os.kill(os.getpid(), number)

    sys.addaudithook(note)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def value(self) -> Any:
        """The JSON on stdout."""
        assert self.status in (0, 1), self.stderr
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Command:
    """A command under way."""

    process: BaseProcess
    output: Path

    def wait(self, seconds: float = 900) -> Result:
        """Its end."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise TimeoutError(f"still running after {seconds} s")
        status = self.process.exitcode
        assert status is not None
        return Result(status, (self.output / "stdout").read_text("utf-8"), (self.output / "stderr").read_text("utf-8"))


class CommandLine:
    """`genrecls` in a process of its own, which starts in milliseconds: it is forked where torch is imported."""

    def __init__(self, folder: Path, kind: Callable[..., BaseProcess] = PortableProcess) -> None:
        self._folder, self._kind = folder, kind
        self._count = 0

    def start(self, *arguments: object, cwd: Path | None = None, **environment: str) -> Command:
        """Start a command. environment: variables it sees besides those of the tests, and limits of `_child`."""
        self._count += 1
        output = self._folder / f"command-{self._count}"
        output.mkdir()
        words = [str(word) for word in arguments]
        process = self._kind(target=_child, args=(words, str(cwd or self._folder), environment, str(output)))
        process.start()
        return Command(process, output)

    def __call__(self, *arguments: object, cwd: Path | None = None, **environment: str) -> Result:
        """Run a command to its end."""
        return self.start(*arguments, cwd=cwd, **environment).wait()

    def json(self, *arguments: object, cwd: Path | None = None, **environment: str) -> Any:
        """Run a command that must succeed, and read its JSON."""
        result = self(*arguments, "--json", cwd=cwd, **environment)
        assert result.status == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line, where torch has portable kernels."""
    return CommandLine(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="session")
def native_cli(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The command line, where torch has native kernels: for commands with `--kernels native` and on runs of such."""
    return CommandLine(tmp_path_factory.mktemp("native-cli"), NativeProcess)


def write_clip(path: Path, pitch: float, seconds: float = 1.6, rate: int = RATE) -> None:
    """A tone with a beat and some noise, different for every path name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    noise = uniform(0, path.name, 0, name_key(path.parent.name), np.arange(len(time))) - 0.5
    tone = np.sin(2 * np.pi * pitch * (1 + 0.01 * noise[0]) * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    soundfile.write(path, 0.5 * tone + 0.1 * noise, rate, subtype="PCM_16" if path.suffix == ".wav" else None)


PITCHES = {"high": 3000.0, "low": 150.0, "middle": 700.0}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three genres with 12 clips each, which anything learns."""
    root = tmp_path_factory.mktemp("corpus")
    for genre, pitch in PITCHES.items():
        for i in range(12):
            write_clip(root / genre / f"{genre}{i:02d}.wav", pitch)
    return root


@dataclass(frozen=True)
class Desk:
    """A res and a runs folder of a test's own, with the small corpus at hand."""

    cli: CommandLine
    corpus: Path
    res: Path
    runs: Path
    tiny: tuple[str, ...] = TINY

    def train(self, *arguments: object, tiny: bool = True) -> Any:
        """Train on the small corpus; the JSON of the command."""
        given = (*self.on_corpus, *(self.tiny if tiny else ()), *arguments)
        return self.cli.json("train", *given, *self.places)

    @property
    def on_corpus(self) -> tuple[object, ...]:
        """Flags for the small corpus."""
        return ("--dataset", "folder", "--data-dir", self.corpus)

    @property
    def places(self) -> tuple[object, ...]:
        """Flags for the two folders."""
        return ("--res", self.res, "--runs", self.runs)


@pytest.fixture(scope="session")
def shared_res(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches that tests may share, because a cache is never wrong for its key."""
    return tmp_path_factory.mktemp("res")


@pytest.fixture
def desk(cli: CommandLine, corpus: Path, shared_res: Path, tmp_path: Path) -> Desk:
    """Shared caches, runs of the test's own."""
    return Desk(cli, corpus, shared_res, tmp_path / "runs")


@pytest.fixture
def native_desk(native_cli: CommandLine, desk: Desk) -> Desk:
    """`desk`, where torch has native kernels."""
    return replace(desk, cli=native_cli)


@pytest.fixture(scope="session")
def trained(cli: CommandLine, corpus: Path, shared_res: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with one finished run; not to be written to."""
    desk = Desk(cli, corpus, shared_res, tmp_path_factory.mktemp("runs"))
    desk.train("--epochs", "4")
    return desk


def reseal(run: Path) -> None:
    """Seal a run anew as it is now, as somebody would who means to forge it: what else is checked comes to light."""
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    files = {name: file_sha256(run / name) for name in record["files"] if (run / name).exists()}
    (run / "run.json").write_text(json.dumps(sealed(record, files)), encoding="utf-8")


def unseal(run: Path) -> None:
    """Make a run one of the time before there was a seal."""
    _without(run, "seal", "files", "schema", "code")


def reopen(run: Path) -> None:
    """Make a finished run one that was left in training."""
    _without(run, "seal", "files", status="training")


def _without(run: Path, *names: str, **changed: object) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in record.items() if name not in names}
    (run / "run.json").write_text(json.dumps({**kept, **changed}), encoding="utf-8")


@pytest.fixture
def make_clip() -> Callable[..., None]:
    """`write_clip`."""
    return write_clip
