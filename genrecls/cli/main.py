"""The command `genrecls`: finds a subcommand without importing the others, and turns failures into sentences."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from genrecls import __version__
from genrecls.cli.shell import Shell, sentence
from genrecls.distributed import launch, telling
from genrecls.errors import ConfigError, GenreclsError

COMMANDS = {
    "download": "Bring a corpus to this machine and check it.",
    "preprocess": "Turn a corpus into memory-mapped features.",
    "audit": "Find what is wrong with a corpus: faults, copies, leaks.",
    "augment": "Hear and see what augmentation makes of an audio file.",
    "train": "Train a model, or find the run that did.",
    "sweep": "Search a space of settings for the best run by validation.",
    "evaluate": "Score a run on the test subset of its split.",
    "predict": "Name the genre of audio files.",
    "export": "Write a run as an ONNX file.",
    "reproduce": "Train a run again from its record, and compare every bit.",
    "verify": "Check that runs are what training and evaluation wrote.",
    "runs": "List runs and their scores, the best of them, or the table of results.",
    "compare": "Say what two runs, or two groups of runs, share, and whether one is better by more than chance.",
    "report": "Write what runs came to as one HTML file.",
    "cache": "List caches and who needs them, and remove those that nobody needs.",
    "models": "List the models, or show and draw the layers of one.",
}

SPINS = 10_000
"""With two threads on two cores, training was as fast as with the default when alone, and 2.5 to 3.5 times as fast
beside other work; 1,000 and none cost a fifth to a half when alone."""


class LazyGroup(click.Group):
    """Subcommands are imported when one is used: `genrecls --help` needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name != "train" and launch().size > 1:
            raise ConfigError(f"torchrun is for `genrecls train` alone: start `genrecls {cmd_name}` without it.")
        command: click.Command = import_module(f"genrecls.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C leaves as Abort, because Click would print an empty line of its own."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="genrecls")
def group() -> None:
    """Honest, repeatable, fast experiments in music genre classification.

    \b
    Example, from nothing to a score:
      genrecls download
      genrecls preprocess
      genrecls train --seed 42 --se-ratio 16
      genrecls evaluate RUN
    """


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit status: 0, 1 for a failure, 2 for wrong usage.

    SIGTERM, which batch systems send before they kill, leaves as Ctrl-C does, unless whoever started it ignores it.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    spin_briefly()
    sys.exit(status(argv))


def spin_briefly() -> None:
    """Have threads that wait for each other sleep soon (GNU OpenMP, which PyTorch brings), unless the user chose.

    By default they spin for milliseconds, which takes the core from whom they wait for where other work goes on. To be
    called before PyTorch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def status(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    shell = Shell()
    try:
        shell.mute = launch().rank > 0
        with shell.listening():
            outcome = group.main(argv, prog_name="genrecls", standalone_mode=False, obj=shell)
        click.echo(nl=False)  # Flushes: a full disk behind stdout is to show here.
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        with telling() as first:
            if first:
                error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail(shell, "Interrupted: what was finished is kept, so run the same command again.", 1)
    except ConfigError as error:
        return _fail(shell, str(error), 2)
    except GenreclsError as error:
        return _fail(shell, str(error), 1)
    except BrokenPipeError:
        _drop_output()  # Its reader has left.
        return 1
    except RuntimeError as error:
        from genrecls.seeding import unrepeatable

        cause = unrepeatable(str(error))
        if cause is None:
            raise
        return _fail(shell, f"{cause[0].upper()}{cause[1:]}: mend that, or accept it with --deterministic warn.", 1)
    except MemoryError:
        return _fail(shell, "There is not enough memory: end other programs, or give fewer --jobs.", 1)
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        return _fail(shell, _sentence(error), 1)


def _drop_output() -> None:
    """Send what stdout still holds nowhere: Python would complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(shell: Shell, message: str, code: int) -> int:
    shell.close()
    with telling() as first:
        if shell.debug:
            traceback.print_exc()
        if first:
            click.echo(sentence(f"Error: {message}"), err=True)
    return code


def _sentence(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC and error.filename and _no_inodes(Path(error.filename)):
        return f"{error.strerror}{place}, for a file of any size: remove files and run the same command again."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error.strerror}{place}: make room and run the same command again; what was finished is kept."
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"{error.strerror}{place}: move away what is in the way, or choose another place."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}{place}: change its permissions, or choose another place."
    return f"{error.strerror or error}{place}: mend it and run the same command again."


def _no_inodes(path: Path) -> bool:
    """Whether the file system of `path` has no room for another file's name, which `df` without `-i` does not show."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_files > 0 and found.f_favail == 0
