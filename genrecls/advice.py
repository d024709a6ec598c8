"""What `train` says of portable kernels: where native ones would be much faster, and where they do not apply."""

import os

from genrecls import kernels
from genrecls.config import Config

MUCH = 1.5
"""Times as fast, from which it is worth a sentence."""
STEP = {
    "se-resnet": 1.30,
    "se-cnn": 1.43,
    "mlp": 1.07,
    "mlp2": 1.33,
    "cel": 1.30,
    "cel2": 1.20,
    "cel3": 1.38,
    "cnn1d": 1.65,
    "cnn2d": 1.99,
    "mixnet": 1.65,
    "cnn1d-gru": 1.78,
    "cnn1d-lstm": 1.51,
    "cnn2d-gru": 1.68,
    "cnn2d-lstm": 1.50,
}
"""Time of a training step with portable kernels over that with native ones in fp32, on two threads each, by model at
its defaults: median of three pairs on two cores of an Intel Xeon with AVX-512 (`make bench`). A model that was not
measured is taken to cost nothing."""


def faster(config: Config, cores: int | None = None) -> float:
    """How many times as fast native kernels would train at the most, of these resolved settings.

    cores: of the machine, by default those that this process may use. More threads than portable kernels have are taken
    to gain all that they can; a number that the user chose would be the same with native ones.
    """
    cores = cores or len(os.sched_getaffinity(0))
    threads = max(1.0, cores / kernels.THREADS) if config.compute.threads == kernels.THREADS else 1.0
    return STEP.get(config.model.name, 1.0) * threads


def advice(config: Config, cores: int | None = None) -> str:
    """A sentence on portable kernels, for resolved settings; "" where there is nothing to say.

    cores: as for `faster`.
    """
    compute = config.compute
    if compute.kernels != kernels.PORTABLE:
        return ""
    if compute.device != "cpu":
        return (
            "Portable kernels hold for what is done on the CPU alone: on a GPU the same bits are promised on the same "
            "kind of GPU."
        )
    gain = faster(config, cores)
    if gain < MUCH:
        return ""
    return (
        f"With --kernels native {config.model.name} would train up to {gain:.1f} times as fast on this machine, as "
        "another run, whose figures can be had again on this kind of processor alone."
    )
