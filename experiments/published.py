"""The digests that this version publishes of `make reproduce`, in published.json, and how a run's compare with them.

They are those of portable kernels, and the same on every x86-64 processor with AVX2. `python experiments/reproduce.py
--publish` writes them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genrecls import reading
from genrecls.errors import GenreclsError
from genrecls.reading import Damaged, field

FILE = Path(__file__).resolve().parent / "published.json"
PARTS = ("corpus", "cache", "weights", "history", "predictions")
"""In the order in which they come about, so that the first that differs is the nearest to the cause."""

Digests = dict[str, str]


def digests(run: Path, cache: Path, predictions: str) -> Digests:
    """The SHA-256 of each of PARTS.

    run: its directory. cache: of its only array. predictions: `predictions_sha256` of `genrecls evaluate`.
    Raises GenreclsError where run or cache are damaged.
    """
    with _checked(cache / "cache.json") as content:
        arrays = field(reading.json_object(content), "arrays", dict, low=1, high=1)
        (array,) = (field(field(arrays, name, dict), "sha256", str) for name in arrays)
    with _checked(run / "run.json") as content:
        record = reading.json_object(content)
        names = ("fingerprint", "weights_sha256", "history_sha256")
        corpus, weights, history = (field(record, name, str) for name in names)
    return dict(zip(PARTS, (corpus, array, weights, history, predictions), strict=True))


def of(dataset: str, file: Path = FILE) -> Digests | None:
    """What is published of a corpus, None where nothing is. Raises GenreclsError where the file is damaged."""
    found = _all(file).get(dataset)
    return found and dict(found)


def publish(dataset: str, made: Mapping[str, str], file: Path = FILE) -> None:
    """Write what is published of a corpus from now on."""
    file.write_text(json.dumps({**_all(file), dataset: dict(made)}, indent=2) + "\n", encoding="utf-8")


def _all(file: Path) -> dict[str, Any]:
    """Of every corpus."""
    if not file.exists():
        return {}
    with _checked(file) as content:
        found = reading.json_object(content)
        for dataset in found:
            for part in PARTS:
                field(field(found, dataset, dict), part, str)
    return found


@contextmanager
def _checked(path: Path) -> Iterator[bytes]:
    """The content of a file, which the block may find to be damaged. Raises GenreclsError that names it."""
    try:
        yield reading.read_bytes(path)
    except Damaged as error:
        raise GenreclsError(f"{path} is damaged ({error}): make it again.") from error


def reason_not_to_compare(run: Path) -> str:
    """Why a run is not one that digests are published of, "" where it is. Raises GenreclsError where it is damaged."""
    with _checked(run / "config.toml") as content:
        compute = field(reading.toml(content), "compute", dict)
        device, kernels = (field(compute, name, str) for name in ("device", "kernels"))
    if device != "cpu":
        return f"the published digests are of the CPU, and this run was made on {device}"
    if kernels != "portable":
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
