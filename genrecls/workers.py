"""Work in several processes, which leave Ctrl-C and SIGTERM to their parent and do not outlive it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import connection, context, resource_tracker
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)


def in_processes(function: Callable[[T], R], items: Sequence[T], processes: int, preload: list[str]) -> Iterator[R]:
    """`function` of each item, in the order in which they are done.

    function: of a module's top level. preload: modules that the fork server imports once for all workers.
    Raises what `function` raises, and BrokenProcessPool where a worker dies.
    """
    # A fork server has no threads, which a fork of this process might have.
    forks = _Context()
    forks.set_forkserver_preload(preload)
    pool = ProcessPoolExecutor(min(processes, len(items)), mp_context=forks, initializer=_start_worker)
    try:
        with _signals_held():
            futures = [pool.submit(function, item) for item in items]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Worker(context.ForkServerProcess):
    """A worker, which a pool that is broken ends by SIGTERM: that one is blocked in it."""

    def terminate(self) -> None:
        self.kill()


class _Context(context.ForkServerContext):
    Process = _Worker


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the end of the block, which starts worker processes.

    Terminals and batch systems send them to all processes of a command. A fork server that is importing and a worker
    that is half started would answer with tracebacks, and a worker that dies of one would hide from its parent why;
    those started in here inherit that they are blocked, and leave them to this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Signals are the main thread's.
        return
    held: list[int] = []

    def hold(number: int, _: object) -> None:
        held.append(number)

    resource_tracker.ensure_running()  # It unblocks the signals when it starts.
    before = {number: signal.signal(number, hold) for number in _LEFT_TO_PARENT}
    signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _LEFT_TO_PARENT)
        for number, handler in before.items():
            signal.signal(number, handler)
    for each in held:
        signal.raise_signal(each)


def _start_worker() -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
