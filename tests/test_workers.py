"""Work shared by processes: each item is done once, by whichever process, and a process that dies is noticed."""

import multiprocessing
import os
import signal
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from genrecls.workers import in_processes


def squared(number: int) -> int:
    time.sleep(0.01)
    return number * number


def unless_here(process: int) -> int:
    """The process that asks, which a worker does not survive."""
    if os.getpid() != process:
        os.kill(os.getpid(), signal.SIGKILL)
    return process


def failing(number: int) -> int:
    raise ValueError(number)


@pytest.mark.parametrize("count", [1, 2, 60])
def test_each_item_is_done_once(count: int) -> None:
    assert sorted(in_processes(squared, range(count), 2, preload=[])) == [i * i for i in range(count)]


def test_a_worker_that_dies_is_noticed_though_this_process_can_go_on() -> None:
    with pytest.raises(BrokenProcessPool):
        list(in_processes(unless_here, [os.getpid()] * 4, 2, preload=[]))


def test_a_failure_is_raised() -> None:
    with pytest.raises(ValueError, match=r"[0-3]"):
        list(in_processes(failing, range(4), 2, preload=[]))


def test_who_stops_listening_leaves_no_process() -> None:
    made = in_processes(squared, range(1000), 2, preload=[])
    next(made)
    made.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
