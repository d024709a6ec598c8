"""SHA-256 of files, bytes, texts and JSON."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def bytes_sha256(content: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def text_sha256(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def json_sha256(value: Mapping[str, Any]) -> str:
    """SHA-256 of a value in the one form that JSON has for it here: sorted keys, no blanks, ASCII alone."""
    return text_sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False))


def without(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A record without a field, such as the digest that is of all the others."""
    return {each: value for each, value in record.items() if each != name}
