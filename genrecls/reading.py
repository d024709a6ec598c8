"""Files that may be damaged: read within limits, and believed only where their types are what they should be.

A file on the disk may be cut short, overwritten, linked to a device or edited by hand. Whoever reads one gets either a
value that holds what it promises or `Damaged`, and never another exception, an endless wait or gigabytes of memory.
"""

import csv
import io
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

T = TypeVar("T", int, float, str, bool, dict[str, Any], list[Any])

DEEPEST = 64
"""Levels of objects and lists in JSON and TOML. What this tool writes has fewer than ten."""
LONGEST_TEXT = 64 << 20
"""Bytes of a file that is read as a whole, where nothing else is said."""
LONGEST_TABLE = 1 << 30
"""Bytes of a CSV file with a row for each clip. The largest corpus known here has tables of 300 MB."""
LONGEST_JSON = 16 << 20
"""Bytes of one JSON value: as Python objects it may take thirty times as much memory."""
LONGEST_TOML = 1 << 18
"""Bytes of a TOML file. Its parser takes quadratic time on some."""
LONGEST_CELL = 1 << 17
"""Characters of a cell of a CSV file: the limit that the csv module has by itself."""
_MOST_DOTS = 1000
"""In a line of TOML: the parser takes quadratic time on a dotted key."""
_INTEGERS = range(-(2**63), 2**63)

_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
_NAMES: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}
_HALVES = re.compile(rb"\\u[dD][89a-fA-F]")
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_REAL = re.compile(r"-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_NPY_MAGIC = b"\x93NUMPY"
_NPY_LONGEST = 4096
_NPY = re.compile(
    r"\{'descr': '(?P<dtype>[<|](?:b1|[iu][1248]|f[248]))', 'fortran_order': False, "
    r"'shape': \((?P<shape>(?:[0-9]{1,18}, ?)*(?:[0-9]{1,18})?)\),? ?\} *\n"
)


class Damaged(ValueError):
    """Why a file cannot be believed: the reason alone, without its path and without a full stop."""


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading; links are followed.

    Raises Damaged for a folder, pipe, socket or device, none of which is waited for, and OSError as the system
    reports it (FileNotFoundError where there is none).
    """
    size(path)  # Before it is opened: that alone may wait, or do something to a device.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as handle:
        _check_regular(os.fstat(descriptor).st_mode)
        yield handle


def size(path: Path) -> int:
    """The size in bytes of a regular file. Raises Damaged where it is another kind of file, OSError as `opened`.

    To be called before other libraries open a file, which would wait for a pipe.
    """
    found = path.stat()
    _check_regular(found.st_mode)
    return found.st_size


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = (name for test, name in _KINDS.items() if test(mode))
        raise Damaged(f"it is {next(kinds, 'something else')} and no file")


def read_bytes(path: Path, limit: int = LONGEST_TEXT) -> bytes:
    """The content of a regular file. Raises Damaged where it is none or has more than `limit` bytes, OSError."""
    with opened(path) as handle:
        # No more than is there: Python takes the memory before it reads.
        content = handle.read(min(limit, os.fstat(handle.fileno()).st_size) + 1)
    if len(content) > limit:
        raise Damaged(f"it has more than {limit:,} bytes")
    return content


def text(content: bytes) -> str:
    """UTF-8, without the mark of byte order that some editors put before it. Raises Damaged where it is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Damaged(f"it is not UTF-8 (byte {error.start})") from None


def json_value(content: bytes) -> Any:
    """A JSON value whose numbers are finite and of 64 bits, and which has no key twice. Raises Damaged.

    Its texts can be encoded, as UTF-8 or as the name of a file that is none.
    """
    if len(content) > LONGEST_JSON:
        raise Damaged(f"it has more than {LONGEST_JSON:,} bytes")
    try:
        found = json.loads(
            text(content),
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_number,
            object_pairs_hook=_object,
        )
    except Damaged:
        raise
    except ValueError as error:
        raise Damaged(f"it is not valid JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(found)
    if _HALVES.search(content):
        try:
            json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise Damaged("it has half a character in a text") from None
    return found


def json_object(content: bytes) -> dict[str, Any]:
    """A JSON object, as `json_value`."""
    found = json_value(content)
    if not isinstance(found, dict):
        raise Damaged("it is no JSON object")
    return found


def json_lines(content: bytes) -> list[dict[str, Any]]:
    """JSON objects, one a line; none in an empty file. Raises Damaged, which names the line."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json_object(line))
        except Damaged as error:
            raise Damaged(f"line {number}: {error}") from None
    return found


def _integer(digits: str) -> int:
    if len(digits) > 20 or (value := int(digits)) not in _INTEGERS:
        raise Damaged("a whole number is beyond 64 bits")
    return value


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise Damaged("a number is too large")
    return value


def _no_number(name: str) -> NoReturn:
    raise Damaged(f"it has {name} where a number belongs")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Damaged(f"{name[:40]!r} is in it twice")
        found[name] = value
    return found


def toml(content: bytes) -> dict[str, Any]:
    """The tables of a TOML file, whose numbers are finite and of 64 bits. Raises Damaged."""
    if len(content) > LONGEST_TOML:
        raise Damaged(f"it has more than {LONGEST_TOML:,} bytes")
    decoded = text(content)
    if any(line.count(".") > _MOST_DOTS for line in decoded.split("\n")):
        raise _too_deep()
    try:
        found = tomllib.loads(decoded)
    except ValueError as error:
        raise Damaged(f"it is not valid TOML: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(found)
    return found


def _too_deep() -> Damaged:
    return Damaged(f"it is nested more than {DEEPEST} levels deep")


def _check_depth(value: object) -> None:
    """Raise Damaged for a value that is too deep, or, from TOML, has a number that is infinite or beyond 64 bits."""
    level: list[tuple[str, object]] = [("", value)]
    for _ in range(DEEPEST + 1):
        inner: list[tuple[str, object]] = []
        nested = False
        for name, each in level:
            nested = nested or isinstance(each, dict | list)
            if isinstance(each, dict):
                inner += [(f"{name}.{key}" if name else key, below) for key, below in each.items()]
            elif isinstance(each, list):
                inner += [(name, below) for below in each]
            elif isinstance(each, int) and each not in _INTEGERS:
                raise Damaged(f"{name} is a whole number beyond 64 bits")
            elif isinstance(each, float) and not math.isfinite(each):
                raise Damaged(f"{name} is {each}, which is not finite")
        if not nested:
            return
        level = inner
    raise _too_deep()


def csv_rows(content: bytes, columns: Sequence[str] | None = None) -> list[list[str]]:
    """The rows of a CSV file, each of as many cells as the first. Raises Damaged as `csv_lines`, and for an empty file.

    columns: what the first row must be; it is left out then. Without, the first row is of the result.
    """
    rows: list[list[str]] = []
    for line, row in csv_lines(io.StringIO(text(content), newline="")):
        if rows and len(row) != len(rows[0]):
            raise Damaged(f"line {line} has {len(row)} cells instead of {len(rows[0])}")
        if not rows and columns is not None and row != list(columns):
            raise Damaged(f"its columns are not {', '.join(columns)}")
        rows.append(row)
    if not rows:
        raise Damaged("it is empty")
    return rows if columns is None else rows[1:]


def csv_lines(lines: Iterable[str], longest: int = LONGEST_CELL) -> Iterator[tuple[int, list[str]]]:
    """The rows of strict CSV as they come, each with the number of its last line; blank lines are left out.

    lines: of a text that was opened with `newline=""`, such as UTF-8 from `opened`. longest: characters of a cell.
    Raises Damaged, which names the line.
    """
    reader = csv.reader(_without_nul(lines), strict=True)
    while True:
        # The limit is the process's: it is put back for those who rely on it.
        usual = csv.field_size_limit(longest)
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise Damaged(f"line {reader.line_num} is not valid CSV: {error}") from None
        except UnicodeDecodeError:
            raise Damaged(f"it is not UTF-8 behind line {reader.line_num}") from None
        finally:
            csv.field_size_limit(usual)
        if row is None:
            return
        if row:
            yield reader.line_num, row


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise Damaged("it has a NUL character")
        yield line


def npy_header(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape, type (such as "<f4") and offset in bytes of the array in a `.npy` file, which must be as long as they say.

    Of what NumPy can write, plain numbers row by row are taken, in the order of bytes of x86 and ARM.
    Raises Damaged, and OSError as `opened`.
    """
    with opened(path) as handle:
        head = handle.read(len(_NPY_MAGIC) + 4)
        if len(head) < len(_NPY_MAGIC) + 4 or not head.startswith(_NPY_MAGIC) or head[6:8] != b"\x01\x00":
            raise Damaged("it does not begin as a .npy file does")
        length = int.from_bytes(head[8:10], "little")
        line = handle.read(length) if length <= _NPY_LONGEST else b""
        there = os.fstat(handle.fileno()).st_size
    found = _NPY.fullmatch(line.decode("latin-1"))
    if found is None or len(line) != length:
        raise Damaged("its .npy header is no description of an array of numbers")
    shape = tuple(int(each) for each in found["shape"].split(",") if each.strip())
    offset = len(head) + length
    if there != (needed := offset + math.prod(shape) * int(found["dtype"][2:])):
        raise Damaged(f"it has {there:,} bytes instead of {needed:,}")
    return shape, found["dtype"], offset


def field(found: Mapping[str, Any], name: str, kind: type[T], low: float | None = None, high: float | None = None) -> T:
    """A field of an object, of that type and in that range, both ends of which are allowed.

    kind: int, float (which takes whole numbers, too), str, bool, dict or list; true and false are no numbers.
    low, high: of a number, or of the length of a text, list or object. Raises Damaged, which names the field.
    """
    if name not in found:
        raise Damaged(f"it lacks {name!r}")
    return checked(found[name], name, kind, low, high)


def optional(
    found: Mapping[str, Any], name: str, kind: type[T], low: float | None = None, high: float | None = None
) -> T | None:
    """As `field`, but None where the field is absent or null."""
    return None if found.get(name) is None else field(found, name, kind, low, high)


def items(found: Mapping[str, Any], name: str, kind: type[T]) -> list[T]:
    """A field that is a list, each element of that type. Raises Damaged, which names the field."""
    return [checked(each, f"an element of {name}", kind) for each in field(found, name, list)]


def checked(value: object, name: str, kind: type[T], low: float | None = None, high: float | None = None) -> T:
    """The value, which must be of that type and in that range, as for `field`. name: what a message calls it."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Damaged(f"{name} is not {_NAMES[kind]}")
    measure = len(value) if isinstance(value, str | dict | list) else value
    of = "the length of " if isinstance(value, str | dict | list) else ""
    assert isinstance(measure, int | float)
    if not math.isfinite(measure):
        raise Damaged(f"{name} is {measure}")
    if low is not None and measure < low:
        raise Damaged(f"{of}{name} is {measure}, less than {low}")
    if high is not None and measure > high:
        raise Damaged(f"{of}{name} is {measure}, more than {high}")
    return value


def number(cell: str, name: str, kind: type[T], low: float | None = None, high: float | None = None) -> T:
    """The int or float in a cell of a CSV file, in that range. Raises Damaged, which names its column `name`."""
    if not (_WHOLE if kind is int else _REAL).fullmatch(cell):
        raise Damaged(f"{name} is {cell[:40]!r}, which is not {_NAMES[kind]}")
    return checked(int(cell) if kind is int else float(cell), name, kind, low, high)
