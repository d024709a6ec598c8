"""Work shared by processes: each item is done once, by whichever process, and a process that dies is noticed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

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


def later_the_first(number: int) -> int:
    time.sleep(0 if number else 0.5)
    return number


@pytest.mark.parametrize("count", [1, 2, 60])
def test_each_item_is_done_once(count: int) -> None:
    assert sorted(in_processes(squared, range(count), 2, preload=[])) == [i * i for i in range(count)]


def test_the_order_of_items_or_that_of_their_ends() -> None:
    assert list(in_processes(later_the_first, range(20), 2, preload=[], in_order=True)) == list(range(20))
    assert list(in_processes(later_the_first, range(20), 2, preload=[])) != list(range(20))


def number_of(folder: Path) -> int:
    """How many have begun."""
    (folder / str(uuid.uuid4())).touch()
    time.sleep(0.01)
    return len(list(folder.iterdir()))


@pytest.mark.slow
def test_no_more_is_done_ahead_than_can_lie_in_memory(tmp_path: Path) -> None:
    """Whoever takes results slowly does not make them pile up."""
    made = in_processes(number_of, [tmp_path] * 100, 2, preload=[], in_order=True)
    next(made)
    time.sleep(1)
    assert len(list(tmp_path.iterdir())) <= 10
    assert len(list(made)) == 99


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


EARLY = """
import os, signal, sys
from multiprocessing import forkserver
from genrecls.workers import in_processes, start_early

def begun():
    return forkserver._forkserver._forkserver_pid

start_early(1, ["wave"])
start_early(2, ["json"])
assert begun() is None, "one process, or a module that is there already"
start_early(2, ["wave"])
early = begun()
assert early is not None
assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {signal.SIGINT, signal.SIGTERM}
assert sorted(in_processes(abs, range(-9, 0), 2, ["wave"])) == list(range(1, 10))
assert begun() == early
assert not {"torch", "wave"} & sys.modules.keys()
"""


def test_the_fork_server_starts_early_where_this_process_has_yet_to_import() -> None:
    done = subprocess.run([sys.executable, "-c", f"import json\n{EARLY}"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
