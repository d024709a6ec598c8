"""One process at a time, and looking is no holding."""

import os
import threading
from pathlib import Path

import pytest

from genrecls import lock
from genrecls.lock import Taken, exclusive, held


def test_held_and_free(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not held(path)
    assert not path.exists()
    with exclusive(path):
        assert held(path)
        with pytest.raises(Taken), exclusive(path):
            pass
    assert not held(path)


def test_looking_does_not_turn_away_who_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes microseconds; here it lasts until the other has been refused once."""
    path = tmp_path / ".lock"
    path.touch()
    with open(path, "rb") as looking:
        lock.fcntl.flock(looking, lock.fcntl.LOCK_SH)
        monkeypatch.setattr(lock.time, "sleep", lambda _: lock.fcntl.flock(looking, lock.fcntl.LOCK_UN))
        with exclusive(path):
            assert held(path)


def test_the_next_waits_until_it_is_free(tmp_path: Path) -> None:
    path, asked, order = tmp_path / ".lock", threading.Event(), []

    def second() -> None:
        with exclusive(path, waiting=asked.set):
            order.append("second")

    with exclusive(path):
        other = threading.Thread(target=second)
        other.start()
        assert asked.wait(60)
        order.append("first")
    other.join(60)
    assert order == ["first", "second"]


def test_what_is_no_file_is_no_lock_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        with pytest.raises(FileExistsError, match=name):
            held(tmp_path / name)
        with pytest.raises(FileExistsError, match=name), exclusive(tmp_path / name):
            pass
