"""One epoch after the other over a Dataset of one .npy file of log-mel for each clip, which are made before.

Usage: python npy_clips.py JSON, see `main`; prints {"amount": fragments, "seconds": s}.
"""

import json
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch.utils.data import Dataset

from architecture import plain
from plain_training import epochs

FRAMES = 129


class Arrays(Dataset[tuple[torch.Tensor, int]]):
    """A fragment of each clip, `crops` times an epoch."""

    def __init__(self, folder: Path, share: float, crops: int) -> None:
        files = sorted(folder.rglob("*.npy"))
        self._genres = sorted({path.parent.name for path in files})
        self._files = files[: int(share * len(files))] * crops

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        path = self._files[i]
        mel = np.load(path)
        start = int(torch.randint(mel.shape[1] - FRAMES + 1, ()))
        return torch.from_numpy(mel[None, :, start : start + FRAMES]), self._genres.index(path.parent.name)


def write(corpus: Path, folder: Path) -> None:
    """The file of each clip, (bins, frames), where it is not there."""
    transform = torchaudio.transforms.MelSpectrogram(22050, n_fft=2048, hop_length=512, n_mels=128)
    for path in sorted(corpus.rglob("*.wav")):
        made = folder / path.relative_to(corpus).with_suffix(".npy")
        if not made.exists():
            made.parent.mkdir(parents=True, exist_ok=True)
            samples, _ = soundfile.read(path, dtype="float32")
            np.save(made, torch.log(transform(torch.from_numpy(samples)) + 1e-6).numpy())


def main(
    corpus: str,
    folder: str,
    model: dict[str, object],
    share: float,
    crops: int,
    batch_size: int,
    workers: int,
    threads: int,
    precision: str = "fp32",
) -> dict[str, float]:
    """folder: of the .npy files. model: its settings. share: of the clips, that are for training.

    crops: fragments of a clip in an epoch.
    """
    torch.set_num_threads(threads)
    write(Path(corpus), Path(folder))
    dataset = Arrays(Path(folder), share, crops)
    return epochs(plain(model, dataset[0][0]), dataset, 3, batch_size, workers, precision)


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
