"""An array that grows by blocks: what each way of being cut short leaves, and what goes on from it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from genrecls.assembly import resumed

BLOCKS = [b"first", b"", b"third block"]
HEADER = b"head"
WHOLE = HEADER + b"".join(BLOCKS)


def begun(folder: Path, blocks: int) -> None:
    with resumed(folder, len(HEADER)) as array:
        assert array.notes == []
        array.keep(0)
        for number, block in enumerate(BLOCKS[:blocks]):
            array.append(block, {"number": number})


def finished(folder: Path, found: int) -> bytes:
    """Go on where so many blocks are found, to the end."""
    with resumed(folder, len(HEADER)) as array:
        assert array.notes == [{"number": number} for number in range(found)]
        array.keep(found)
        for number in range(found, len(BLOCKS)):
            array.append(BLOCKS[number], {"number": number})
        size, digest = array.publish(folder.parent / "whole", HEADER)
    made = (folder.parent / "whole").read_bytes()
    assert (size, digest) == (len(made), hashlib.sha256(made).hexdigest())
    return made


@pytest.mark.parametrize("blocks", range(4))
def test_who_goes_on_finds_what_is_there(tmp_path: Path, blocks: int) -> None:
    begun(tmp_path / "parts", blocks)
    assert finished(tmp_path / "parts", blocks) == WHOLE


def half_a_block(folder: Path) -> None:
    with open(folder / "array", "ab") as handle:
        handle.write(b"thi")


def lost_bytes(folder: Path) -> None:
    with open(folder / "array", "r+b") as handle:
        handle.truncate(len(HEADER) + 3)


def no_array(folder: Path) -> None:
    (folder / "array").unlink()


def empty_record(folder: Path) -> None:
    (folder / "000000.json").write_bytes(b"")


def record_of_another_kind(folder: Path) -> None:
    (folder / "000001.json").write_text("[]")


def record_without_a_length(folder: Path) -> None:
    (folder / "000001.json").write_text('{"bytes": "none", "note": null}')


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (record_without_a_length, 1),
        (half_a_block, 2),
        (lost_bytes, 0),
        (no_array, 0),
        (empty_record, 0),
        (record_of_another_kind, 1),
    ],
)
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: Callable[[Path], None], found: int) -> None:
    begun(tmp_path / "parts", 2)
    damage(tmp_path / "parts")
    assert finished(tmp_path / "parts", found) == WHOLE


def test_blocks_that_are_not_kept_are_cut_off(tmp_path: Path) -> None:
    begun(tmp_path / "parts", 3)
    with resumed(tmp_path / "parts", len(HEADER)) as array:
        array.keep(1)
        array.append(b"else", None)
        array.publish(tmp_path / "whole", HEADER)
    assert (tmp_path / "whole").read_bytes() == HEADER + b"first" + b"else"


@pytest.mark.parametrize("moment", ["under way", "done"])
def test_who_still_writes_writes_to_no_file_of_others(tmp_path: Path, moment: str) -> None:
    """The first was suspended, its lock removed, and another builds: no byte of the first is in what comes of it."""
    with resumed(tmp_path / "parts", len(HEADER)) as former:
        former.append(b"of the former", None)
        if moment == "under way":
            begun(tmp_path / "parts", 2)
        else:
            finished(tmp_path / "parts", 0)
        with pytest.raises(OSError, match="array"):
            former.publish(tmp_path / "whole", HEADER)
    assert (tmp_path / "whole").exists() == (moment == "done")
    assert finished(tmp_path / "parts", 2 if moment == "under way" else 0) == WHOLE


def test_a_header_of_another_length_is_refused(tmp_path: Path) -> None:
    with resumed(tmp_path / "parts", 4) as array, pytest.raises(ValueError, match="5 bytes, where 4"):
        array.publish(tmp_path / "whole", b"wrong")
