"""Writes synth_pcm.json, the pinned samples of the embedded corpus: run it after CORPUS_VERSION was raised."""

import hashlib
import json
from pathlib import Path

from genrecls.datasets.synth.corpus import ARTISTS, CLIPS
from genrecls.datasets.synth.genres import GENRES
from genrecls.datasets.synth.mix import CORPUS_VERSION, record

PINNED = {(0, 0), (7, 5)}


def main() -> None:
    """Render everything in the order of the clip ids."""
    everything, clips = hashlib.sha256(), {}
    for genre in sorted(GENRES):
        for artist in range(ARTISTS):
            for clip in range(CLIPS):
                pcm = record(genre, artist, clip).pcm.astype("<i2").tobytes()
                everything.update(pcm)
                if (artist, clip) in PINNED:
                    clips[f"{genre} {artist} {clip}"] = hashlib.sha256(pcm).hexdigest()
    golden = {"version": CORPUS_VERSION, "clips": clips, "corpus": everything.hexdigest()}
    path = Path(__file__).with_name("synth_pcm.json")
    path.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
