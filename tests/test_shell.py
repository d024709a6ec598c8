"""What is printed."""

from collections.abc import Callable
from pathlib import Path

from conftest import CommandLine


def test_a_name_cannot_command_the_terminal(cli: CommandLine, tmp_path: Path, make_clip: Callable[..., None]) -> None:
    for genre, pitch in (("high", 3000.0), ("low", 150.0)):
        for number in range(3):
            make_clip(tmp_path / "music" / genre / f"{number}.wav", pitch + number)
    (tmp_path / "music" / "high" / "\x1b[2J\x07.wav").write_bytes(b"no audio")
    (tmp_path / "no-\udcff").mkdir()
    done = cli("preprocess", "folder", "--data-dir", tmp_path / "no-\udcff", "--res", tmp_path)
    assert done.stderr.startswith(f"Error: {tmp_path}/no-\N{REPLACEMENT CHARACTER} holds no audio files")
    assert done.stderr.count("\n") == 1
    given = ("preprocess", "folder", "--data-dir", tmp_path / "music", "--res", tmp_path)
    text = cli(*given)
    assert (text.status, "\x1b" in text.stdout + text.stderr) == (0, False)
    assert "left out: high/\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}.wav" in text.stdout
    assert cli.json(*given)["failed"][0]["clip"] == "high/\x1b[2J\x07.wav"
