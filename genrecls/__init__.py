"""genrecls: honest, repeatable, fast experiments in music genre classification.

In Python, besides the command `genrecls`:

    import genrecls

    predictor = genrecls.load("experiments/runs/synth-se-resnet-3f9c1b2a4d5e")
    for prediction in predictor.predict(["song.mp3", "folder/"]):
        print(prediction.path, prediction.genre, prediction.ranking)
    prediction = predictor.predict_samples(samples, rate)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from genrecls.predict import Predictor

__version__ = "0.1.0"
__all__ = ("__version__", "load")


def load(run: "str | Path", device: str = "auto", runs: "str | Path" = "experiments/runs") -> "Predictor":
    """A trained run, ready to predict: `genrecls.predict.Predictor`, which has the types and shapes of all it gives.

    run: its directory, or its id or the beginning of it below `runs`. device: "auto" (the run's own where it is here,
    else the CPU), "cpu" or "cuda". PyTorch is imported now, not with `genrecls`.
    Warns (RuntimeWarning) where other code of genrecls trained it, or nobody can know.
    Raises GenreclsError where there is no such run, it was not trained, or the code of its model has changed since.
    """
    import warnings
    from pathlib import Path

    from genrecls import kernels
    from genrecls.provenance import use

    found = use(str(run), Path(runs), lambda remark: warnings.warn(remark, RuntimeWarning, stacklevel=4))
    if remark := kernels.enter(found.config.compute.kernels):
        warnings.warn(remark, RuntimeWarning, stacklevel=2)
    from genrecls.predict import Predictor

    return Predictor(found, device)
