"""Log-mel features of a folder of WAV files: soundfile and torchaudio's MelSpectrogram, one clip at a time.

Usage: python torchaudio_loop.py '{"corpus": FOLDER, "out": FILE, "threads": N}'; prints amount (clips) and seconds.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio


@torch.inference_mode()
def main(corpus: str, out: str, threads: int) -> dict[str, float]:
    """As torchaudio's users write it."""
    torch.set_num_threads(threads)
    files = sorted(Path(corpus).rglob("*.wav"))
    transform = torchaudio.transforms.MelSpectrogram(22050, n_fft=2048, hop_length=512, n_mels=128)

    began = time.perf_counter()
    features = []
    for path in files:
        samples, _ = soundfile.read(path, dtype="float32")
        mel = transform(torch.from_numpy(samples))
        features.append(torch.log(mel + 1e-6).T.to(torch.float16).numpy())
    np.save(out, np.concatenate(features))
    return {"amount": len(files), "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
