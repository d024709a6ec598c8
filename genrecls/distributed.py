"""Several processes that train one model together, as torchrun starts them: which one this is, and what all are told.

They talk in two ways. By words, at any time and waited for as long as it takes, through the store whose address
torchrun gives them. And, in `Ranks.joined`, by collective operations on tensors: gloo for those on the CPU, NCCL for
those on a GPU. One process alone says nothing, and imports nothing for it.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from genrecls.errors import ConfigError, GenreclsError

if TYPE_CHECKING:
    import torch

_TIMEOUT = timedelta(minutes=30)
"""Of a collective operation, before which nobody works alone for longer than seconds, and of finding one another."""
_POLL = 0.05
"""Seconds between two looks at the store."""
_FAREWELL = 10.0
"""Seconds a process that fails gives the one whose failure is told."""


class PeerLost(GenreclsError):
    """Another process of this training has ended, and this one cannot go on."""


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together.

    rank: from 0. size: processes in all. local_rank, local_size: the same of those on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def launch() -> Launch:
    """What torchrun's environment variables say, or one process alone. Raises ConfigError where they say nonsense."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    given = {name: os.environ.get(name, os.environ[names[i % 2]]) for i, name in enumerate(names)}
    complete = given["WORLD_SIZE"] == "1" or {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()
    if not complete or not all(value.isdecimal() for value in given.values()):
        raise ConfigError(_unusable())
    rank, size, local_rank, local_size = map(int, given.values())
    if rank >= size or local_rank >= local_size or local_size > size:
        raise ConfigError(_unusable())
    return Launch(rank, size, local_rank, local_size)


def _unusable() -> str:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    shown = ", ".join(f"{name}={os.environ[name]}" if name in os.environ else f"no {name}" for name in names)
    return (
        f"The environment says that several processes train together, and not how ({shown}): start them with torchrun, "
        "or unset RANK and WORLD_SIZE."
    )


@cache
def _store() -> Any:
    """The store of this launch, the same for all its processes."""
    import torch.distributed

    here = launch()
    try:
        store, _, _ = next(torch.distributed.rendezvous("env://", here.rank, here.size, timeout=_TIMEOUT))
    except (RuntimeError, ValueError) as error:
        raise GenreclsError(
            f"The processes that train together did not find one another at {os.environ['MASTER_ADDR']}:"
            f"{os.environ['MASTER_PORT']}: check that this port of the first machine is free and can be reached."
        ) from error
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return torch.distributed.PrefixStore(f"genrecls/{attempt}", store)


@contextmanager
def telling() -> Iterator[bool]:
    """Yield whether this process is to tell the user why it fails: of all that were started together, the first is.

    Where it is not, the block is entered when the first has left its own, so that nobody's end keeps it from that.
    """
    store, first = None, True
    # Where the store cannot be reached, nobody knows whether another has told: twice is better than never.
    with suppress(GenreclsError, RuntimeError):
        if launch().size > 1:
            store = _store()
            first = store.add("failures", 1) == 1
            end = time.monotonic() + _FAREWELL
            while not first and not store.check(["told"]) and time.monotonic() < end:
                time.sleep(_POLL)
    yield first
    with suppress(RuntimeError):
        if store is not None and first:
            store.set("told", b"")


class Ranks:
    """All processes of a training, seen from one of them.

    Every process calls the same methods in the same order. first: whether this one speaks for all: it alone writes and
    prints. Methods that wait for others raise PeerLost where one of them has ended.
    """

    def __init__(self, here: Launch) -> None:
        self.rank, self.size = here.rank, here.size
        self.first = here.rank == 0
        self._here = here
        self._words = 0
        self._joined = False
        self._device: torch.device | None = None

    def part(self, count: int) -> slice:
        """This process's share of `count` things, which must be a multiple of the processes."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def told(self, value: Any = None) -> Any:
        """The first process's `value`, something JSON can hold, in every process."""
        if self.size == 1:
            return value
        if self._joined:
            return json.loads(self._broadcast(json.dumps(value)))
        self._words += 1
        key = f"word/{self._words}"
        with self.watching():
            if self.first:
                _store().set(key, json.dumps(value))
                return value
            self._until(lambda: _store().check([key]))
            return json.loads(_store().get(key))

    def _broadcast(self, text: str) -> str:
        import torch.distributed

        # Unlike a look at the store, it fails where another process has ended without a word.
        content = torch.frombuffer(bytearray(text.encode("ascii")), dtype=torch.uint8)
        length = torch.tensor([len(content)])
        torch.distributed.broadcast(length, 0)
        content = content if self.first else content.new_empty((int(length),))
        torch.distributed.broadcast(content, 0)
        return content.numpy().tobytes().decode("ascii")

    def _until(self, true: Callable[[], bool]) -> None:
        """Wait until it is true. By looking again and again: what the store itself offers would not notice the end."""
        while not true():
            if _store().check(["failures"]):
                raise PeerLost(_lost(self.size))
            time.sleep(_POLL)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process goes through the block alone, all others after it: they find there what it made."""
        if not self.first:
            self.told()
        yield
        if self.first:
            self.told()

    def agree(self, value: str) -> None:
        """Raise GenreclsError where the first process has another value: an id of settings, corpus and machine."""
        theirs = self.told(value)
        if value != theirs:
            raise GenreclsError(
                f"Process {self.rank} would train another run ({value}) than process 0 ({theirs}): start all with the "
                "same command and version, on machines of one kind that see the same corpus."
            )

    def place(self, device: "torch.device") -> None:
        """Use `device`, of which each process takes one of its own if it is a GPU.

        Raises ConfigError where processes would have to share a GPU, which NCCL cannot.
        """
        self._device = device
        if self.size == 1 or device.type != "cuda":
            return
        import torch

        gpus = torch.cuda.device_count()
        if self._here.local_size > gpus:
            raise ConfigError(
                f"torchrun started {self._here.local_size} processes on a machine with {gpus} usable GPUs, and each "
                f"needs one: give --nproc-per-node {gpus}, or --device cpu."
            )
        torch.cuda.set_device(self._here.local_rank)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Collective operations are possible in the block, on tensors of the CPU and of the device of `place`."""
        if self.size == 1:
            yield
            return
        import torch.distributed

        on_gpu = self._device is not None and self._device.type == "cuda"
        with self.watching():
            # First that all are there, for whoever finds one another in what follows waits for the dead.
            _store().add("joining", 1)
            self._until(lambda: _store().add("joining", 0) == self.size)
            torch.distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
                store=_store(),
                rank=self.rank,
                world_size=self.size,
                timeout=_TIMEOUT,
            )
            self._joined = True
            try:
                yield
            finally:
                self._joined = False
            torch.distributed.destroy_process_group()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Raise PeerLost where an operation of the block fails because of another process."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _of_peers(error):
                raise
            raise PeerLost(_lost(self.size)) from error

    def gathered(self, own: "torch.Tensor") -> "torch.Tensor":
        """The tensors of all processes, which have one shape: (processes, *shape), in the order of ranks."""
        if self.size == 1:
            return own[None]
        import torch.distributed

        # In one dimension, because what gloo makes of a scalar differs.
        every = own.new_empty((self.size * own.numel(),))
        torch.distributed.all_gather_into_tensor(every, own.contiguous().reshape(-1))
        return every.reshape(self.size, *own.shape)

    def collected(self, own: "list[torch.Tensor]", count: int) -> "list[torch.Tensor]":
        """All of `count` tensors that were dealt out in turn, number i to process i modulo the processes.

        own: this process's, float32 of one shape (n, m) in all processes.
        """
        if self.size == 1:
            return own
        import torch

        shape = self.gathered(torch.tensor(own[0].shape if own else (0, 0))).amax(dim=0).tolist()
        most = -(-count // self.size)
        blank = torch.zeros(shape, device=self._device)
        every = self.gathered(torch.stack(own + [blank] * (most - len(own))))
        return [every[i % self.size, i // self.size] for i in range(count)]

    def mean(self, own: "torch.Tensor") -> "torch.Tensor":
        """The mean of the processes' tensors, summed in the order of ranks."""
        return own if self.size == 1 else _mean(self.gathered(own))

    def any(self, own: bool) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return own
        import torch

        return bool(self.gathered(torch.tensor([own], dtype=torch.uint8)).any())

    def wrapped(self, model: "torch.nn.Module") -> "torch.nn.Module":
        """The model for the forward pass of training: its backward pass gives every process the mean gradient.

        Each process normalises its share of a batch by that share's own figures (BatchNorm), and keeps running
        averages of its own until `same_buffers`.
        """
        if self.size == 1:
            return model
        import torch

        wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
        # A lambda, whose parameters have no types: those would have to be torch's very own.
        wrapped.register_comm_hook(None, lambda _, bucket: _mean_gradient(bucket))
        return wrapped

    def same_buffers(self, model: "torch.nn.Module") -> None:
        """Give every process the first one's buffers, such as BatchNorm's running averages."""
        if self.size > 1:
            import torch.distributed

            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, 0)


ALONE = Ranks(Launch())
"""One process."""


def _mean(every: "torch.Tensor") -> "torch.Tensor":
    total = every[0].clone()
    for each in every[1:]:
        total += each
    return total / len(every)


def _mean_gradient(bucket: Any) -> Any:
    """A hook of DistributedDataParallel that sums a bucket's gradients in the order of ranks.

    The sum of an all-reduce depends on a value's place in its bucket. DistributedDataParallel fills its buckets anew
    after its first step, and so a training that was resumed would have other bits than one that was not.
    """
    import torch.distributed

    own = bucket.buffer()
    every = own.new_empty((torch.distributed.get_world_size() * own.numel(),))
    work = torch.distributed.all_gather_into_tensor(every, own, async_op=True)
    assert work is not None
    return work.get_future().then(lambda _: _mean(every.reshape(-1, own.numel())))


def _of_peers(error: RuntimeError) -> bool:
    """Whether an error is of talking to other processes, for which gloo has no class of its own."""
    import torch.distributed

    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error).lower()


def _lost(size: int) -> str:
    return (
        f"Another of the {size} processes that train together has ended or cannot be reached: look for its own last "
        "lines, or into the system's log, and start all of them again by the same command."
    )
