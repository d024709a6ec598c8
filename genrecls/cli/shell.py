"""What a command has to talk with: results on stdout, progress and remarks on stderr."""

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

import click
from tqdm import tqdm

from genrecls import kernels

_CONTROL = dict.fromkeys(
    {*range(32), *range(127, 160), *range(0xD800, 0xE000)} - {ord("\n")}, "\N{REPLACEMENT CHARACTER}"
)
"""Control characters, and halves of characters, which a name that is not UTF-8 has and no terminal takes."""


def harmless(text: str) -> str:
    """Text without the characters by which a file's name could command a terminal."""
    return text.translate(_CONTROL)


def sentence(text: str) -> str:
    """As `harmless`, and on one line, whatever names are in it."""
    return harmless(text).replace("\n", "\N{REPLACEMENT CHARACTER}")


@dataclass
class Shell:
    """One invocation's manners. json: stdout is one JSON value. quiet: no progress. debug: tracebacks.

    mute: nothing is shown, because another process shows it.
    """

    mute: bool = False
    json: bool = False
    quiet: bool = False
    debug: bool = False
    _bar: "tqdm[Any] | None" = field(default=None, repr=False)
    _what: str = ""

    def progress(self, what: str, done: int, total: int, **figures: str) -> None:
        """Show how far `what` is (total 0: not known). No bar where stderr is no terminal, or with --quiet."""
        if self._bar is None or what != self._what:
            self.close()
            hidden = self.quiet or self.mute or not sys.stderr.isatty()
            # Only bytes are counted in millions.
            unit = {"unit": "B", "unit_scale": True} if total >= 10**6 else {}
            self._bar = tqdm(
                total=total or None, desc=what, file=sys.stderr, disable=hidden, dynamic_ncols=True, **unit
            )
            self._what = what
        self._bar.update(done - self._bar.n)
        if figures:
            self._bar.set_postfix(figures)
        if done == total:
            self.close()

    def epoch(self, line: dict[str, Any], epochs: int) -> None:
        """Show a line of metrics.jsonl as progress. epochs: in all."""
        loss, accuracy = line["train"]["cross_entropy"], line["valid"]["clip"]["accuracy"]
        self.progress("epochs", line["epoch"] + 1, epochs, loss=f"{loss:.3f}", valid_accuracy=f"{accuracy:.3f}")

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def use_kernels(self, asked: str) -> None:
        """Choose this process's kernels, before PyTorch is imported, and say where it is to have others than asked.

        asked: "portable" or "native". Raises ConfigError where the environment asks for something else.
        """
        if remark := kernels.enter(asked):
            self.say(remark)

    def say(self, line: str) -> None:
        """A remark on stderr, unless --quiet."""
        if not (self.quiet or self.mute):
            self.close()
            click.echo(sentence(line), err=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Show what `--deterministic warn` has to warn of as a line each, once; every other warning as it is."""
        usual = warnings.showwarning
        told: set[str] = set()

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            from genrecls.seeding import unrepeatable

            cause = unrepeatable(str(message))
            if cause is None:
                usual(message, category, filename, lineno, file, line)
            elif cause not in told and not self.mute:
                told.add(cause)
                self.close()
                click.echo(f"Warning: {cause}, so that a repetition may come out otherwise.", err=True)

        with warnings.catch_warnings():
            warnings.showwarning = show
            yield

    def result(self, value: dict[str, Any] | list[dict[str, Any]], text: str) -> None:
        """The command's result: `value` as one line of JSON with --json, else `text`."""
        self.close()
        if not self.mute:
            click.echo(json.dumps(value) if self.json else harmless(text))
