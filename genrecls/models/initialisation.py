"""Initial weights: each parameter is drawn from a key of its own, on the CPU, whatever else the model holds."""

import math

import torch

from genrecls.seeding import generator

_LAYERS = torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Linear | torch.nn.GRU | torch.nn.LSTM


@torch.no_grad()
def initialise(model: torch.nn.Module, seed: int, scheme: str = "default") -> None:
    """Fill every parameter of `model` from (seed, "init", parameter name).

    scheme: the bound of a weight's uniform draw, by its fans. "kaiming" (He et al. 2015, gain of ReLU): variance
    2 / fan-in. "xavier" (Glorot and Bengio 2010): 2 / (fan-in + fan-out). "default": for convolutions 2 / fan-out
    (He et al. 2015), for linear layers 1 / (3 x inputs) and for GRU and LSTM 1 / (3 x hidden size), which are PyTorch's
    own. A recurrent weight is as many matrices as there are gates: the fans are those of one.

    Draws are uniform, because `torch.rand` gives the same bits on every CPU and `randn` does not. Biases start at zero
    and normalisation as the identity. A parameter's first values depend on its name, shape and layer alone, so that a
    change elsewhere in the model leaves them. Raises TypeError for a layer with parameters that no rule covers.
    """
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own:
            continue
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.ones_(module.weight)
            torch.nn.init.zeros_(module.bias)
            continue
        if not isinstance(module, _LAYERS) or (isinstance(module, torch.nn.RNNBase) and module.proj_size):
            raise TypeError(f"no rule initialises a {type(module).__name__}")
        for part, parameter in own.items():
            if part.startswith("bias"):
                torch.nn.init.zeros_(parameter)
                continue
            own_draws = generator(seed, "init", f"{name}.{part}")
            draws = torch.rand(parameter.shape, generator=own_draws, dtype=torch.float32)
            parameter.copy_((draws * 2 - 1) * _bound(module, parameter, scheme))


def _bound(module: torch.nn.Module, weight: torch.Tensor, scheme: str) -> float:
    gates = 3 if isinstance(module, torch.nn.GRU) else 4 if isinstance(module, torch.nn.LSTM) else 1
    area = math.prod(weight.shape[2:])
    fan_in, fan_out = weight.shape[1] * area, weight.shape[0] // gates * area
    if scheme == "kaiming":
        return math.sqrt(6 / fan_in)
    if scheme == "xavier":
        return math.sqrt(6 / (fan_in + fan_out))
    if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
        return math.sqrt(3) * math.sqrt(2 / fan_out)
    return 1 / math.sqrt(fan_in if isinstance(module, torch.nn.Linear) else fan_out)
