"""Work in several processes, which leave Ctrl-C to their parent and do not outlive it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_processes(function: Callable[[T], R], items: Sequence[T], processes: int, preload: list[str]) -> Iterator[R]:
    """`function` of each item, in the order in which they are done.

    function: of a module's top level. preload: modules that the fork server imports once for all workers.
    Raises what `function` raises, and BrokenProcessPool where a worker dies.
    """
    # A fork server has no threads, which a fork of this process might have.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    pool = ProcessPoolExecutor(min(processes, len(items)), mp_context=context, initializer=_start_worker)
    try:
        with _interrupts_held():
            futures = [pool.submit(function, item) for item in items]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the end of the block, which starts worker processes.

    It goes to all processes of a terminal. A fork server that is importing and a worker that is half started
    would answer with tracebacks; those started in here inherit that it is blocked, and leave it to this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C is the main thread's.
        return
    held: list[int] = []
    resource_tracker.ensure_running()  # It unblocks the signal when it starts.
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def _start_worker() -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
