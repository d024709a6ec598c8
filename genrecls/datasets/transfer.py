"""Bringing a large file over HTTP: it goes on where it was cut off, today or next week."""

import http.client
import re
import time
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from genrecls import __version__
from genrecls.datasets.loader import Progress

_CHUNK = 2**16
_TIMEOUT_SECONDS = 60.0
_TRIES = 5
"""Transfers cut off one after another, none of which brought `_WORTHWHILE` bytes, before it is given up."""
_WORTHWHILE = 2**20
_PAUSE_SECONDS = 2.0
_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-\d+|\*)/(?:(?P<total>\d+)|\*)")


class TransferError(Exception):
    """The file did not come, or not whole. The message is a clause with the reason."""


class _Cut(Exception):
    """A transfer ended before its end. The message is a clause with the reason."""


def part_of(path: Path) -> Path:
    """Where the bytes of `path` lie until all are there."""
    return path.with_name(f"{path.name}.part")


def download(url: str, path: Path, progress: Progress) -> None:
    """Bring the file at `url` to `path`, whose folder is there, by way of `part_of(path)`.

    What lies in the part already is not fetched again where the server honours the Range header; where it does not,
    or says that the file has another size than the part can be of, it begins anew. A transfer that is cut off is
    taken up again; five in a row that bring less than a MiB each are given up, and the part stays for the next
    call. progress: ("downloading <name>", bytes there, bytes in all).
    Raises TransferError where the server cannot be reached, refuses, or the transfer is given up; OSError where the
    disk does not take it.
    """
    part = part_of(path)
    what = f"downloading {path.name}"
    tries, answered = 0, False
    size: int | None = None
    while True:
        before = _size(part)
        try:
            with _open(url, before) as answer:
                answered = True
                first, total = _offered(answer)
                if first and (first != before or size not in (None, total)):
                    part.unlink(missing_ok=True)  # It would be of two files.
                    raise _Cut("the server sent a piece of another file")
                size = total
                _receive(answer, part, first, total, what, progress)
            break
        except HTTPError as error:
            error.close()
            if error.code == 416 and before:
                if _total(error.headers) == before:
                    break
                part.unlink()  # It is longer than the file, so it is of another one.
                continue
            reason = f"the server says {error.code} {error.reason}"
            if not answered or error.code < 500:
                raise TransferError(reason) from error
        except (_Cut, URLError, http.client.HTTPException) as error:
            reason = _reason(error)
            if not answered:  # Nobody is there, which waiting will not change.
                raise TransferError(reason) from error
        tries = 1 if _size(part) - before >= _WORTHWHILE else tries + 1
        if tries >= _TRIES:
            raise TransferError(reason)
        time.sleep(_PAUSE_SECONDS * tries)
    part.replace(path)


def _open(url: str, have: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"genrecls/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        answer: http.client.HTTPResponse = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except URLError:
        raise
    except OSError as error:  # While the head of the answer is read, urllib wraps nothing.
        raise _Cut(_reason(error)) from error
    return answer


def _offered(answer: http.client.HTTPResponse) -> tuple[int, int]:
    """Offset of the body's first byte in the file (-1: a piece from nobody knows where), and the file's size or 0."""
    length = answer.length or 0
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0, length
    found = _RANGE.match(answer.headers.get("Content-Range") or "")
    if found is None or found["first"] is None:
        return -1, 0
    first = int(found["first"])
    return first, _total(answer.headers) or first + length


def _total(headers: Message) -> int | None:
    """The size of the whole file that a Content-Range header names."""
    found = _RANGE.match(headers.get("Content-Range") or "")
    return int(found["total"]) if found and found["total"] else None


def _receive(
    answer: http.client.HTTPResponse, part: Path, first: int, total: int, what: str, progress: Progress
) -> None:
    """Write the body to the part, from byte `first` on. Raises _Cut where the body is not whole."""
    have = first
    with open(part, "ab" if first else "wb") as file:
        progress(what, have, total)
        while chunk := _read(answer):
            file.write(chunk)
            have += len(chunk)
            progress(what, have, total)
    if have < total:
        raise _Cut(f"the transfer was cut off after {have:,} of {total:,} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    """The next bytes of a body, none at its end. An error here is the network's, not the disk's."""
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(_reason(error)) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, _Cut):
        return str(error)
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {_TIMEOUT_SECONDS:.0f} s"
    words = (getattr(cause, "strerror", None) or str(cause)).rstrip(".") or type(cause).__name__
    return f"no connection, {words[:1].lower() + words[1:]}" if isinstance(error, URLError) else words


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
