"""A web server of a test's own that misbehaves as told."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Server:
    """What it serves and how. url: ends with a slash.

    files: content by name. requests: (name, Range header) of each. cuts: of the next answers, how many bytes of the
    body come before the connection breaks. statuses: of the next answers, instead of the usual. ranges: whether it
    knows the Range header.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    piece: str = "bytes {first}-{last}/{total}"
    lengths: bool = True


class _Handler(BaseHTTPRequestHandler):
    plan: Server

    def do_GET(self) -> None:
        name, asked = self.path.rpartition("/")[2], self.headers.get("Range")
        self.plan.requests.append((name, asked))
        if self.plan.statuses:
            self._head(self.plan.statuses.pop(0))
            return
        if name not in self.plan.files:
            self._head(404)
            return
        content = self.plan.files[name]
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.plan.ranges else 0
        if first and first >= len(content):
            self._head(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        body = content[first:]
        headers = {"Content-Length": str(len(body))} if self.plan.lengths else {}
        if first:
            span = self.plan.piece.format(first=first, last=len(content) - 1, total=len(content))
            headers |= {"Content-Range": span} if span else {}
        self._head(206 if first else 200, headers)
        self.wfile.write(body[: self.plan.cuts.pop(0)] if self.plan.cuts else body)

    def _head(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} if headers is None else headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    """A server on this machine while the block runs."""
    plan = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"plan": plan}))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    plan.url = f"http://127.0.0.1:{http.server_port}/fma/"
    try:
        yield plan
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def without_proxies(patch: pytest.MonkeyPatch) -> None:
    """Requests go to this machine, whatever the tests were started with."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        patch.delenv(name)
