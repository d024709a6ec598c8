"""A training step of a model at its defaults, with kernels of either kind: the same batch, again and again, in fp32.

Usage: python training_step.py JSON, see `main`; prints {"amount": steps, "seconds": s}.
"""

import json
import sys
import time

from genrecls import kernels


def main(model: str, kind: str, threads: int, seconds: float) -> dict[str, float]:
    """kind: of kernels. seconds: how long steps are made, two at least; one more is done first."""
    kernels.enter(kind)
    import torch

    from genrecls.allocator import keep_freed_memory
    from genrecls.config import read
    from genrecls.inference import placed
    from genrecls.models.building import build
    from genrecls.models.dropout import begin_step
    from genrecls.models.initialisation import initialise
    from genrecls.models.registry import settings_class
    from genrecls.models.shapes import InputShape
    from genrecls.optimisation import optimiser, update
    from genrecls.seeding import make_deterministic

    make_deterministic("error", threads)
    keep_freed_memory()
    settings = read({"model": {"name": model}}, settings_class)
    shape = InputShape.of(settings, 10)
    network = build(settings.model, shape)
    initialise(network, 0)
    network = placed(network, torch.device("cpu")).train()
    moved = optimiser(network, settings.optimiser)
    size = settings.batches.batch_size
    shapes = {"wave": (size, 1, shape.samples), "feature": (size, 1, shape.bins, shape.frames)}
    seen = [torch.rand(shapes[kind]) for kind in settings.model.inputs]
    seen = [each.contiguous(memory_format=torch.channels_last) if each.dim() == 4 else each for each in seen]
    genres = torch.arange(size) % shape.genres
    step, began = 0, time.perf_counter()
    while step < 3 or time.perf_counter() - began < seconds:
        begin_step(network, seed=0, step=step)
        update(moved, settings.optimiser, torch.nn.functional.cross_entropy(network(*seen), genres), 1e-3)
        step += 1
        if step == 1:
            began = time.perf_counter()
    return {"amount": step - 1, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
