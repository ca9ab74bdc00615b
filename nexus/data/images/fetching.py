"""Fetch an image from an address: limited in bytes, in time and in redirects."""

from __future__ import annotations

import http.client
import io
import re
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from nexus.core.errors import ImageError

MAX_BYTES = 256 * 2**20
"""Bytes of an image at an address, at most."""

_REDIRECTS = 5
_CHUNK_BYTES = 2**16
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_BY_HAND = "fetch it another way, and pass the file"


def is_address(text: str) -> bool:
    """Tell whether a text is an address such as https://host/photo.png, and no path.

    Raises:
        ImageError: An address of another kind than http and https, or one that lost a slash.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        return False
    if scheme[1].lower() not in ("http", "https"):
        if text[scheme.end() :].startswith("/"):
            raise ImageError(f"expected an http or https address, got {text!r:.200}", _BY_HAND)
        return False
    if not text[scheme.end() :].startswith("/"):
        raise ImageError(
            f"expected two slashes after {scheme[1] + ':'!r}, got one",
            hint=f"{scheme[1]}://{text[scheme.end() :]:.200}",
        )
    return True


def fetch_image(
    url: str, *, max_bytes: int = MAX_BYTES, timeout_s: float = 30, total_s: float = 600
) -> bytes:
    """Return what is at an address; whether that is an image is for its decoder to tell.

    Args:
        url: http or https; letters that an address cannot have are escaped.
        max_bytes: More is refused, at once where the server says how much there is.
        timeout_s: How long the server may be silent.
        total_s: How long all may take.

    Raises:
        ImageError: No such address, a server that does not answer or refuses, too many redirects
            or one to another kind of address, a body that is too large, cut short or empty.
    """
    end_s = time.monotonic() + total_s
    escaped = urllib.parse.quote(url, safe=string.punctuation)
    try:
        parts = urllib.parse.urlsplit(escaped)
        if parts.username is not None or not parts.hostname:
            raise ImageError(
                "expected an address as http://host/path without a user name, got one of "
                f"{parts.hostname or 'no host'!r}",
                hint=_BY_HAND,
            )
        headers = {"User-Agent": "nexus-segmentation", "Accept-Encoding": "identity"}
        request = urllib.request.Request(escaped, headers={**headers, "Accept": "image/*, */*"})
        opener = urllib.request.build_opener(_Redirects)
        with opener.open(request, timeout=timeout_s) as response:
            return _body(response, url, max_bytes, end_s)
    except urllib.error.HTTPError as error:
        error.close()
        raise ImageError(
            f"expected an image at {url!r:.200}, got HTTP status {error.code} {error.reason!s:.80}"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        cause = getattr(error, "reason", error)
        raise ImageError(
            f"expected an image at {url!r:.200}, got {type(cause).__name__}: {cause!s:.200}"
        ) from error


def _body(response: Any, url: str, max_bytes: int, end_s: float) -> bytes:
    what = f"expected an image at {url!r:.200}"
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isascii() and length.isdigit() else None
    body = io.BytesIO()
    size = 0
    while total is None or size < total:
        if max(size, total or 0) > max_bytes:
            there = "more" if total is None else f"{total:,}"
            limit = f"{max_bytes:,} bytes at most"
            raise ImageError(f"{what} of {limit}, got {there}", hint=_BY_HAND)
        if time.monotonic() > end_s:
            raise ImageError(f"{what} in time, got {size:,} bytes so far", hint=_BY_HAND)
        part = response.read1(_CHUNK_BYTES)
        if not part:
            break
        size += body.write(part)
    if total is not None and size < total:
        raise ImageError(
            f"{what} of {total:,} bytes, got {size:,} before the connection was closed",
            hint="try again",
        )
    if not size:
        raise ImageError(f"{what}, got an empty answer")
    if body.getvalue()[:512].lstrip().startswith(b"<"):  # HTML, XML or SVG, whatever it is called
        raise ImageError(
            f"{what}, got {response.headers.get('Content-Type', 'markup')!s:.80}",
            hint="the address is of a page; in a browser, copy the address of the image itself",
        )
    return body.getvalue()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows few redirects, and none out of encryption; its base stays on the web."""

    max_redirections = _REDIRECTS
    max_repeats = 1

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme.lower() != "https":
            raise ImageError(
                f"expected redirects of {req.full_url!r:.200} to stay on https, "
                f"got one to {newurl!r:.200}",
                hint=_BY_HAND,
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
