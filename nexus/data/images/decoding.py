"""Decode image files with Pillow: size checked before the pixels, 16 bits kept, EXIF applied."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile

from nexus.core.errors import ImageError, ImageNotFoundError, NexusWarning
from nexus.core.files import as_path

# Raster formats only: EPS and WMF would start other programs on a file nobody has checked.
_FORMATS = (
    *("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF"),
    *("ICO", "DIB", "PCX", "SGI", "QOI", "TGA"),
)
_STORED_MODES = ("1", "L", "P", "I", "LA", "RGB", "RGBA")
_DAMAGED = "the file is damaged or cut short; fetch or export it again"


class Readable(Protocol):
    """A file opened in binary mode, or what is read like one."""

    def read(self, size: int = ..., /) -> bytes:
        """Return bytes; without a size all that are left."""


def check_pixels(size_hw: tuple[int, int], max_pixels: int | None, what: str) -> None:
    """Refuse an image without area, or with more than `max_pixels` pixels.

    Raises:
        ImageError: The image is empty or too large.
    """
    height, width = size_hw
    if height < 1 or width < 1:
        raise ImageError(
            f"expected an image of at least 1 x 1 pixels, got {what} of {width} x {height}"
        )
    if max_pixels is not None and height * width > max_pixels:
        raise ImageError(
            f"expected at most {max_pixels:,} pixels, got {what} of {width} x {height} "
            f"({height * width:,} pixels)",
            hint="scale the image down, or raise `max_pixels` (`max_pixels=None` for no limit)",
        )


def decode_file(
    source: str | os.PathLike[str] | bytes | Readable,
    *,
    max_pixels: int | None,
    labels: bool = False,
) -> NDArray[Any]:
    """Read the first frame of an image file, upright.

    Args:
        source: A path, the encoded bytes, or an open file of them.
        max_pixels: Largest height x width, checked in the header before any pixel is decoded.
        labels: Read the stored values of a grey, palette or 1-bit image.

    Returns:
        (H, W) or (H, W, 3): uint8, uint16 or float32. Colour of 16 bits per channel is kept for
        PNG and TIFF; in other formats it comes as the 8 bits that Pillow makes of it. Of labels
        (H, W) uint8 or uint16; 0 and 1 of a 1-bit image.

    Raises:
        ImageNotFoundError: There is no such file.
        ImageError: Not an image, damaged, truncated, or too large; or labels in colour channels.
    """
    with _opened(source, max_pixels) as (image, stream, what):
        return (_read_labels if labels else _read_colour)(image, stream, what)


class Stored(NamedTuple):
    """The samples of a picture as its file holds them.

    Attributes:
        samples: (H, W) or (H, W, C) uint8 or uint16, upright; C of 2, 3 or 4, alpha last. Indices
            of a palette, 0 and 1 of a 1-bit image.
        palette: (N, 3) uint8 colours of the indices, or None.
        is_lossy: The file is of a kind that keeps values only roughly.
        kind: Name of the format, such as PNG.
    """

    samples: NDArray[Any]
    palette: NDArray[np.uint8] | None
    is_lossy: bool
    kind: str


def decode_stored(source: str | os.PathLike[str] | bytes, *, max_pixels: int | None) -> Stored:
    """Read the samples of a picture without a conversion; of 16-bit colour the high bytes.

    Arguments are those of `decode_file`.

    Raises:
        ImageNotFoundError: There is no such file.
        ImageError: Not an image, damaged, truncated, too large, or of another type of numbers.
    """
    with _opened(source, max_pixels) as (image, stream, what):
        kind, is_lossy = str(image.format), _is_lossy(image, stream)
        _load(image, what)
        palette = None
        if image.mode == "P":
            palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        by_way_of = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "CMYK": "RGB"}
        mode = by_way_of.get(image.mode, image.mode)
        if mode not in _STORED_MODES and not mode.startswith("I;16"):
            raise ImageError(
                f"expected a mask of whole numbers, got {what} of mode {mode}",
                hint="save it as a grey or palette PNG whose values are the labels",
            )
        samples = np.array(image if mode == image.mode else image.convert(mode))
        if image.mode == "I" and not 0 <= samples.min() <= samples.max() <= 65535:
            raise ImageError(
                f"expected labels in 0..65535, got {what} with {samples.min()}..{samples.max()}",
                hint="number the labels afresh, e.g. np.unique(mask, return_inverse=True)",
            )
        samples = samples.astype(np.uint16 if image.mode.startswith("I") else np.uint8)
        return Stored(_upright(samples, image, what), palette, is_lossy, kind)


def is_lossy(source: str | os.PathLike[str]) -> bool:
    """Say whether a file is of a kind that keeps values only roughly, by its header.

    Raises:
        ImageNotFoundError: There is no such file.
        ImageError: Not an image.
    """
    with _opened(source, None) as (image, stream, _):
        return _is_lossy(image, stream)


@contextmanager
def _opened(
    source: str | os.PathLike[str] | bytes | Readable, max_pixels: int | None
) -> Iterator[tuple[ImageFile.ImageFile, IO[bytes], str]]:
    """Open an image file; yield it, its stream, and what messages call it."""
    what = "encoded bytes"
    if isinstance(source, (str, os.PathLike)):
        what = repr(os.fspath(source))
        as_path(source, "an image file")
    elif not isinstance(source, bytes):
        what = f"the open file {getattr(source, 'name', type(source).__name__)!r}"
        source = _contents(source, what)
    try:
        if not isinstance(source, bytes) and Path(source).is_dir():
            raise ImageError(f"expected an image file, got {what}, which is a folder")
        if isinstance(source, bytes):
            stream: IO[bytes] = io.BytesIO(source)
        else:
            stream = Path(source).open("rb")  # noqa: SIM115 - closed below
    except FileNotFoundError as error:
        message = f"expected an image file, got {what}, which does not exist"
        hint = "download it first" if "://" in message else None
        raise ImageNotFoundError(message, hint) from error
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"expected a readable image file, got {what}: {error}") from error
    with stream, _open(stream, what) as image:
        width, height = image.size
        check_pixels((height, width), max_pixels, what)
        yield image, stream, what


def _contents(stream: Readable, what: str) -> bytes:
    """Return all of an open file, from its start if there is a way back to it.

    As with Pillow, so that a picture just saved into memory is found.
    """
    try:
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            if stream.seekable():  # type: ignore[attr-defined]
                stream.seek(0)  # type: ignore[attr-defined]
        content: Any = stream.read()
    except Exception as error:  # what is read may be of any make, such as an answer over HTTP
        raise ImageError(f"expected a readable image file, got {what}: {_reason(error)}") from error
    if isinstance(content, str):
        raise ImageError(
            f"expected a file opened in binary mode, got {what} in text mode",
            hint="open(path, 'rb')",
        )
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ImageError(f"expected bytes from {what}, got {type(content).__name__}")
    return bytes(content)


def pixels_of(image: Image.Image, what: str) -> NDArray[Any]:
    """Return a loaded Pillow image as an array, upright.

    Returns:
        (H, W) or (H, W, 3), alpha dropped: uint8, uint16 for the 16-bit modes, float32 for mode F.

    Raises:
        ImageError: A mode whose values have no agreed range, or that Pillow cannot convert.
    """
    mode = image.mode
    if mode == "I" and image.format != "PPM":
        raise ImageError(
            f"expected 8 or 16 bits per channel, got {what} with 32-bit or signed integers",
            hint="scale the values to float in [0, 1], and pass the array",
        )
    if mode == "I" or mode.startswith("I;16"):  # mode I: a PGM, scaled to 0..65535 by Pillow
        return _upright(np.array(image).astype(np.uint16), image, what)
    if mode in ("L", "RGB", "F"):
        return _upright(np.array(image), image, what)
    # Palettes go by way of RGBA, since Pillow warns when it drops their transparency itself, and
    # premultiplied grey by way of LA, since Pillow converts it to nothing else.
    by_way_of = {"P": "RGBA", "PA": "RGBA", "La": "LA"}
    try:
        known = image.convert(by_way_of[mode]) if mode in by_way_of else image
        colours = np.array(known.convert("L" if mode == "1" else "RGB"))
    except ValueError as error:
        raise ImageError(
            f"expected an image that converts to RGB, got {what} of mode {mode}",
            hint="convert it to RGB first",
        ) from error
    return _upright(colours, image, what)


def _open(stream: IO[bytes], what: str) -> ImageFile.ImageFile:
    """Read the header with the first Pillow plugin that knows the format.

    `Image.open` is not used, because its own limit on pixels can only be moved by a global of the
    whole process, while `max_pixels` belongs to one call.
    """
    stream.seek(0)
    prefix = stream.read(16)
    if not prefix:
        raise ImageError(f"expected an image file, got {what}, which is empty")
    Image.preinit()
    failures: list[str] = []
    for name in _FORMATS:
        if name not in Image.OPEN:
            Image.init()
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None:
            continue
        accepted: bool | str = False
        try:
            accepted = accept(prefix) if accept is not None else False
            if accept is None or (accepted and not isinstance(accepted, str)):
                stream.seek(0)
                return factory(stream, "")
        except Exception as error:  # a parser of foreign bytes may raise anything
            if accepted:
                failures.append(f"{name}: {_reason(error)}")
        if isinstance(accepted, str):
            failures.append(accepted)
    if failures:
        raise ImageError(
            f"expected a whole image file, got {what}, whose header cannot be read "
            f"({'; '.join(failures)})",
            hint=_DAMAGED,
        )
    raise ImageError(
        f"expected an image file, got {what}, which is in no known image format",
        hint="PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 and AVIF files can be read",
    )


def _load(image: ImageFile.ImageFile, what: str) -> None:
    try:
        image.load()
    except Exception as error:  # a decoder of foreign bytes may raise anything
        raise ImageError(
            f"expected a whole {image.format} file, got {what}, whose pixels cannot be decoded: "
            f"{_reason(error)}",
            hint=_DAMAGED,
        ) from error


def _read_colour(image: ImageFile.ImageFile, stream: IO[bytes], what: str) -> NDArray[Any]:
    kind, _, order = _stored_mode(image).partition(";16")
    if order and kind in ("RGB", "RGBA", "RGBX"):
        _load(image, what)
        high = np.array(image)[..., :3].astype(np.uint16)
        low = _low_bytes(stream, what, kind, order)
        return _upright(high << 8 | low, image, what)
    if order and kind == "LA":
        image.tile = [tile._replace(args="RGBA") for tile in image.tile]
        _load(image, what)
        halves = np.array(image)  # (H, W, 4): grey high, grey low, alpha high, alpha low
        return _upright(halves[..., 0].astype(np.uint16) << 8 | halves[..., 1], image, what)
    _load(image, what)
    return pixels_of(image, what)


def _read_labels(image: ImageFile.ImageFile, stream: IO[bytes], what: str) -> NDArray[Any]:
    mode = image.mode
    if mode not in ("1", "L", "P") and not mode.startswith("I;16"):
        raise ImageError(
            f"expected a label map of one channel, got {what} of mode {mode}",
            hint="save it as a grey or palette PNG whose values are the labels",
        )
    _load(image, what)
    labels = np.array(image)
    return _upright(labels.astype(np.uint16 if mode.startswith("I") else np.uint8), image, what)


def _is_lossy(image: ImageFile.ImageFile, stream: IO[bytes]) -> bool:
    """Say whether a file keeps its values only roughly; AVIF, which does not tell, is taken so."""
    if image.format in ("WEBP", "JPEG2000"):
        place = stream.tell()
        stream.seek(0)
        content = stream.read()
        stream.seek(place)
        if image.format == "WEBP":
            return b"VP8L" not in content
        # The marker COD ends with the kind of wavelet: 1 gives every value back.
        coding = content[content.find(b"\xff\x52") :]
        return coding[13:14] != b"\x01"
    return image.format in ("JPEG", "MPO", "AVIF") or image.info.get("compression") == "jpeg"


def _stored_mode(image: ImageFile.ImageFile) -> str:
    """Return Pillow's name of the stored samples, such as RGB;16B, which `mode` does not tell."""
    if image.format not in ("PNG", "TIFF") or not image.tile:
        return image.mode
    args = image.tile[0].args
    raw = args[0] if isinstance(args, tuple) else args
    return raw if isinstance(raw, str) else image.mode


def _low_bytes(stream: IO[bytes], what: str, kind: str, order: str) -> NDArray[np.uint8]:
    """Decode the low byte of 16-bit colour, (H, W, 3), by reading it in the wrong byte order.

    Pillow keeps the high byte of such samples. Told the other byte order it keeps the low one, so
    that two passes give all 16 bits.
    """
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    raw = f"{kind};16{'B' if little else 'L'}"
    with _open(stream, what) as image:
        image.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
            for tile in image.tile
        ]
        _load(image, what)
        low: NDArray[np.uint8] = np.array(image)[..., :3]
    return low


def _upright(pixels: NDArray[Any], image: Image.Image, what: str) -> NDArray[Any]:
    """Apply the EXIF orientation; (H, W, ...) to (H, W, ...) or (W, H, ...)."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # a parser of foreign bytes may raise anything
        warnings.warn(
            f"the EXIF data of {what} cannot be read, so it is taken as upright: {_reason(error)}",
            NexusWarning,
            stacklevel=2,
        )
        return pixels
    turns = ((5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8))
    return turned(pixels, *(orientation in turn for turn in turns))


def turned(pixels: NDArray[Any], swap: bool, mirror: bool, upend: bool) -> NDArray[Any]:
    """Swap the axes, then mirror left and right, then top and bottom, where each is wanted."""
    if swap:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if upend else 1, :: -1 if mirror else 1]


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
