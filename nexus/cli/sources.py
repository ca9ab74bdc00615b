"""Images as people name them on a command line: files, folders, patterns, addresses, stdin."""

from __future__ import annotations

import glob
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nexus.core.errors import ImageError, InputError

STDIN = "-"

_UNFIT = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')
_MAGIC = re.compile(r"[*?[]")
_LONGEST_NAME = 100


@dataclass(frozen=True)
class ImageSource:
    """One image to be read.

    Attributes:
        text: How it was named: a path, an address, or "-" for stdin.
        kind: "file", "address" or "stdin".
    """

    text: str
    kind: str = "file"

    @property
    def label(self) -> str:
        """What messages and files call it."""
        return "stdin" if self.kind == "stdin" else self.text

    @property
    def title(self) -> str:
        """The label as any stream can print it."""
        return self.label if self.label.isprintable() else ascii(self.label)

    @property
    def file_name(self) -> str:
        """What a COCO file calls it, with forward slashes."""
        return Path(self.text).as_posix() if self.kind == "file" else self.label

    @property
    def identity(self) -> str:
        """The same for the same image, however it is named and wherever from."""
        return os.path.abspath(self.text) if self.kind == "file" else self.label  # noqa: PTH100

    @property
    def path(self) -> Path | None:
        """The file, without links; None if it is none."""
        return Path(self.text).resolve() if self.kind == "file" else None

    @property
    def names(self) -> tuple[str, str]:
        """A name for what is written about it, and a longer one where others have that too."""
        if self.kind == "file":
            path = Path(self.text)
            return path.stem, f"{path.resolve().parent.name}-{path.stem}"
        if self.kind == "stdin":
            return "stdin", "from-stdin"
        parts = urllib.parse.urlsplit(self.text)
        file = PurePosixPath(urllib.parse.unquote(parts.path)).stem
        host = parts.hostname or "address"
        return _fit(file or host), _fit(f"{host}-{file}")

    def load(self, max_pixels: int | None) -> Any:
        """Return the image as `load_image` does.

        Raises:
            ImageError: It cannot be read or used.
        """
        from nexus.data.images.fetching import fetch_image
        from nexus.data.images.loading import load_image

        if self.kind == "file":
            try:
                self.text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ImageError(
                    f"expected a file name in UTF-8, got {self.text!a}", hint="rename the file"
                ) from error
            return load_image(self.text, max_pixels=max_pixels)
        content = _read_stdin() if self.kind == "stdin" else fetch_image(self.text)
        try:
            return load_image(content, max_pixels=max_pixels)
        except ImageError as error:
            message = error.message.replace("encoded bytes", f"what came from {self.label!r:.200}")
            raise ImageError(message, error.hint) from error


def image_sources(texts: Sequence[str], leave_out: Path | None = None) -> list[ImageSource]:
    """Return the images that are named, each once, in the order given.

    A folder is searched with the folders in it, for files that end like images; a pattern such as
    "scans/*.png" (`**` for any folders) is looked up unless a file has that very name. A file is
    taken whatever its ending, whether it is there or not.

    Args:
        texts: Paths, patterns, http and https addresses, "-" for stdin.
        leave_out: A folder whose files are not looked for, such as the one written into.

    Raises:
        InputError: A folder without images, one that is left out, or a pattern that fits nothing.
        ImageError: An address of another kind.
    """
    from nexus.data.images.fetching import is_address

    barred = None if leave_out is None else leave_out.resolve()
    found: dict[str, ImageSource] = {}

    def add(text: str, kind: str = "file") -> None:
        source = ImageSource(text, kind)
        found.setdefault(source.identity, source)

    for text in texts:
        if text == STDIN:
            add(text, "stdin")
        elif not os.path.lexists(text) and is_address(text):
            add(text, "address")
        else:
            for path in _paths(text, barred):
                add(str(path))
    return [*found.values()]


def _paths(text: str, barred: Path | None) -> Iterator[Path]:
    path = Path(text)
    if not text:
        raise InputError("expected the name of an image, got an empty one")
    if path.is_dir():
        yield from _below(path, barred)
    elif os.path.lexists(text) or not _MAGIC.search(text):
        yield path
    else:
        yield from _fitting(text, barred)


def _below(folder: Path, barred: Path | None) -> list[Path]:
    from nexus.data.formats.dataset import images_below

    if folder.resolve() == barred:
        raise InputError(
            f"expected results in a folder without inputs, got {str(folder)!r} as both",
            hint="write into another folder, which may be in it: --out DIR",
        )
    found = [*images_below(folder, barred)]
    if not found:
        raise InputError(
            f"expected a folder with images in it, got {str(folder)!r} without any",
            hint="PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 and AVIF files are images",
        )
    return found


def _fitting(pattern: str, barred: Path | None) -> Iterator[Path]:
    """Yield the files that fit a pattern and end like images."""
    from nexus.data.formats.dataset import is_picture

    fitting = [Path(text) for text in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    files = [path for path in fitting if path.is_file() and is_picture(path)]
    files = [path for path in files if barred is None or barred not in path.resolve().parents]
    if not files:
        got = f"{len(fitting)} without any" if fitting else "none"
        raise InputError(
            f"expected image files that fit {pattern!r}, got {got}",
            hint="** stands for any folders, as in 'scans/**/*.png'",
        )
    yield from files


def _read_stdin() -> bytes:
    """Return an image from stdin.

    Raises:
        ImageError: There is nobody who writes it, nothing, or too much.
    """
    from nexus.data.images.fetching import MAX_BYTES

    hint = "nexus segment - < photo.png"
    if sys.stdin is None or sys.stdin.closed:
        raise ImageError("expected an image on stdin, got a closed one", hint=hint)
    if sys.stdin.isatty():
        raise ImageError("expected an image on stdin, got a terminal", hint=hint)
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if not content:
        raise ImageError("expected an image on stdin, got nothing", hint=hint)
    if len(content) > MAX_BYTES:
        raise ImageError(f"expected an image of {MAX_BYTES:,} bytes at most on stdin, got more")
    return content


def _fit(name: str) -> str:
    """Return a name that any file system takes."""
    return _UNFIT.sub("-", name).strip(". ")[:_LONGEST_NAME] or "image"
