"""What predicting a file cannot do without: the imports of torch and torchaudio, and the network's forward pass.

Usage: python forward_alone.py WIDTH SECONDS
"""

import sys

import torch
import torchaudio  # noqa: F401

from architecture import built
from genrecls.inference import placed

FRAGMENT, FRAMES, BATCH = 3, 129, 16


@torch.inference_mode()
def main(width: int, seconds: int) -> None:
    """Whole batches of fragments that overlap by half, as `predict` makes them."""
    model = {"name": "se-resnet", "width": width, "se_ratio": min(16, width)}
    network = placed(built(model, torch.empty(1, 128, FRAMES)), torch.device("cpu")).eval()
    features = torch.zeros(BATCH, 1, 128, FRAMES).contiguous(memory_format=torch.channels_last)
    for _ in range(-(-(2 * seconds // FRAGMENT) // BATCH)):
        network(features)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
