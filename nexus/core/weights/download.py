"""Fetch a file over HTTP so that an interrupted transfer goes on where it stopped."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from nexus.core.errors import DownloadError
from nexus.core.progress import Progress

_ATTEMPTS = 4
_FIRST_PAUSE_S = 1.0
_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 20
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class _InterruptedError(Exception):
    """A transfer stopped for a reason that may pass."""


def download(
    url: str, part: Path, *, size: int | None = None, progress: bool | None = None
) -> None:
    """Fetch `url` into `part`, going on from what `part` already holds.

    What an earlier call left in `part` is used only if it came from the same address and the
    server vouches (If-Range) that the file has not changed since; otherwise it starts anew. A few
    passing failures are retried, with growing pauses. `part` is kept when they do not pass.

    Args:
        url: http or https address.
        part: Path of the partial file; a note on where it came from lies beside it.
        size: Bytes the whole file must have, if known.
        progress: Show a bar on stderr; None shows it on a terminal only.

    Raises:
        DownloadError: The server refuses, keeps failing, or announces another size.
        OSError: `part` cannot be written.
    """
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            return _transfer(url, part, size, progress)
        except _InterruptedError as error:
            reason = str(error)
    raise DownloadError(
        f"expected {url}, got {_ATTEMPTS} failures, the last: {reason}",
        hint="run it again: what has arrived is kept, and the transfer goes on from there",
    )


def discard(part: Path) -> None:
    """Remove a partial file and the note beside it."""
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _transfer(url: str, part: Path, size: int | None, progress: bool | None) -> None:
    offset, validator = _resumable(url, part)
    if size is not None and offset == size:
        return
    headers = {"User-Agent": "nexus-segmentation", "Accept-Encoding": "identity"}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            discard(part)
            raise _InterruptedError("the server could not go on from the partial file") from error
        reason = f"HTTP status {error.code} {error.reason}"
        if error.code in _TRANSIENT_STATUS:
            raise _InterruptedError(reason) from error
        raise DownloadError(f"expected {url}, got {reason}") from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            # There is no such host, which waiting does not change.
            raise DownloadError(f"expected {url}, got {_reason(error)}") from error
        raise _InterruptedError(_reason(error)) from error
    with response:
        start = offset if response.status == 206 else 0
        served = response.headers.get("Content-Range", "")
        if response.status == 206 and not served.startswith(f"bytes {offset}-"):
            discard(part)
            reason = "the server sent another part of the file than it was asked for"
            raise _InterruptedError(reason)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if size is not None and total is not None and total != size:
            discard(part)
            kind = response.headers.get("Content-Type", "no type")
            raise DownloadError(
                f"expected {size} bytes from {url}, got {total} bytes of type {kind}"
            )
        if start == 0:
            etag = response.headers.get("ETag", "")
            # A weak ETag does not promise equal bytes, and If-Range must not carry one (RFC 9110).
            validator = etag if etag.startswith('"') else response.headers.get("Last-Modified")
            part.unlink(missing_ok=True)
            _note_path(part).write_text(json.dumps({"url": url, "validator": validator}), "utf-8")
        with part.open("ab" if start else "wb") as file:
            done = _copy(response, file, (start, total, size), progress)
    if size is not None and done > size:
        discard(part)
        raise DownloadError(f"expected {size} bytes from {url}, got more than that")
    if total is not None and done < total:
        raise _InterruptedError(f"the connection closed after {done} of {total} bytes")


def _copy(
    response: http.client.HTTPResponse,
    file: BinaryIO,
    extent: tuple[int, int | None, int | None],
    progress: bool | None,
) -> int:
    """Append the body to `file`, stop above the size wanted, and return where it ended.

    The extent is where the body starts, where it should end, and the size wanted, in bytes.
    """
    done, total, size = extent
    whole = total or size
    with Progress(
        None if whole is None else -(-whole // _CHUNK_BYTES),
        label=Path(file.name).stem,
        unit="MiB",
        done=done // _CHUNK_BYTES,
        shown=sys.stderr.isatty() if progress is None else progress,
    ) as bar:
        while size is None or done <= size:
            try:
                chunk = response.read(_CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _InterruptedError(_reason(error)) from error
            if not chunk:
                break
            file.write(chunk)
            done += len(chunk)
            bar.advance(-(-done // _CHUNK_BYTES) - bar.done)
    return done


def _resumable(url: str, part: Path) -> tuple[int, str]:
    """Return the bytes of `part` that can be built on, and the validator they came with."""
    try:
        note = json.loads(_note_path(part).read_text("utf-8"))
        offset = part.stat().st_size
    except (OSError, ValueError):
        return 0, ""
    validator = note.get("validator") if isinstance(note, dict) else None
    if not validator or note.get("url") != url:
        return 0, ""
    return offset, str(validator)


def _note_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    return f"{type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else str(cause)
