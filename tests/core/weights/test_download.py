"""Transfers that stop go on, transfers of another file start anew, and refusals say why."""

from __future__ import annotations

import random
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from nexus.core.errors import DownloadError
from nexus.core.weights import download as module
from nexus.core.weights.download import discard, download

_CONTENT = random.Random(0).randbytes(50_000)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.0)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth.part"


@pytest.fixture
def server(file_server: Any) -> Any:
    file_server.content = _CONTENT
    return file_server


def test_download_whole(server: Any, part: Path) -> None:
    """An undisturbed transfer is one request without a range."""
    download(server.url, part)

    assert part.read_bytes() == _CONTENT
    assert len(server.requests) == 1
    assert "range" not in server.requests[0]


def test_cut_connection_goes_on_where_it_stopped(server: Any, part: Path) -> None:
    """After each cut the next request asks for the rest only, on condition of the same ETag."""
    server.cuts = [20_000, 10_000]

    download(server.url, part)

    assert part.read_bytes() == _CONTENT
    assert [asked.get("range") for asked in server.requests] == [
        None,
        "bytes=20000-",
        "bytes=30000-",
    ]
    assert server.requests[2]["if-range"] == '"one"'


def test_a_later_call_goes_on(server: Any, part: Path) -> None:
    """What a failed call left is used by the next one."""
    server.cuts = [10_000, 0, 0, 0]
    with pytest.raises(DownloadError, match="closed after 10000 of 50000 bytes") as caught:
        download(server.url, part)
    assert part.stat().st_size == 10_000

    download(server.url, part)

    assert "the transfer goes on from there" in str(caught.value)
    assert part.read_bytes() == _CONTENT
    assert server.requests[-1]["range"] == "bytes=10000-"


def test_changed_file_starts_anew(server: Any, part: Path) -> None:
    """When the file behind the address has changed, no byte of the old one survives."""
    server.cuts = [10_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        download(server.url, part)
    server.etag, server.content = '"two"', _CONTENT[::-1]

    download(server.url, part)

    assert part.read_bytes() == _CONTENT[::-1]


def test_ignored_range_starts_anew(server: Any, part: Path) -> None:
    """A server that sends the whole file instead of the rest does not corrupt it."""
    server.cuts, server.answers_ranges = [10_000], False

    download(server.url, part)

    assert part.read_bytes() == _CONTENT


def test_wrong_range_starts_anew(server: Any, part: Path) -> None:
    """A server that sends another range than asked for is not believed."""
    server.cuts, server.wrong_range = [10_000], True

    download(server.url, part)

    assert part.read_bytes() == _CONTENT
    assert [("range" in asked) for asked in server.requests] == [False, True, False]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_no_strong_validator_starts_anew(server: Any, part: Path, etag: str | None) -> None:
    """Without a promise that the bytes are the same, nothing is joined together."""
    server.etag, server.cuts = etag, [10_000]

    download(server.url, part)

    assert part.read_bytes() == _CONTENT
    assert "range" not in server.requests[1]


def test_another_address_starts_anew(server: Any, part: Path) -> None:
    """A partial file of another source is not built on."""
    server.cuts = [10_000, 0, 0, 0]
    with pytest.raises(DownloadError):
        download(server.url, part)

    download(server.url + "?mirror", part)

    assert part.read_bytes() == _CONTENT
    assert "range" not in server.requests[-1]


def test_stray_part_without_note_is_not_trusted(server: Any, part: Path) -> None:
    """A partial file of unknown origin is replaced."""
    part.write_bytes(b"stray")

    download(server.url, part)

    assert part.read_bytes() == _CONTENT


def test_complete_part_needs_no_request(server: Any, part: Path) -> None:
    """A process that died between the last byte and the rename leaves nothing to fetch."""
    download(server.url, part, size=len(_CONTENT))
    server.requests.clear()

    download(server.url, part, size=len(_CONTENT))

    assert server.requests == []


def test_refused_range_starts_anew(server: Any, part: Path) -> None:
    """Status 416 on a partial file means that it is not a beginning of this file."""
    download(server.url, part)

    download(server.url, part)

    assert part.read_bytes() == _CONTENT
    assert [asked.get("range") for asked in server.requests] == [None, "bytes=50000-", None]


def test_passing_failures_are_retried(server: Any, part: Path) -> None:
    """A busy server is asked again."""
    server.statuses = [503, 429]

    download(server.url, part)

    assert part.read_bytes() == _CONTENT


def test_lasting_failures_end(server: Any, part: Path) -> None:
    """A server that stays busy is given up on, and its last answer is told."""
    server.statuses = [503] * 9

    with pytest.raises(DownloadError, match="4 failures, the last: HTTP status 503"):
        download(server.url, part)

    assert len(server.requests) == 4


def test_missing_file_is_not_retried(server: Any, part: Path) -> None:
    """Status 404 is final."""
    server.statuses = [404]

    with pytest.raises(DownloadError, match=r"weights\.pth, got HTTP status 404"):
        download(server.url, part)

    assert len(server.requests) == 1
    assert not part.exists()


def test_refused_connection_says_so(part: Path) -> None:
    """Nobody listening is told as that."""
    with socket.socket() as idle:
        idle.bind(("127.0.0.1", 0))
        port = idle.getsockname()[1]

    with pytest.raises(DownloadError, match="4 failures, the last: ConnectionRefusedError"):
        download(f"http://127.0.0.1:{port}/weights.pth", part)


def test_unknown_host_is_not_retried(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host name that does not exist is given up on at once."""
    asked = []

    def no_such_host(*args: object, **kwargs: object) -> None:
        asked.append(args)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)

    with pytest.raises(DownloadError, match="Name or service not known"):
        download("http://nowhere.invalid/weights.pth", part)

    assert len(asked) == 1


def test_web_page_instead_of_file(server: Any, part: Path) -> None:
    """An announced size that differs from the known one ends it before the body is read."""
    server.content, server.content_type = b"<html>sign in</html>", "text/html"

    with pytest.raises(DownloadError, match=r"expected 50000 bytes .* got 20 bytes of type text/"):
        download(server.url, part, size=len(_CONTENT))

    assert not part.exists()


def test_endless_body_is_cut_off(server: Any, part: Path) -> None:
    """A body without an announced length is not written much beyond the size wanted."""
    server.announces_length = False

    with pytest.raises(DownloadError, match=r"expected 40000 bytes .* got more than that"):
        download(server.url, part, size=40_000)

    assert not part.exists()


def test_progress_goes_to_stderr_when_asked(
    server: Any, part: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no bar off a terminal, and one on stderr when it is asked for."""
    download(server.url, part)
    silent = capsys.readouterr()
    discard(part)
    download(server.url, part, progress=True)
    shown = capsys.readouterr()

    assert (silent.out, silent.err) == ("", "")
    assert shown.out == ""
    assert re.search(r": 1 MiB in .* s", shown.err)


def test_discard_removes_part_and_note(server: Any, part: Path) -> None:
    """After discarding, nothing of a transfer is left."""
    download(server.url, part)
    discard(part)

    assert list(part.parent.iterdir()) == []
