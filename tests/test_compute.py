"""What is asked of the machine."""

import platform
import sys
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest
from conftest import FORKS, PRELOADED

MIB = 2**20


def _resident() -> int:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 // MIB


def _free_some(kept: bool, answer: "SimpleQueue[int]") -> None:
    import torch

    from genrecls.allocator import keep_freed_memory

    if kept:
        keep_freed_memory()
    before = _resident()
    values = torch.ones(64 * MIB // 4)
    del values
    answer.put(_resident() - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
@pytest.mark.parametrize("kept", [True, False])
def test_freed_memory_is_kept_where_it_is_asked_for(kept: bool) -> None:
    answer: SimpleQueue[int] = FORKS.SimpleQueue()
    process = FORKS.Process(target=_free_some, args=(kept, answer))
    process.start()
    process.join()
    assert (answer.get() > 60) == kept


def _exit_by_what_is_missing() -> None:
    sys.exit(len(set(PRELOADED) - set(sys.modules)))


def test_a_fork_of_the_tests_has_all_that_is_preloaded() -> None:
    """A fork server leaves out without a word what it cannot import, and each command of the tests pays for it."""
    process = FORKS.Process(target=_exit_by_what_is_missing)
    process.start()
    process.join()
    assert process.exitcode == 0
