"""Initial weights: each parameter is drawn from a key of its own, on the CPU, whatever else the model holds."""

import math

import torch

from genrecls.seeding import generator


@torch.no_grad()
def initialise(model: torch.nn.Module, seed: int) -> None:
    """Fill every parameter of `model` from (seed, "init", parameter name).

    Convolutions: Kaiming's variance for ReLU by fan-out, 2 / (kernel area x output channels) (He et al. 2015).
    Linear layers: variance 1 / (3 x inputs), GRU and LSTM 1 / (3 x hidden units), which are PyTorch's defaults. All are
    drawn uniform, because `torch.rand` gives the same bits on every CPU and `randn` does not. Biases start at zero and
    normalisation as the identity. A parameter's first values depend on its name and shape alone, so that a change
    elsewhere in the model leaves them. Raises TypeError for a layer with parameters that no rule covers.
    """
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own:
            continue
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.ones_(module.weight)
            torch.nn.init.zeros_(module.bias)
            continue
        bound = _bound(module)
        for part, parameter in own.items():
            if part.startswith("bias"):
                torch.nn.init.zeros_(parameter)
                continue
            own_draws = generator(seed, "init", f"{name}.{part}")
            draws = torch.rand(parameter.shape, generator=own_draws, dtype=torch.float32)
            parameter.copy_((draws * 2 - 1) * bound)


def _bound(module: torch.nn.Module) -> float:
    if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
        fan_out = module.out_channels * math.prod(module.kernel_size)
        return math.sqrt(3) * math.sqrt(2 / fan_out)
    if isinstance(module, torch.nn.Linear):
        return 1 / math.sqrt(module.in_features)
    if isinstance(module, torch.nn.GRU | torch.nn.LSTM):
        return 1 / math.sqrt(module.hidden_size)
    raise TypeError(f"no rule initialises a {type(module).__name__}")
