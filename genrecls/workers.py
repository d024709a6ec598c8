"""Work in several processes, which leave Ctrl-C and SIGTERM to their parent and do not outlive it."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import connection, context, resource_tracker
from typing import TypeVar

from genrecls.errors import GenreclsError

T = TypeVar("T")
R = TypeVar("R")
FEW = 64
"""Up to this many clips are done in this process: workers would take longer to start."""
_LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)


def by_blocks(
    function: Callable[[T], R], blocks: Sequence[T], clips: int, jobs: int, preload: list[str], command: str
) -> Generator[R, None, None]:
    """`function` of each block of clips, in the order in which they are done, in processes where that is worth it.

    clips: in all blocks together. jobs: processes, 0 for one each core. function, preload: as for `in_processes`.
    Raises what `function` raises, and GenreclsError that names `command` where a worker dies.
    """
    jobs = jobs or len(os.sched_getaffinity(0))
    if jobs == 1 or clips <= FEW:
        yield from map(function, blocks)
        return
    try:
        yield from in_processes(function, blocks, jobs, preload)
    except BrokenProcessPool as error:
        raise GenreclsError(
            f"A worker process of {command} died (out of memory, or a decoder crashed): run the same command again, "
            "with --jobs 1 if it happens twice."
        ) from error


def in_processes(function: Callable[[T], R], items: Sequence[T], processes: int, preload: list[str]) -> Iterator[R]:
    """`function` of each item, in the order in which they are done.

    This process takes part, from the last item on, until the others have been started, which takes them a second or
    two where they import torch.
    function: of a module's top level. preload: modules that the fork server imports once for all workers.
    Raises what `function` raises, and BrokenProcessPool where a worker, or what starts them, dies.
    """
    # A fork server has no threads, which a fork of this process might have.
    forks = _Context()
    forks.set_forkserver_preload(preload)
    pool = ProcessPoolExecutor(min(processes, len(items)), mp_context=forks, initializer=_start_worker)
    starter = ThreadPoolExecutor(1)
    waiting = deque(items[1:])
    try:
        resource_tracker.ensure_running()  # It unblocks the signals in the thread that starts it.
        starting = starter.submit(_hand_over, pool, function, items[0], waiting)
        while not starting.done():
            try:
                item = waiting.pop()
            except IndexError:
                break
            yield function(item)
        for future in as_completed(starting.result()):
            yield future.result()
    finally:
        waiting.clear()
        starter.shutdown(wait=True)
        pool.shutdown(wait=True, cancel_futures=True)


def _hand_over(pool: ProcessPoolExecutor, function: Callable[[T], R], first: T, waiting: deque[T]) -> "list[Future[R]]":
    """Give the pool the first item, with which it starts, and then all that are still waiting.

    Terminals and batch systems send Ctrl-C and SIGTERM to all processes of a command. A fork server that is importing
    and a worker that is half started would answer with tracebacks, and a worker that dies of one would hide from its
    parent why; those started in this thread inherit that they are blocked, and leave them to the parent.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_PARENT)
    try:
        futures = [pool.submit(function, first)]
    except (EOFError, ConnectionError) as error:
        raise BrokenProcessPool("the fork server died") from error
    with suppress(IndexError):  # It is the other thread, too, that empties it.
        while True:
            futures.append(pool.submit(function, waiting.popleft()))
    return futures


class _Worker(context.ForkServerProcess):
    """A worker, which a pool that is broken ends by SIGTERM: that one is blocked in it."""

    def terminate(self) -> None:
        self.kill()


class _Context(context.ForkServerContext):
    Process = _Worker


def _start_worker() -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
