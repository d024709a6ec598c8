"""Downloads over HTTP: whole, or kept to be gone on with, whatever the server does."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from web import Server, serving, without_proxies

from genrecls.datasets import transfer
from genrecls.datasets.transfer import TransferError, download, part_of

CONTENT = bytes(i * i % 251 for i in range(300_000))
OTHER = CONTENT[::-1]
Steps = list[tuple[str, int, int]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    without_proxies(monkeypatch)
    monkeypatch.setattr(transfer, "_PAUSE_SECONDS", 0.0)
    with serving() as plan:
        plan.files["a.zip"] = CONTENT
        yield plan


def fetch(server: Server, folder: Path) -> Steps:
    steps: Steps = []
    download(f"{server.url}a.zip", folder / "a.zip", lambda *step: steps.append(step))
    return steps


def ranges(server: Server) -> list[str | None]:
    return [asked for _, asked in server.requests]


def test_a_file_comes_whole_with_its_bytes_counted(server: Server, tmp_path: Path) -> None:
    steps = fetch(server, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert ranges(server) == [None]
    assert steps[0] == ("downloading a.zip", 0, 300_000)
    assert steps[-1] == ("downloading a.zip", 300_000, 300_000)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_an_empty_file(server: Server, tmp_path: Path) -> None:
    server.files["a.zip"] = b""
    fetch(server, tmp_path)
    assert (tmp_path / "a.zip").read_bytes() == b""


def test_a_file_of_unsaid_length(server: Server, tmp_path: Path) -> None:
    server.lengths = False
    assert fetch(server, tmp_path)[-1] == ("downloading a.zip", 300_000, 0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_cut_transfer_is_taken_up_where_it_was(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0, 70_000]
    fetch(server, tmp_path)
    assert ranges(server) == [None, "bytes=100000-", "bytes=100000-", "bytes=170000-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_five_cuts_in_a_row_are_enough_and_the_next_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.cuts = [50_000, 10, 10, 10, 10]
    with pytest.raises(TransferError, match="the transfer was cut off after 50,040 of 300,000 bytes"):
        fetch(server, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip.part"]
    fetch(server, tmp_path)
    assert ranges(server)[-1] == "bytes=50040-"
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_cuts_that_brought_enough_are_not_counted(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_WORTHWHILE", 20_000)
    server.cuts = [20_000] * 12
    fetch(server, tmp_path)
    assert len(server.requests) == 13
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [100_000, 50_000]
    fetch(server, tmp_path)
    assert ranges(server) == [None, "bytes=100000-", "bytes=50000-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "a.zip").write_bytes(CONTENT)
    assert fetch(server, tmp_path) == []
    assert ranges(server) == ["bytes=300000-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_begins_anew(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "a.zip").write_bytes(CONTENT + b"more")
    fetch(server, tmp_path)
    assert ranges(server) == ["bytes=300004-", None]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_file_whose_size_changes_meanwhile_begins_anew(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = [100_000]

    def change(seconds: float) -> None:
        server.files["a.zip"] = OTHER + b"more"

    monkeypatch.setattr(transfer.time, "sleep", change)
    fetch(server, tmp_path)
    assert ranges(server) == [None, "bytes=100000-", None]
    assert (tmp_path / "a.zip").read_bytes() == OTHER + b"more"


@pytest.mark.parametrize("piece", ["bytes 7-299999/300000", "nonsense", ""])
def test_a_piece_from_elsewhere_is_not_used(server: Server, tmp_path: Path, piece: str) -> None:
    part_of(tmp_path / "a.zip").write_bytes(CONTENT[:1000])
    server.piece = piece
    fetch(server, tmp_path)
    assert ranges(server) == ["bytes=1000-", None]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_what_is_not_there_is_said_at_once_and_the_part_stays(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "a.zip").write_bytes(CONTENT[:1000])
    server.files.clear()
    with pytest.raises(TransferError, match="the server says 404 Not Found"):
        fetch(server, tmp_path)
    assert len(server.requests) == 1
    assert part_of(tmp_path / "a.zip").read_bytes() == CONTENT[:1000]


def test_a_server_out_of_order_is_asked_again_only_in_the_middle(server: Server, tmp_path: Path) -> None:
    server.statuses = [503]
    with pytest.raises(TransferError, match="the server says 503 Service Unavailable"):
        fetch(server, tmp_path)
    server.cuts = [100_000]

    def stumble(what: str, done: int, total: int) -> None:
        if done == 0:
            server.statuses.append(503)

    download(f"{server.url}a.zip", tmp_path / "a.zip", stumble)
    assert ranges(server) == [None, None, "bytes=100000-", "bytes=100000-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_no_server(server: Server, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody can answer there
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.zip"
        with pytest.raises(TransferError, match="no connection, connection refused"):
            download(url, tmp_path / "a.zip", lambda *_: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:port/a.zip", "http://127.0.0.1/a b.zip"])
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(TransferError, match=r"nonnumeric port|can't contain control characters"):
        download(url, tmp_path / "a.zip", lambda *_: None)


def test_an_interruption_keeps_what_came(server: Server, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}a.zip", tmp_path / "a.zip", interrupt)
    kept = part_of(tmp_path / "a.zip").read_bytes()
    assert len(kept) > 100_000
    assert kept == CONTENT[: len(kept)]


def test_a_disk_that_refuses_is_not_the_networks_fault(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path / "a.zip").mkdir()
    with pytest.raises(IsADirectoryError):
        fetch(server, tmp_path)
