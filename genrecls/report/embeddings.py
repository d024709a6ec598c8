"""What a model makes of a clip just before it decides: the input of its last linear layer, and a map of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from genrecls import metrics
from genrecls.fragments import Fragments, Stretch, grid, places
from genrecls.inference import fragment_logits
from genrecls.models.building import Model

FEWEST = 8
"""Clips, below which a map shows nothing."""
_PERPLEXITY = 30.0
"""Of van der Maaten and Hinton 2008, who advise 5 to 50; a third of the clips where they are fewer."""


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
    another order.
    """
    deviation = embeddings.std(axis=0)
    scaled = (embeddings - embeddings.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    perplexity = min(_PERPLEXITY, (len(scaled) - 1) / 3)
    with threadpool_limits(1):
        flat: NDArray[np.float64] = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(scaled)
    return flat.astype(np.float64)
