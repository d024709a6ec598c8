"""The files of a cache beside its array: `cache.json` and `index.csv`, checked as they are read, without PyTorch.

What they say is held against each other and against the key in the folder's name: the key hashes the parameters and
the manifest, the manifest the clips and their files, and the rows follow each other without a gap.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from genrecls import reading
from genrecls.digests import bytes_sha256, json_sha256, without
from genrecls.errors import GenreclsError
from genrecls.manifest import Manifest
from genrecls.reading import Damaged, field
from genrecls.tables import csv_text

SCHEMA = 2
STORED = {"float16": "<f2", "int16": "<i2"}
"""Types of arrays, and how they lie on the disk."""
_PARAMETERS = ("schema", "extractor", "decode", "features", "variant")
"""What is hashed of `cache.json`, beside the manifest; variant: where the clips were changed before."""
_ARRAY = re.compile(r"[a-z]+\.npy")
_MOST = 2**48
"""Frames or samples of a corpus: 200 years of audio at 44.1 kHz."""


@dataclass(frozen=True)
class Row:
    """One line of `index.csv`. path: relative to the corpus's folder. frames, samples: 0 unless status is "ok".

    A cache of waveforms has no frames: how long one is, is the matter of those who read it.

    status: "ok", or what the corpus, `audio.fault` or decoding call it, with the reason in words.
    """

    clip: str
    genre: str
    group: str
    official_split: str
    path: str
    sha256: str
    first_frame: int
    frames: int
    first_sample: int
    samples: int
    status: str
    reason: str


_COLUMNS = tuple(each.name for each in fields(Row))


def key(parameters: Mapping[str, Any], manifest: str) -> str:
    """16 hexadecimal digits. parameters: what the array depends on besides the audio. manifest: digest of the files."""
    hashed = json.dumps({**parameters, "manifest": manifest}, sort_keys=True)
    return hashlib.sha256(hashed.encode()).hexdigest()[:16]


def details_text(details: Mapping[str, Any]) -> str:
    """`cache.json`, sealed. details: of `read_details`, without the seal."""
    return json.dumps({**details, "seal": json_sha256(details)}, indent=2) + "\n"


def index_text(rows: Sequence[Row]) -> str:
    """`index.csv`."""
    return csv_text([_COLUMNS, *(astuple(row) for row in rows)])


def read(place: Path) -> tuple[dict[str, Any], tuple[Row, ...]]:
    """`cache.json` and the rows of `index.csv` of a complete cache.

    Raises GenreclsError where one is missing or damaged, they do not fit each other or the folder's name, or the array
    is not as long as they say.
    """
    name = "cache.json"
    try:
        details = read_details(place)
        ((name, known),) = details["arrays"].items()
        shape, dtype, _ = reading.npy_header(place / name)
        if ([*shape], dtype, reading.size(place / name)) != (known["shape"], STORED[known["dtype"]], known["bytes"]):
            raise Damaged("it is not of the shape, type and size that cache.json has")
        name = "index.csv"
        content = reading.read_bytes(place / name, reading.LONGEST_TABLE)
        if bytes_sha256(content) != details["index_sha256"]:
            raise Damaged("it is not what preprocess wrote")
        rows = _rows(content, details)
        total = rows[-1].first_frame + rows[-1].frames, rows[-1].first_sample + rows[-1].samples
        if shape[0] != total[len(shape) == 1]:
            raise Damaged("its clips are not those of the array")
    except FileNotFoundError as error:
        raise _damaged(place, name, "it is missing") from error
    except Damaged as error:
        raise _damaged(place, name, str(error)) from error
    return details, rows


def _damaged(place: Path, name: str, reason: str) -> GenreclsError:
    return GenreclsError(
        f"The cache {place} is damaged ({name}: {reason}): remove the folder and run the same command again."
    )


def read_details(place: Path) -> dict[str, Any]:
    """`cache.json` of this version: key, corpus, manifest, clips, audio_seconds, arrays (one), and the parameters.

    It has the digests of the array and of `index.csv`, and as "seal" that of all the rest of it.

    Raises Damaged, and OSError as the system reports it.
    """
    found = reading.json_object(reading.read_bytes(place / "cache.json", reading.LONGEST_JSON))
    if field(found, "seal", str) != json_sha256(without(found, "seal")):
        raise Damaged("it is not what preprocess wrote")
    arrays = field(found, "arrays", dict, low=1, high=1)
    for name in arrays:
        if not _ARRAY.fullmatch(name):
            raise Damaged(f"{name!r} is not the name of an array")
        known = field(arrays, name, dict)
        field(known, "sha256", str, low=64, high=64)
        field(known, "bytes", int, low=1)
        for length in reading.items(known, "shape", int):
            reading.checked(length, "a length", int, 1, _MOST)
        if field(known, "dtype", str) not in STORED:
            raise Damaged(f"its array is of the type {known['dtype'][:20]!r}")
    for name in ("manifest", "index_sha256"):
        field(found, name, str)
    if field(found, "corpus", str) != place.name.rpartition("-")[0]:
        raise Damaged("its corpus is not that of the folder's name")
    field(found, "clips", int, low=1)
    field(found, "audio_seconds", float, low=0)
    parameters = {name: found[name] for name in _PARAMETERS if name in found}
    if not field(found, "key", str) == key(parameters, found["manifest"]) == place.name.rpartition("-")[2]:
        raise Damaged("its key is not that of what is in it, or of the folder's name")
    return found


def _rows(content: bytes, details: Mapping[str, Any]) -> tuple[Row, ...]:
    rows = []
    first_frame = first_sample = 0
    for cells in reading.csv_rows(content, _COLUMNS):
        texts = dict(zip(_COLUMNS, cells, strict=True))
        numbers = {name: reading.number(texts.pop(name), name, int, 0, _MOST) for name in _COLUMNS[6:10]}
        row = Row(**texts, **numbers)  # type: ignore[arg-type]
        if (row.first_frame, row.first_sample) != (first_frame, first_sample):
            raise Damaged(f"the clip {row.clip!r} does not begin where the one before it ends")
        if (row.status == "ok") != (row.samples > 0):
            raise Damaged(f"the length of the clip {row.clip!r} does not fit its status")
        first_frame += row.frames
        first_sample += row.samples
        rows.append(row)
    if len(rows) != details["clips"] or Manifest({row.clip: row.sha256 for row in rows}).digest != details["manifest"]:
        raise Damaged("its clips and files are not those of cache.json")
    return tuple(rows)
