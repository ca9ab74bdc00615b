"""A file server on this machine that misbehaves on request."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest


@dataclass
class FileServer:
    """What the server sends, how it fails, and what it was asked for.

    Attributes:
        content: The file.
        etag: ETag header, quotes included, or None.
        content_type: Content-Type header.
        answers_ranges: Honour Range; otherwise the whole file is sent every time.
        announces_length: Send Content-Length.
        cuts: For each coming response, after how many bytes to close the connection.
        statuses: For each coming response, an error status to send instead of the file.
        wrong_range: Answer a range with another one than was asked for.
        requests: The headers of every request so far, names in lower case.
        url: Address of the file.
    """

    content: bytes = b""
    etag: str | None = '"one"'
    content_type: str = "application/octet-stream"
    answers_ranges: bool = True
    announces_length: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    wrong_range: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


def _handler(server: FileServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = {name.lower(): value for name, value in self.headers.items()}
            server.requests.append(asked)
            if server.statuses:
                self.send_error(server.statuses.pop(0))
                return
            body, start = server.content, 0
            fresh = asked.get("if-range") in (None, server.etag)
            if server.answers_ranges and fresh and "range" in asked:
                start = int(asked["range"].removeprefix("bytes=").removesuffix("-"))
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                start -= 1 if server.wrong_range else 0
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            self.send_header("Content-Type", server.content_type)
            if server.etag is not None:
                self.send_header("ETag", server.etag)
            if server.announces_length:
                self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            end = start + server.cuts.pop(0) if server.cuts else len(body)
            self.wfile.write(body[start:end])

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """Serve one file on 127.0.0.1."""
    state = FileServer()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(state)) as server:
        state.url = f"http://127.0.0.1:{server.server_port}/weights.pth"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()
