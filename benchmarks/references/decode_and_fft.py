"""What preprocessing cannot do without: decoding each file, and the Fourier transforms of its frames; no more.

Usage: python decode_and_fft.py '{"corpus": FOLDER, "processes": N}'; prints {"amount": clips, "seconds": s}.
"""

import json
import multiprocessing
import sys
import time
from pathlib import Path

import soundfile
import torch

FRAMES = 128


@torch.inference_mode()
def one(path: Path) -> None:
    """Decode, transform, forget."""
    torch.set_num_threads(1)
    samples, _ = soundfile.read(path, dtype="int16")
    windows = torch.rand(FRAMES, 2048)
    spectrum = torch.empty(FRAMES, 1025, dtype=torch.complex64)
    for _ in range(-(-(len(samples) // 512 + 1) // FRAMES)):
        torch.fft.rfft(windows, out=spectrum)


def main(corpus: str, processes: int) -> dict[str, float]:
    """The processes are there before the clock starts."""
    files = sorted(Path(corpus).rglob("*.wav"))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(one, files[: 4 * processes], chunksize=1)
        began = time.perf_counter()
        pool.map(one, files, chunksize=8)
        return {"amount": len(files), "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))
