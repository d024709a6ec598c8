"""Loss, gradients and logits of models at their defaults, as a digest a line: `python tests/pretended.py MODEL…`.

Small models do not fill a cache, so that sizes of caches tell only here.
"""

import hashlib
import sys

from genrecls import kernels


def digest(name: str) -> str:
    """Of a step forward and back in training, and of a pass in inference."""
    import numpy as np
    import torch

    from genrecls import compute, config  # noqa: F401  `compute` makes PyTorch's sums portable.
    from genrecls.inference import placed
    from genrecls.models.building import build
    from genrecls.models.dropout import begin_step
    from genrecls.models.initialisation import initialise
    from genrecls.models.registry import settings_class
    from genrecls.models.shapes import InputShape
    from genrecls.seeding import uniform

    torch.set_num_threads(kernels.THREADS)
    settings = config.read({"model": {"name": name}}, settings_class)
    shape, batch = InputShape.of(settings, 10), 4
    model = build(settings.model, shape)
    initialise(model, 0)
    model = placed(model, torch.device("cpu")).train()
    begin_step(model, 0, 0)
    inputs = []
    for kind in settings.model.inputs:
        sizes = (shape.samples,) if kind == "wave" else (shape.bins, shape.frames)
        values = uniform(0, kind, 0, np.arange(batch * int(np.prod(sizes)))) * 2 - 1
        given = torch.from_numpy(values.astype(np.float32).reshape(batch, 1, *sizes))
        inputs.append(given if kind == "wave" else given.contiguous(memory_format=torch.channels_last))
    loss = torch.nn.functional.cross_entropy(model(*inputs), torch.arange(batch))
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    model.eval()
    with torch.inference_mode():
        logits = model(*inputs)
    made = hashlib.sha256()
    for tensor in (loss, logits, *gradients):
        made.update(tensor.detach().contiguous().numpy().tobytes())
    return made.hexdigest()


if __name__ == "__main__":
    if remark := kernels.enter(kernels.PORTABLE):
        sys.exit(remark)
    for each in sys.argv[1:]:
        print(each, digest(each), flush=True)
