"""The corpus that everything is measured on: 30-s WAV clips, 22,050 Hz, one channel, 16 bits, ten genres as GTZAN."""

from pathlib import Path

import numpy as np
import soundfile

from genrecls.seeding import uniform

RATE, GENRES, DISTINCT = 22050, 10, 40


def make(folder: Path, clips: int, seconds: int = 30) -> Path:
    """Write the clips, `folder/gN/NNNN.wav`: a tone of the genre's pitch in noise; after 40 they come again."""
    for genre in range(GENRES):
        (folder / f"g{genre}").mkdir(parents=True)
    time = np.arange(seconds * RATE) / RATE
    for clip in range(min(clips, DISTINCT)):
        noise = uniform(0, "benchmark", 0, clip, np.arange(len(time))) - 0.5
        tone = np.sin(2 * np.pi * 110 * (1 + clip % GENRES) * time) * (1 + np.sin(2 * np.pi * (1 + clip / 20) * time))
        samples = (0.2 * tone + 0.3 * noise) * 32768
        for copy in range(clip, clips, DISTINCT):
            soundfile.write(folder / f"g{copy % GENRES}" / f"{copy:05d}.wav", samples.astype(np.int16), RATE)
    return folder
