"""What a model makes of a clip just before it decides: the input of its last linear layer, and a map of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from genrecls import exact, metrics
from genrecls.fragments import Fragments, Stretch, grid, places
from genrecls.inference import fragment_logits
from genrecls.models.building import Model
from genrecls.seeding import uniform

FEWEST = 8
"""Clips, below which a map shows nothing."""
_PERPLEXITY = 30.0
"""Of van der Maaten and Hinton 2008, who advise 5 to 50; a third of the clips where they are fewer."""
_ITERATIONS = 50
"""Of the principal components that a map begins with: where two are alike, it does not matter which is taken."""


def clip_embeddings(
    model: Model, fragments: Fragments, stretches: Sequence[Stretch]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The ids of the clips, sorted, and the mean of their fragments' embeddings, float64 (clips, width).

    An embedding is what the linear layer that is called last is given; where that is given one for each place of a
    fragment, their mean.
    """
    ordered = sorted(stretches, key=lambda stretch: (stretch.clip, stretch.first, stretch.first_sample))
    clips = tuple(sorted({stretch.clip for stretch in ordered}))
    position = {clip: i for i, clip in enumerate(clips)}
    starts = [grid(s.frames, fragments.config.frames, fragments.config.batches.overlap) for s in ordered]
    which = np.repeat(np.arange(len(ordered)), [len(each) for each in starts])
    with last_linear_inputs(model) as batches:
        fragment_logits(model, fragments, places(ordered, which, np.concatenate(starts)))
    # The last batch was filled up with fragments that are none.
    found = torch.cat(batches)[: len(which)].numpy().astype(np.float64)
    owner = np.array([position[each.clip] for each in ordered], dtype=np.int64)[which]
    return clips, metrics.mean_by_clip(found, owner, len(clips))


@contextmanager
def last_linear_inputs(model: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """What each forward pass in the block adds to: float32 (batch, width) on the CPU, as `clip_embeddings` says."""
    latest: dict[str, torch.Tensor] = {}
    batches: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, given: tuple[Any, ...]) -> None:
        latest["input"] = given[0]

    def end(*_: Any) -> None:
        taken = latest["input"].detach().float()
        batches.append(taken.reshape(len(taken), -1, taken.shape[-1]).mean(dim=1).cpu())

    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [*(module.register_forward_pre_hook(keep) for module in linear), model.register_forward_hook(end)]
    try:
        yield batches
    finally:
        for hook in hooks:
            hook.remove()


def plane(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """t-SNE of (clips, width) to (clips, 2), at least `FEWEST` clips. The same embeddings give the same map.

    Each coordinate of the embedding is scaled to a deviation of one before. On one thread, because several sum in
    another order. Neighbours and first places are handed over, because scikit-learn's own come from linear algebra
    that the processor chooses.
    """
    deviation = embeddings.std(axis=0)
    scaled = (embeddings - embeddings.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    perplexity = min(_PERPLEXITY, (len(scaled) - 1) / 3)
    # As many as scikit-learn takes.
    near = _neighbours(scaled, min(len(scaled) - 1, int(3 * perplexity + 1)))
    first = _principal(scaled)
    spread = float(first[:, 0].std())
    begin = (first / (spread if spread > 0 else 1) * 1e-4).astype(np.float32)
    # It goes on where the gradient vanishes, whose norm is linear algebra, too.
    made = TSNE(perplexity=perplexity, metric="precomputed", init=begin, min_grad_norm=0.0, random_state=0)
    with threadpool_limits(1):
        flat: NDArray[np.float64] = made.fit_transform(near)
    return flat.astype(np.float64)


def _neighbours(points: NDArray[np.float64], count: int) -> csr_matrix:
    """Distances of each of the points (n, width) to itself and to its nearest `count`, as a sparse matrix (n, n).

    Of points that are equally far the first are nearer.
    """
    products = exact.product(points, points.T)
    own = products.diagonal()
    distances = np.sqrt(np.maximum(own[:, None] + own - 2 * products, 0))
    np.fill_diagonal(distances, -1)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, : count + 1]
    np.fill_diagonal(distances, 0)
    found = np.take_along_axis(distances, nearest, axis=1)
    ends = np.arange(len(points) + 1) * (count + 1)
    return csr_matrix((found.reshape(-1), nearest.reshape(-1), ends), shape=distances.shape)


def _principal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred points (n, width) on about their first two principal components, (n, 2), by subspace iteration."""
    width = points.shape[1]
    basis = uniform(0, "plane", 0, np.arange(width)[:, None], np.arange(2)) - 0.5
    for _ in range(_ITERATIONS):
        basis = exact.product(points.T, exact.product(points, basis))
        for i in range(2):
            for other in basis.T[:i]:
                basis[:, i] -= other * (other * basis[:, i]).sum()
            length = float(np.sqrt(np.square(basis[:, i]).sum()))
            basis[:, i] /= length if length > 0 else 1
    return exact.product(points, basis)
