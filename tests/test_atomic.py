"""Files that are whole or absent, and what is no file."""

import os
import threading
from pathlib import Path

import pytest

from genrecls import atomic


def test_a_pipe_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    atomic.check_writable(pipe)
    atomic.write_bytes(pipe, b"all of it", device=True)
    reader.join(30)
    assert read == [b"all of it"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_pipe_that_nobody_named_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        atomic.write_bytes(tmp_path / name, b"all of it")
        assert (tmp_path / name).read_bytes() == b"all of it"
        assert not (tmp_path / name).is_symlink()


def test_what_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("as it was")
    for name in ("there", "new", "deep/new"):
        atomic.check_writable(tmp_path / name)
    assert (tmp_path / "there").read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "there"]


@pytest.mark.parametrize("name", [".", "file/below", "x" * 300])
def test_what_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r".") as raised:
        atomic.check_writable(tmp_path / name)
    assert str(raised.value.filename).startswith(str(tmp_path))
