"""Work in several processes, which leave Ctrl-C and SIGTERM to their parent and do not outlive it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, context, forkserver, resource_tracker
from typing import TypeVar

from genrecls import kernels
from genrecls.allocator import keep_freed_memory
from genrecls.errors import GenreclsError

T = TypeVar("T")
R = TypeVar("R")
FEW = 64
"""Up to this many clips are done in this process: workers would take longer to start."""
_AHEAD = 4
"""Items of each process that are under way or wait for their turn: so much lies in memory, however many there are."""
_LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM)


def by_blocks(
    function: Callable[[T], R], blocks: Sequence[T], clips: int, jobs: int, preload: list[str], command: str
) -> Generator[R, None, None]:
    """`function` of each block of clips, in their order, in processes where that is worth it.

    clips: in all blocks together. jobs: processes, 0 for one each core. function, preload: as for `in_processes`.
    Raises what `function` raises, and GenreclsError that names `command` where a worker dies.
    """
    keep_freed_memory()
    jobs = jobs or len(os.sched_getaffinity(0))
    if jobs == 1 or clips <= FEW:
        yield from map(function, blocks)
        return
    try:
        yield from in_processes(function, blocks, jobs, preload, in_order=True)
    except BrokenProcessPool as error:
        raise GenreclsError(
            f"A worker process of {command} died (out of memory, or a decoder crashed): run the same command again, "
            "with --jobs 1 if it happens twice."
        ) from error


def in_processes(
    function: Callable[[T], R], items: Sequence[T], processes: int, preload: list[str], in_order: bool = False
) -> Iterator[R]:
    """`function` of each item, in the order in which they are done, or in their own.

    This process takes part until the others have been started, which takes them a second or two where they import
    torch.
    function: of a module's top level. preload: modules that the fork server imports once for all workers.
    Raises what `function` raises, and BrokenProcessPool where a worker, or what starts them, dies.
    """
    # A fork server has no threads, which a fork of this process might have.
    pool = ProcessPoolExecutor(min(processes, len(items)), mp_context=_Context(), initializer=_start_worker)
    starter = ThreadPoolExecutor(1)
    waiting, most = deque(items), _AHEAD * processes
    try:
        first = starter.submit(_hand_over, pool, function, waiting.popleft(), preload)
        own: list[Future[R]] = []
        while waiting and len(own) < most and not first.done():
            own.append(_done(function(waiting.popleft())))
        ahead = deque([first.result(), *own])
        del first, own
        while ahead:
            while waiting and len(ahead) < most:
                ahead.append(_submit(pool, function, waiting.popleft()))
            done = ahead[0] if in_order else next(iter(wait(ahead, return_when=FIRST_COMPLETED).done))
            ahead.remove(done)
            yield done.result()
            del done
    finally:
        starter.shutdown(wait=True)
        pool.shutdown(wait=True, cancel_futures=True)


def start_early(jobs: int, preload: list[str]) -> None:
    """Have the fork server import what workers will need, beside what this process imports itself.

    jobs: as for `by_blocks`. To be called by a process that has not imported these modules yet.
    """
    if (jobs or len(os.sched_getaffinity(0))) > 1 and not sys.modules.keys() >= set(preload):
        _start_fork_server(preload)


def in_process_with(kind: str, function: Callable[[T], R], item: T) -> R:
    """`function` of the item in a process of its own, with kernels of another kind than this one has.

    kind: "portable" or "native". function: of a module's top level.
    Raises what `function` raises, and GenreclsError where the process dies.
    """
    # Spawned: what is forked from this process, or from its fork server, may have PyTorch with this one's kernels.
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        with kernels.for_children(kind):
            return pool.submit(function, item).result()
    except BrokenProcessPool as error:
        raise GenreclsError(
            f"The process with {kind} kernels died (out of memory, or stopped by somebody): run the same command again."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_fork_server(preload: list[str]) -> None:
    """Terminals and batch systems send Ctrl-C and SIGTERM to all processes of a command. A fork server that is
    importing and a worker that is half started would answer with tracebacks, and a worker that dies of one would hide
    from its parent why; the server inherits that they are blocked, and its workers from it: the parent answers.
    """
    forkserver.set_forkserver_preload(preload)
    resource_tracker.ensure_running()  # It unblocks the signals in the thread that starts it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_PARENT)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hand_over(pool: ProcessPoolExecutor, function: Callable[[T], R], first: T, preload: list[str]) -> "Future[R]":
    """Give the pool the first item, with which it starts: that waits until the fork server has imported its modules."""
    _start_fork_server(preload)
    return _submit(pool, function, first)


def _submit(pool: ProcessPoolExecutor, function: Callable[[T], R], item: T) -> "Future[R]":
    try:
        return pool.submit(function, item)
    except (EOFError, ConnectionError) as error:
        raise BrokenProcessPool("the fork server died") from error


def _done(result: R) -> "Future[R]":
    future: Future[R] = Future()
    future.set_result(result)
    return future


class _Worker(context.ForkServerProcess):
    """A worker, which a pool that is broken ends by SIGTERM: that one is blocked in it."""

    def terminate(self) -> None:
        self.kill()


class _Context(context.ForkServerContext):
    Process = _Worker


def _start_worker() -> None:
    keep_freed_memory()
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
