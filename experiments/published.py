"""The digests that this version publishes of `make reproduce`, in published.json, and how a run's compare with them.

They are those of portable kernels, and the same on every x86-64 processor with AVX2. `python experiments/reproduce.py
--publish` writes them.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genrecls import cachefiles, reading
from genrecls.run import Run

FILE = Path(__file__).resolve().parent / "published.json"
PARTS = ("corpus", "cache", "weights", "history", "predictions")
"""In the order in which they come about, so that the first that differs is the nearest to the cause."""

Digests = dict[str, str]


def digests(run: Path, cache: Path, predictions: str) -> Digests:
    """The SHA-256 of each of PARTS.

    run: its directory. cache: of its only array. predictions: `predictions_sha256` of `genrecls evaluate`.
    Raises GenreclsError where run or cache are damaged.
    """
    record, (details, _) = Run(run).record, cachefiles.read(cache)
    (array,) = details["arrays"].values()
    found = (record["fingerprint"], array["sha256"], record["weights_sha256"], record["history_sha256"], predictions)
    return dict(zip(PARTS, found, strict=True))


def of(dataset: str, file: Path = FILE) -> Digests | None:
    """What is published of a corpus, None where nothing is."""
    found = _all(file).get(dataset)
    return found and {part: reading.field(found, part, str) for part in PARTS}


def publish(dataset: str, made: Mapping[str, str], file: Path = FILE) -> None:
    """Write what is published of a corpus from now on."""
    file.write_text(json.dumps({**_all(file), dataset: dict(made)}, indent=2) + "\n", encoding="utf-8")


def _all(file: Path) -> dict[str, Any]:
    """Of every corpus. Raises Damaged where the file of the checkout is not what it should be."""
    return reading.json_object(reading.read_bytes(file)) if file.exists() else {}


def reason_not_to_compare(run: Path) -> str:
    """Why a run is not one that digests are published of, "" where it is. Raises GenreclsError where it is damaged."""
    compute = Run(run).config.compute
    if compute.device != "cpu":
        return f"the published digests are of the CPU, and this run was made on {compute.device}"
    if compute.kernels != "portable":
        return "the published digests are of portable kernels, and this run has native ones"
    return ""


def comparison(published: Mapping[str, str], made: Mapping[str, str]) -> Iterator[str]:
    """Lines of text: each part with both digests, then the verdict."""
    wide = max(map(len, PARTS))
    for part in PARTS:
        yield f"{part:{wide}}  published  {published[part]}"
        yield f"{'':{wide}}  here       {made[part]}"
    differing = [part for part in PARTS if published[part] != made[part]]
    yield ""
    yield f"NOT the same bits as published: {', '.join(differing)}" if differing else "the same bits as published"


def same(published: Mapping[str, str], made: Mapping[str, str]) -> bool:
    """Whether every digest is the published one."""
    return all(published[part] == made[part] for part in PARTS)
