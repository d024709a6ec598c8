"""Leaving in order: the first Ctrl-C or SIGTERM is noticed, and acted on where nothing is half done."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what batch systems send before they kill."""


class Interruption:
    """asked: whether a signal came. A second one raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.asked = False
        self._at_once = False

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Take the signals in the block, those that whoever started the process does not ignore. In the main thread."""
        taken = {each: signal.getsignal(each) for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN}
        for each in taken:
            signal.signal(each, self._notice)
        try:
            yield
        finally:
            for each, handler in taken.items():
                signal.signal(each, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise KeyboardInterrupt as soon as a signal comes in the block, which may be left anywhere."""
        self._at_once = True
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._at_once = False

    def _notice(self, _: int, __: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or self._at_once:
            raise KeyboardInterrupt
