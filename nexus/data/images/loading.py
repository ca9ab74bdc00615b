"""Images in and label maps in and out: every kind of picture a caller has becomes one array."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nexus.core.errors import ImageError, InputError, shown
from nexus.core.files import as_path, replacing
from nexus.data.images.decoding import Readable, check_pixels, decode_file, pixels_of

if TYPE_CHECKING:
    import torch

ImageLike: TypeAlias = (
    "str | os.PathLike[str] | bytes | Readable | Image.Image | NDArray[Any] | torch.Tensor"
)
"""A path, an encoded file, as bytes or opened to be read, a Pillow image, an (H, W) or (H, W, C)
array, or a (C, H, W) tensor."""

DEFAULT_MAX_PIXELS = 100_000_000
"""Images with more pixels than this are refused unless the caller says otherwise."""

_FLOAT_TOLERANCE = 1e-6
_NEARLY = 0.25


def load_image(
    source: ImageLike, *, max_pixels: int | None = DEFAULT_MAX_PIXELS
) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]:
    """Return any kind of image as one RGB array.

    Args:
        source: A path; the bytes of an encoded file, or one opened in binary mode, which is read
            from its start if it can be rewound, and stays open; a Pillow image; a NumPy array
            (H, W) or (H, W, C) with C of 1, 3 or 4, channels in RGB order; or a torch tensor
            (H, W) or (C, H, W), which is read as (H, W, C) if its first size is not 1, 3 or 4.
            Grey is repeated, alpha dropped, EXIF rotation applied, the first frame taken of many.
        max_pixels: Largest height x width; None for no limit. Files are checked by their header,
            before anything is decoded.

    Returns:
        (H, W, 3) RGB, C-contiguous: uint8 in 0..255, uint16 in 0..65535 (16-bit sources keep
        their bits), or float32 in [0, 1]. An array that already is one comes back uncopied.

    Raises:
        ImageNotFoundError: There is no such file.
        ImageError: Not an image, damaged, truncated, too large, without pixels, or an array of a
            type, shape or value range that has no clear meaning.
        InputError: `max_pixels` is not a count.
    """
    _check_limit(max_pixels)
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if isinstance(source, (bytes, str, os.PathLike)) or hasattr(source, "read"):
        return _as_rgb(decode_file(source, max_pixels=max_pixels))
    if isinstance(source, Image.Image):
        check_pixels((source.height, source.width), max_pixels, "a Pillow image")
        try:
            source.load()
        except (OSError, ValueError, SyntaxError) as error:
            raise ImageError(
                "expected a whole image, got a Pillow image whose pixels cannot be decoded: "
                f"{error}",
                hint="its file is damaged, cut short or already closed",
            ) from error
        return _as_rgb(pixels_of(source, "a Pillow image"))
    array: Any = source
    if hasattr(array, "detach"):
        tensor = array.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).resolve_conj().numpy()
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            array = array.transpose(1, 2, 0)  # (H, W, C)
    if not isinstance(array, np.ndarray) and hasattr(array, "__array__"):
        array = np.asarray(array)
    if not isinstance(array, np.ndarray):
        raise ImageError(
            "expected an image as a path, bytes, an open file, a Pillow image, a NumPy array or a "
            f"torch tensor, got {type(source).__name__}",
            hint="np.asarray(...) makes an array of a list",
        )
    _check_shape(array)
    check_pixels((array.shape[0], array.shape[1]), max_pixels, "an array")
    return _as_rgb(array)


def read_mask(
    path: str | os.PathLike[str] | bytes | Readable,
    *,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read a label map: grey or palette image whose values are object numbers, 0 background.

    Args:
        path: The file, or its bytes, or the file opened in binary mode.
        max_pixels: As in `load_image`.

    Returns:
        (H, W) uint8 or uint16, the stored values: palette indices, not palette colours. A mask
        written by `write_mask` from bool comes back as 0 and 255.

    Raises:
        ImageError: Cannot be read, or has colour channels.
    """
    _check_limit(max_pixels)
    return decode_file(path, max_pixels=max_pixels, labels=True)


def write_mask(path: str | os.PathLike[str], mask: NDArray[Any]) -> Path:
    """Write a mask or label map as a grey PNG, whole or not at all; return its path.

    Args:
        path: A name that ends in .png.
        mask: (H, W) bool, written as 0 and 255; or integers in 0..65535, written as they are in
            8 bits if they fit and 16 if not.

    Raises:
        InputError: Another suffix, shape or type, or values that do not fit.
        OSError: The file cannot be written.
    """
    target = _png_path(path)
    try:
        array = np.asarray(mask)
    except ValueError as error:  # rows of different lengths
        raise InputError(f"expected a mask of shape (H, W), got {shown(mask)}") from error
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"expected a mask of shape (H, W), got shape {array.shape}")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"expected a bool or integer mask, got {array.dtype}",
            hint="for logits write mask > 0; for probabilities mask > 0.5",
        )
    elif array.min() < 0 or array.max() > 65535:
        raise InputError(
            f"expected labels in 0..65535, got {array.min()}..{array.max()}",
            hint="number the labels afresh, e.g. np.unique(mask, return_inverse=True)",
        )
    else:
        array = array.astype(np.uint8 if array.max() < 256 else np.uint16)
    return write_png(target, array)


def write_picture(path: str | os.PathLike[str], picture: NDArray[np.uint8]) -> Path:
    """Write an RGB picture as PNG, whole or not at all; return its path.

    Args:
        path: A name that ends in .png.
        picture: (H, W, 3) uint8, as `nexus.ops.draw.overlay` gives.

    Raises:
        InputError: Another suffix, shape or type.
        OSError: The file cannot be written.
    """
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0 or array.dtype != np.uint8:
        raise InputError(
            f"expected a picture of shape (H, W, 3) and uint8, got {array.shape} {array.dtype}"
        )
    return write_png(_png_path(path), array)


def _png_path(path: str | os.PathLike[str]) -> Path:
    target = as_path(path, "a PNG file")
    if target.suffix.lower() != ".png":
        raise InputError(
            f"expected a name that ends in .png, got {target.name!r}",
            hint="masks and pictures are written without loss, as PNG",
        )
    return target


def write_png(
    target: Path, array: NDArray[Any], palette: NDArray[np.uint8] | None = None, **options: Any
) -> Path:
    """Write an array (H, W) or (H, W, 3) as PNG, whole or not at all; return its path.

    A palette is the (256, 3) colours of uint8 labels; `options` are those of Pillow's encoder.

    Raises:
        OSError: The file cannot be written.
    """
    image = Image.fromarray(np.ascontiguousarray(array))
    if palette is not None:
        image.putpalette(palette.tobytes())
    with replacing(target) as temporary:
        image.save(temporary, format="PNG", **options)
    return target


def _check_limit(max_pixels: int | None) -> None:
    if max_pixels is not None and (
        isinstance(max_pixels, bool)
        or not isinstance(max_pixels, (int, np.integer))
        or max_pixels < 1
    ):
        raise InputError(
            f"expected `max_pixels` to be a count of pixels or None, got {shown(max_pixels)}"
        )


def _check_shape(array: NDArray[Any]) -> None:
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4)):
        return
    hint = "pass one image, with 1, 3 (RGB) or 4 (RGBA) channels last"
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        hint = "channels come last in a NumPy array: image.transpose(1, 2, 0)"
    elif array.ndim == 4:
        hint = "this is a batch: pass its images one by one, or use encode_images([...])"
    raise ImageError(
        f"expected an image of shape (H, W) or (H, W, C), C of 1, 3 or 4, got shape {array.shape}",
        hint=hint,
    )


def _as_rgb(array: NDArray[Any]) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]:
    """Return an (H, W) or (H, W, 1 | 3 | 4) array as (H, W, 3) of a supported type."""
    array = _supported(array.reshape(*array.shape[:2], -1)[:, :, :3])  # (H, W, 1 | 3)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)  # (H, W, 3)
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()


def _supported(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array as uint8, uint16 or float32 in [0, 1]; refuse what would need a guess."""
    if array.dtype.kind == "u" and array.dtype.itemsize in (1, 2):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if np.isnan(low):
            raise ImageError(
                f"expected finite float values in [0, 1], got {int(np.isnan(array).sum())} NaN",
                hint="replace them, e.g. np.nan_to_num(image)",
            )
        if low < -_FLOAT_TOLERANCE or high > 1 + _FLOAT_TOLERANCE:
            hint = "scale it to [0, 1]: (image - image.min()) / (image.max() - image.min())"
            if low >= -_NEARLY and high <= 1 + _NEARLY:
                hint = "resizing with splines or noise goes over the edge: image.clip(0, 1)"
            elif low >= 0 and 2 <= high <= 255:
                hint = "divide by 255, or pass uint8"
            raise ImageError(
                f"expected float values in [0, 1], got values from {low:g} to {high:g}", hint=hint
            )
        scaled = array.astype(np.float32, copy=False)
        return np.clip(scaled, 0, 1) if low < 0 or high > 1 else scaled
    hint = "scale it to float in [0, 1], or convert it to uint8 or uint16"
    if array.dtype == np.bool_:
        hint = "image.astype(np.uint8) * 255 makes a picture of it; a mask prompt is mask=..."
    elif array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        hint = "the values fit: image.astype(np.uint8)"
    elif array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 65535:
        hint = "the values fit: image.astype(np.uint16)"
    raise ImageError(f"expected an image of uint8, uint16 or float, got {array.dtype}", hint=hint)
