"""Files that may be damaged give a value that holds what it promises, or `Damaged`."""

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrecls import reading
from genrecls.reading import Damaged

DEEP = 100_000


def test_regular_files_are_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert reading.read_bytes(tmp_path / "link") == b"content"
    assert reading.read_bytes(tmp_path / "file", limit=7) == b"content"
    assert reading.size(tmp_path / "link") == 7
    with pytest.raises(Damaged, match="more than 6 bytes"):
        reading.read_bytes(tmp_path / "file", limit=6)
    with pytest.raises(FileNotFoundError):
        reading.read_bytes(tmp_path / "none")


def test_nothing_else_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 bytes
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for name, kind in {"pipe": "a pipe", "zero": "a device", "socket": "a socket", ".": "a folder"}.items():
            with pytest.raises(Damaged, match=rf"^it is {kind} and no file$"):
                reading.read_bytes(tmp_path / name)
            with pytest.raises(Damaged, match=kind):
                reading.size(tmp_path / name)
            with pytest.raises(Damaged, match=kind):
                reading.npy_header(tmp_path / name)


def test_text_is_utf8() -> None:
    assert reading.text("\ufeffé\r\n".encode()) == "é\r\n"
    with pytest.raises(Damaged, match="byte 1"):
        reading.text(b"a\xff")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * DEEP, "nested more than 64"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested more than 64"),
        (b"[" * 65 + b"]" * 65, "nested more than 64"),
        (b"[NaN]", "NaN"),
        (b"-Infinity", "-Infinity"),
        (b"1e400", "too large"),
        (b"1" * 400, "64 bits"),
        (b"9223372036854775808", "64 bits"),
        (b"1" * 5000, "64 bits"),
        (b'{"a": 1, "a": 2}', "'a' is in it twice"),
        (b'{"a": "\\ud800"}', "half a character"),
        (b'{"\\uDFFF": 1}', "half a character"),
        (b'{"a": 1', "valid JSON"),
        (b"", "valid JSON"),
        (b'"\xff"', "UTF-8"),
        (b" " * (reading.LONGEST_JSON + 1), "bytes"),
    ],
    ids=lambda value: value[:12],
)
def test_json_that_is_none(content: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        reading.json_value(content)


def test_json_values() -> None:
    assert reading.json_value(b"[" * 64 + b"1" + b"]" * 64)
    assert reading.json_value(b'{"a": [1, -9223372036854775808, 0.5, null, true]}') == {
        "a": [1, -(2**63), 0.5, None, True]
    }
    assert reading.json_value(b'["\\ud83c\\udfb5", "\\udcff"]') == ["\N{MUSICAL NOTE}", "\udcff"]
    with pytest.raises(Damaged, match="no JSON object"):
        reading.json_object(b"[]")
    assert reading.json_lines(b"") == []
    assert reading.json_lines(b'{"a": 1}\n{}\n') == reading.json_lines(b'{"a": 1}\n{}') == [{"a": 1}, {}]
    for content in (b"{}\n[]\n", b'{}\n{"a', b"{}\n\n{}\n"):
        with pytest.raises(Damaged, match=r"^line 2: "):
            reading.json_lines(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a = " + b"[" * DEEP, "nested more than 64"),
        (b"a = " + b"{a=" * (DEEP // 2), "nested more than 64"),
        (b"a" + b".a" * DEEP + b" = 1", "nested more than 64"),
        (b"[" + b".".join([b"a"] * 100) + b"]", "nested more than 64"),
        (b"[a]\nb = inf", "a.b is inf"),
        (b"a = [1, nan]", "a is nan"),
        (b"a = 1e400", "a is inf"),
        (b"a.b.c = " + b"1" * 400, "a.b.c is a whole number beyond 64 bits"),
        (b"a = 0x" + b"f" * 400, "64 bits"),
        (b"a = " + b"1" * 5000, "valid TOML"),
        (b"a = 1\na = 2", "valid TOML"),
        (b"a = '\xff'", "UTF-8"),
        (b"#" * (reading.LONGEST_TOML + 1), "bytes"),
    ],
    ids=lambda value: value[:12],
)
def test_toml_that_is_none(content: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        reading.toml(content)


def test_toml_tables() -> None:
    assert reading.toml(b"\xef\xbb\xbf[a]\r\nb = [1, 2.5]\r\n") == {"a": {"b": [1, 2.5]}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"a,b\n1\n", "line 2 has 1 cells instead of 2"),
        (b"a,c\n1,2\n", "columns are not a, b"),
        (b"a,b\n1,\0\n", "NUL"),
        (b'a,b\n1,"2\n', "line 2 is not valid CSV"),
        (b'a,b\n1,"2"3\n', "line 2 is not valid CSV"),
        (b"a,b\n1," + b"2" * 200_000, "field larger than field limit"),
        (b"a,b\n1,\xff\n", "UTF-8"),
    ],
    ids=lambda value: value[:12],
)
def test_csv_that_is_none(content: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        reading.csv_rows(content, ("a", "b"))


def test_csv_rows() -> None:
    content = b'a,b\r\n"1\n\r",2\r\n'
    assert reading.csv_rows(content, ("a", "b")) == [["1\n\r", "2"]]
    assert reading.csv_rows(content) == [["a", "b"], ["1\n\r", "2"]]


@pytest.mark.parametrize(
    "array", [np.zeros((0, 128), "<f4"), np.arange(3, dtype="<i2"), np.float64(1), np.ones((2, 3, 4))]
)
def test_npy_headers(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "a.npy", array)
    shape, dtype, offset = reading.npy_header(tmp_path / "a.npy")
    assert (shape, np.dtype(dtype)) == (array.shape, array.dtype)
    assert (tmp_path / "a.npy").read_bytes()[offset:] == array.tobytes()


def test_mangled_npy_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((5, 2), "<f4"))
    whole = path.read_bytes()
    for mangled in (
        b"",
        whole[:9],
        whole[:-1],
        whole + b"\0",
        b"x" + whole[1:],
        whole.replace(b"\x01\x00", b"\x03\x00", 1),
        whole[:8] + b"\xff\xff" + whole[10:],
        whole.replace(b"(5, 2)", b"(5, 3)"),
        whole.replace(b"(5, 2)", b"(-5, 2)"),
        whole.replace(b"(5, 2)", b"((5, 2"),
        whole.replace(b"(5, 2), }    ", b"(99999999999)"),
        whole.replace(b"False", b"True "),
        whole.replace(b"'<f4'", b"'|O4'"),
        whole.replace(b"'<f4'", b"'<f4\xff"),
    ):
        path.write_bytes(mangled)
        with pytest.raises(Damaged):
            reading.npy_header(path)


def test_fields_are_of_their_type_and_range() -> None:
    found = {"n": 3, "x": 0.5, "s": "text", "b": True, "l": ["a"], "o": {}, "none": None}
    assert reading.field(found, "n", int, 3, 3) == 3
    x = reading.field(found, "n", float)
    assert (x, type(x)) == (3.0, float)
    assert reading.field(found, "s", str, high=4) == "text"
    assert reading.field(found, "b", bool) is True
    assert reading.field(found, "o", dict) == {}
    assert reading.items(found, "l", str) == ["a"]
    assert reading.optional(found, "none", int) is reading.optional(found, "missing", int) is None
    assert reading.optional(found, "n", int) == 3
    wrong: tuple[tuple[str, Any, str], ...] = (
        ("missing", int, "it lacks 'missing'"),
        ("b", int, "b is not a whole number"),
        ("b", float, "b is not a number"),
        ("n", bool, "n is not true or false"),
        ("x", int, "x is not a whole number"),
        ("none", str, "none is not a text"),
        ("l", dict, "l is not an object"),
        ("o", list, "o is not a list"),
        ("s", float, "s is not a number"),
    )
    for name, kind, reason in wrong:
        with pytest.raises(Damaged, match=rf"^{reason}$"):
            reading.field(found, name, kind)
    with pytest.raises(Damaged, match=r"^n is 3, more than 2$"):
        reading.field(found, "n", int, 0, 2)
    with pytest.raises(Damaged, match=r"^n is 3, less than 4$"):
        reading.field(found, "n", int, 4)
    with pytest.raises(Damaged, match=r"^the length of s is 4, more than 3$"):
        reading.field(found, "s", str, high=3)
    with pytest.raises(Damaged, match="x is nan"):
        reading.checked(float("nan"), "x", float)
    with pytest.raises(Damaged, match="an element of l is not a number"):
        reading.items(found, "l", float)


def test_numbers_in_cells() -> None:
    assert reading.number("-12", "n", int) == -12
    assert reading.number("1.5e-3", "x", float, 0, 1) == 1.5e-3
    for cell, kind in (("1_0", int), (" 1", int), ("1.5", int), ("٣", int), ("", int), ("nan", float), ("inf", float)):
        with pytest.raises(Damaged, match=r"^n is '"):
            reading.number(cell, "n", kind)
    with pytest.raises(Damaged, match="n is inf"):
        reading.number("1e999", "n", float)
    with pytest.raises(Damaged, match="more than 5"):
        reading.number("6", "n", int, 0, 5)
