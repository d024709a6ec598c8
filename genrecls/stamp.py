"""Large files that were hashed once: `.verified.json` beside them says how each was then, so that it is hashed again
only where it is another since.

Nothing that writes to a file, copies it or puts another in its place leaves its size, both times and inode as they
were; the time of its last change (ctime) is the system's alone to set. A stamp that is damaged, or cannot be written,
only costs hashing again.
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from genrecls import atomic, reading
from genrecls.reading import Damaged

STAMP = ".verified.json"


def holds(path: Path, sha256: str, again: bool = False) -> bool:
    """Whether a file has this digest. It is hashed unless the stamp says that it was, and stamped when it has it.

    again: hashed whatever the stamp says.

    Raises Damaged where it is no regular file, OSError as the system reports it.
    """
    reading.size(path)
    before = path.stat()
    known = _stamps(path.parent).get(path.name)
    if known == _stamp(before, sha256) and not again:
        return True
    with reading.opened(path) as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found == sha256 and _stamp(path.stat(), sha256) == _stamp(before, sha256):
        put(path, sha256)
    return found == sha256


def put(path: Path, sha256: str) -> None:
    """Stamp a file, which is known to have this digest. Does nothing where its folder cannot be written to."""
    with suppress(OSError):
        stamps = {**_stamps(path.parent), path.name: _stamp(path.stat(), sha256)}
        atomic.write_text(path.parent / STAMP, json.dumps(stamps, indent=2) + "\n")


def _stamp(found: os.stat_result, sha256: str) -> dict[str, Any]:
    return {
        "sha256": sha256,
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
    }


def _stamps(folder: Path) -> dict[str, Any]:
    try:
        return reading.json_object(reading.read_bytes(folder / STAMP))
    except (Damaged, OSError):
        return {}
