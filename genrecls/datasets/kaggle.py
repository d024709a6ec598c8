"""Kaggle's own client, run as a process of its own.

Never imported: its import looks for credentials and may end the process, while its command line serves public
data sets to anyone.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from genrecls.datasets.loader import Progress

_BAR = re.compile(r"\b(\d{1,3})%\|")
_CAUSE = re.compile(r"Caused by (\w+)")
_LOGIN = "Authentication required"
_LOGIN_END = "access_token"
_GRACE_SECONDS = 5.0
_LONGEST_REASON = 300


class KaggleError(Exception):
    """The client did not deliver. The message is a clause with its reason."""


def page(dataset: str) -> str:
    """The web page of a data set "owner/name", where a browser can download it."""
    return f"https://www.kaggle.com/datasets/{dataset}"


def archive(dataset: str, folder: Path) -> Path:
    """Where the client puts a data set that it downloads to `folder`."""
    return folder / f"{dataset.split('/')[1]}.zip"


def partial(dataset: str, folder: Path) -> bool:
    """Whether the archive in `folder` is known to be unfinished: the client marks it while it writes."""
    found = archive(dataset, folder)
    return found.with_name(f"{found.name}.kaggle-partial").exists()


def download(dataset: str, folder: Path, progress: Progress) -> Path:
    """Download the data set "owner/name" as a ZIP file into `folder` and return the file's path.

    An interrupted download goes on where it was (the client sees to that, where the server lets it).
    progress gets per cents. On any exception here, Ctrl-C included, the client is ended, too.
    Raises KaggleError where the client is not installed, fails, or leaves no file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "kaggle", "datasets", "download", dataset, "-p", str(folder.resolve())]
    said: list[str] = []
    progress("downloading", 0, 100)
    # In `folder`, lest `-m` finds a folder called kaggle in the user's; unbuffered, so that lines keep their order.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    with _running(command, folder, environment) as (client, output):
        for line in _lines(output):
            if bar := _BAR.search(line):
                progress("downloading", int(bar[1]), 100)
            elif line.strip():
                said.append(line.strip())
        status = client.wait()
    found = archive(dataset, folder)
    if status != 0 or not found.is_file():
        raise KaggleError(_reason(said, status))
    return found


@contextmanager
def _running(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    client = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
    )
    assert client.stdout is not None
    try:
        yield client, client.stdout
    finally:
        client.terminate()
        try:
            client.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            client.kill()
            client.wait()
        client.stdout.close()


def _lines(output: IO[bytes]) -> Iterator[str]:
    """Lines as they come, where a bar that is drawn anew counts as a line."""
    rest = ""
    while chunk := output.read(2**12):
        *lines, rest = re.split(r"[\r\n]", rest + chunk.decode("utf-8", "replace"))
        yield from lines
    yield rest


def _reason(said: list[str], status: int) -> str:
    """Why the client failed: the last thing it said that means something."""
    lines, logins = _without_login_help(said)
    missing = next((line for line in lines if "No module named" in line), None)
    if missing is not None:
        return f"the kaggle package is not installed as it should be: {missing}"
    if not lines or lines[-1].startswith("Dataset URL"):
        if status != 0 and logins > 1:
            return "Kaggle wants a login"
        return f"it ended with status {status} and no file" if status else "it left no file"
    last = lines[-1].rstrip(".")
    if "Max retries exceeded" in last:
        cause = _CAUSE.search(last)
        return f"no connection to Kaggle, {cause[1]}" if cause else "no connection to Kaggle"
    return last if len(last) <= _LONGEST_REASON else f"{last[:_LONGEST_REASON]}…"


def _without_login_help(said: list[str]) -> tuple[list[str], int]:
    """The lines without the client's help on logging in, and how often that came.

    Once is always: it is printed when the package is imported, before the client knows its command needs no login.
    """
    kept, logins, inside = [], 0, False
    for line in said:
        if line.startswith(_LOGIN):
            inside, logins = True, logins + 1
        if not inside:
            kept.append(line)
        elif line.endswith(_LOGIN_END):
            inside = False
    return kept, logins
