"""One epoch after the other over a Dataset that decodes a file, cuts a fragment and makes its log-mel, each time.

Usage: python decoded_on_the_fly.py JSON, see `main`; prints {"amount": fragments, "seconds": s}.
"""

import json
import sys
from pathlib import Path

import soundfile
import torch
import torchaudio
from torch.utils.data import Dataset

from architecture import plain
from plain_training import epochs

RATE, SECONDS = 22050, 3


class Clips(Dataset[tuple[torch.Tensor, int]]):
    """A fragment of each clip, `crops` times an epoch."""

    def __init__(self, corpus: Path, share: float, crops: int) -> None:
        files = sorted(corpus.rglob("*.wav"))
        self._genres = sorted({path.parent.name for path in files})
        self._files = files[: int(share * len(files))] * crops
        self._transform = torchaudio.transforms.MelSpectrogram(RATE, n_fft=2048, hop_length=512, n_mels=128)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        path = self._files[i]
        samples, _ = soundfile.read(path, dtype="float32")
        start = int(torch.randint(len(samples) - RATE * SECONDS, ()))
        # One sample less than a frame more, so that there are as many frames as genrecls takes of its cache.
        fragment = torch.from_numpy(samples[start : start + RATE * SECONDS - 512])
        return torch.log(self._transform(fragment) + 1e-6)[None], self._genres.index(path.parent.name)


def main(
    corpus: str, model: dict[str, object], share: float, crops: int, batch_size: int, workers: int, threads: int
) -> dict[str, float]:
    """model: its settings. share: of the clips, that are for training. crops: fragments of a clip in an epoch."""
    torch.set_num_threads(threads)
    dataset = Clips(Path(corpus), share, crops)
    return epochs(plain(model, dataset[0][0]), dataset, 3, batch_size, workers, "fp32")


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
