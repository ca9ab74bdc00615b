from __future__ import annotations

import http.server
import io
import threading
import urllib.request
from collections.abc import Iterator
from email.message import Message

import pytest
from PIL import Image

from nexus.core.errors import ImageError
from nexus.data.images.fetching import _Redirects, fetch_image, is_address

PICTURE = io.BytesIO()
Image.new("RGB", (8, 6), "teal").save(PICTURE, "PNG")
PNG = PICTURE.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as servers do, good and bad ones."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.endswith("a.png") or path == "/caf%C3%A9%20x.png":
            self.answer({"Content-Length": str(len(PNG))}, PNG)
        elif path == "/no-length":
            self.answer({}, PNG)
        elif path == "/cut":
            self.answer({"Content-Length": str(len(PNG) + 9)}, PNG)
        elif path == "/cut-chunked":
            self.answer({"Transfer-Encoding": "chunked"}, b"ff\r\nabc")
        elif path == "/announced":
            self.answer({"Content-Length": str(10**12)}, PNG)
        elif path == "/empty":
            self.answer({"Content-Length": "0"}, b"")
        elif path == "/page":
            self.answer({"Content-Type": "text/html; charset=utf-8"}, b"<html>")
        elif path == "/endless":
            self.answer({}, b"")
            try:
                while True:
                    self.wfile.write(bytes(2**16))
            except OSError:
                pass
        elif path == "/silent":
            self.server.released.wait(5)  # type: ignore[attr-defined]
        elif path == "/loop":
            self.answer({"Location": "/loop"}, b"", 302)
        elif path.startswith("/hop"):
            left = int(path[4:])
            self.answer({"Location": f"/hop{left - 1}" if left else "/a.png"}, b"", 302)
        elif path == "/to-file":
            self.answer({"Location": "file:///etc/passwd"}, b"", 302)
        else:
            self.answer({}, b"gone", 404)

    def answer(self, headers: dict[str, str], body: bytes, status: int = 200) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """Yield the address of a server of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.released = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.released.set()  # type: ignore[attr-defined]
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["a.png", "x/a.png?size=2#top", "café x.png", "no-length", "hop3"])
def test_what_is_at_an_address_comes_back(path: str, server: str) -> None:
    """With and without a length, with letters that need escaping, and over redirects."""
    assert fetch_image(f"{server}/{path}") == PNG


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "got HTTP status 404"),
        ("cut", r"got \d+ before the connection was closed"),
        ("cut-chunked", "got IncompleteRead"),
        ("announced", "of 1,000,000 bytes at most, got 1,000,000,000,000"),
        ("endless", "of 1,000,000 bytes at most, got more\nhint: fetch it another way"),
        ("empty", "got an empty answer"),
        ("page", "got text/html; charset=utf-8\nhint: the address is of a page"),
        ("loop", "got HTTP status 302"),
        ("hop9", "got HTTP status 302"),
        ("to-file", "Redirection to url 'file:///etc/passwd' is not allowed"),
    ],
)
def test_a_server_that_misbehaves_is_told(path: str, message: str, server: str) -> None:
    """Nothing that is cut short, too much, or something else passes for an image."""
    with pytest.raises(ImageError, match=message) as caught:
        fetch_image(f"{server}/{path}", max_bytes=1_000_000)

    assert "/" + path in str(caught.value)


def test_silence_and_slowness_end(server: str) -> None:
    """A server that says nothing is given up, and so is one that never ends in time."""
    with pytest.raises(ImageError, match="timed out|TimeoutError"):
        fetch_image(f"{server}/silent", timeout_s=0.05)
    with pytest.raises(ImageError, match="in time, got [0-9,]+ bytes so far"):
        fetch_image(f"{server}/endless", total_s=0.05)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1/a.png", "got ConnectionRefusedError"),
        ("http://127.0.0.1:x/a.png", "got InvalidURL|got ValueError"),
        ("http:///a.png", "expected an address as http://host/path"),
        ("http://me:secret@127.0.0.1/a.png", "without a user name, got one of '127.0.0.1'"),
        ("http://[::1/a.png", "got ValueError"),
    ],
)
def test_an_address_that_leads_nowhere_is_told(url: str, message: str) -> None:
    """No server, no port, no host, and a password, which is not repeated."""
    with pytest.raises(ImageError, match=message) as caught:
        fetch_image(url)

    assert "secret" not in str(caught.value)


def test_redirects_stay_encrypted() -> None:
    """From https there is no way to http."""
    request = urllib.request.Request("https://h/a.png")
    with pytest.raises(ImageError, match="'https://h/a.png' to stay on https, got one to 'http:"):
        _Redirects().redirect_request(request, None, 302, "", Message(), "http://h/a.png")


def test_what_is_an_address_and_what_is_a_path() -> None:
    """Paths stay paths; a lost slash and other kinds of addresses are told."""
    assert is_address("https://h/a.png")
    assert is_address("HTTP://h/a.png")
    assert not any(map(is_address, ["a.png", "/a/b", "c:/a.png", "http", "a:/b", "x/http://h"]))
    with pytest.raises(
        ImageError, match="two slashes after 'http:', got one\nhint: http://h/a.png"
    ):
        is_address("http:/h/a.png")
    with pytest.raises(ImageError, match="expected an http or https address, got 's3://b/a.png'"):
        is_address("s3://b/a.png")
