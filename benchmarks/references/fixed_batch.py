"""A training step of genrecls without anything around it: the same batch, again and again.

Usage: python fixed_batch.py JSON, see `main`; prints {"amount": fragments, "seconds": s}.
"""

import json
import sys
import time

import torch

from architecture import GENRES, built
from genrecls.allocator import keep_freed_memory
from genrecls.config import read
from genrecls.inference import placed
from genrecls.models.dropout import begin_step
from genrecls.models.registry import settings_class
from genrecls.optimisation import optimiser, update
from genrecls.seeding import make_deterministic

FRAMES, BINS = 129, 128


def main(model: dict[str, object], batch_size: int, threads: int, precision: str, steps: int) -> dict[str, float]:
    """model: its settings. Two steps more are done first."""
    make_deterministic("error", threads)
    keep_freed_memory()
    settings = read({"model": model}, settings_class).optimiser
    network = placed(built(model, torch.empty(1, BINS, FRAMES)), torch.device("cpu")).train()
    moved = optimiser(network, settings)
    features = torch.rand(batch_size, 1, BINS, FRAMES).contiguous(memory_format=torch.channels_last)
    genres = torch.arange(batch_size) % GENRES
    for step in range(2 + steps):
        if step == 2:
            began = time.perf_counter()
        begin_step(network, seed=0, step=step)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = network(features).float()
        update(moved, settings, torch.nn.functional.cross_entropy(logits, genres), 1e-3)
    return {"amount": steps * batch_size, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
