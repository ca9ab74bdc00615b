"""COCO run-length encoding, byte for byte as pycocotools writes it, in NumPy alone.

A mask is read column by column. `counts` are the lengths of its runs, alternately background and
foreground, background first (0 long if the first pixel is foreground). The compressed form writes
each count from the fourth on as its difference from the count two before, in signed base 32, least
significant digit first, one ASCII character per digit: 48 plus the digit, plus 32 if more follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError

_DIGIT_BITS = 5
_MORE = 0x20
_SIGN = 0x10
_FIRST_CHARACTER = 48
_MOST_DIGITS = 8


def encode_rle(mask: NDArray[Any]) -> dict[str, Any]:
    """Encode a mask as compressed COCO RLE.

    Args:
        mask: (H, W) bool, or integers that are 0 and 1.

    Returns:
        `{"size": [H, W], "counts": str}`, equal to what `pycocotools.mask.encode` gives, with
        the counts as str rather than bytes, so that it goes into JSON as it is.

    Raises:
        InputError: Another shape or type, or other values.

    Examples:
        >>> encode_rle(np.array([[False, True], [True, True]]))
        {'size': [2, 2], 'counts': '13'}
    """
    array = _with_pixels(mask)
    return {"size": [*array.shape], "counts": _pack(run_lengths(array.T.ravel()))}


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Decode COCO RLE to an (H, W) bool mask.

    Args:
        rle: `{"size": [H, W], "counts": ...}` with compressed counts (str or bytes) or a list of
            run lengths.

    Raises:
        InputError: A key is missing, the counts are damaged, or they do not add up to H x W.

    Examples:
        >>> decode_rle({"size": [2, 3], "counts": [1, 2, 3]}).astype(int)
        array([[0, 1, 0],
               [1, 0, 0]])
    """
    height, width, counts = _read(rle)
    values = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)  # (H, W)


def rle_area(rle: Mapping[str, Any]) -> int:
    """Return the number of foreground pixels, without decoding.

    Raises:
        InputError: As in `decode_rle`.

    Examples:
        >>> rle_area({"size": [2, 3], "counts": [1, 2, 3]})
        2
    """
    return int(_read(rle)[2][1::2].sum())


def rle_counts(rle: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the run lengths of COCO RLE of either form.

    Raises:
        InputError: As in `decode_rle`.

    Examples:
        >>> rle_counts({"size": [2, 2], "counts": "13"}).tolist()
        [1, 3]
    """
    return _read(rle)[2]


def encode_rle_at(
    mask: NDArray[Any], corner_xy: tuple[int, int], size_hw: tuple[int, int]
) -> dict[str, Any]:
    """Encode a mask that lies in a larger image, without making it as large as that image.

    Args:
        mask: (h, w) bool, or integers of 0 and 1.
        corner_xy: Where its top left pixel lies in the image.
        size_hw: Of the image; the mask lies inside it.

    Returns:
        What `encode_rle` would give for the image-sized mask.

    Raises:
        InputError: Another shape or type, or a mask that reaches out of the image.

    Examples:
        >>> rle = encode_rle_at(np.array([[True]]), (1, 0), (2, 2))
        >>> rle == encode_rle(np.array([[0, 1], [0, 0]]))
        True
    """
    part = _with_pixels(mask)
    (height, width), (x0, y0) = size_hw, corner_xy
    if min(x0, y0) < 0 or y0 + part.shape[0] > height or x0 + part.shape[1] > width:
        raise InputError(
            f"expected a mask inside an image of {height} x {width}, got one of {part.shape[0]} x "
            f"{part.shape[1]} at row {y0}, column {x0}"
        )
    # An empty row after each column ends every run within its column, unless columns are whole.
    stride = part.shape[0] + (part.shape[0] < height)
    flat = np.zeros(part.shape[1] * stride + 2, np.bool_)
    flat[1:-1].reshape(-1, stride)[:, : part.shape[0]] = part.T
    columns, rows = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), stride)
    borders = (columns + x0) * height + rows + y0
    total = height * width
    tail = [] if len(borders) and borders[-1] == total else [total]
    marks = np.concatenate(([0], borders, tail)).astype(np.int64)
    return {"size": [height, width], "counts": _pack(marks[1:] - marks[:-1])}


def as_mask(mask: ArrayLike) -> NDArray[np.bool_]:
    """Return a mask as a bool array.

    Raises:
        InputError: Not two-dimensional, or neither bool nor integers of 0 and 1.

    Examples:
        >>> as_mask([[0, 1]])
        array([[False,  True]])
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise InputError(
            f"expected a mask of shape (H, W), got shape {array.shape}",
            hint="give the candidates of a result one by one",
        )
    if array.dtype == np.bool_:
        return array
    if not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"expected a mask of bool, or of 0 and 1, got {array.dtype}",
            hint="logits: mask > 0; probabilities: mask > 0.5",
        )
    if array.size and (array.min() < 0 or array.max() > 1):
        raise InputError(
            f"expected a mask of 0 and 1, got values {array.min()}..{array.max()}",
            hint="one object of a label map: labels == n; a mask of 0 and 255: mask > 0",
        )
    return array.astype(np.bool_)


def _with_pixels(mask: ArrayLike) -> NDArray[np.bool_]:
    array = as_mask(mask)
    if array.size == 0:
        raise InputError(f"expected a mask with pixels, got shape {array.shape}")
    return array


def run_lengths(flat: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of the runs of at least one pixel in a row, background first.

    Examples:
        >>> run_lengths(np.array([True, True, False])).tolist()
        [0, 2, 1]
    """
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0, 0] if flat[0] else [0], changes, [flat.size]))
    return np.diff(starts)


def _pack(counts: NDArray[np.int64]) -> str:
    """Write run lengths as compressed counts."""
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    lengths = np.ones(len(rest), np.int64)
    # The last digit's top bit is the sign: d digits hold -2^(5 d - 1) to 2^(5 d - 1) - 1. Most
    # numbers have one digit, so that only the others are looked at again.
    longer = np.flatnonzero((rest < -_SIGN) | (rest >= _SIGN))
    for digits in range(2, _MOST_DIGITS + 1):
        lengths[longer] = digits
        limit = 1 << (_DIGIT_BITS * digits - 1)
        longer = longer[(rest[longer] < -limit) | (rest[longer] >= limit)]
    places = np.cumsum(lengths) - lengths
    text = np.empty(int(lengths.sum()), np.uint8)
    for position in range(_MOST_DIGITS):
        digit = (rest & (_MORE - 1)) + _FIRST_CHARACTER
        digit[lengths > position + 1] += _MORE
        text[places + position] = digit
        at = np.flatnonzero(lengths > position + 1)
        if not len(at):
            break
        rest, places, lengths = rest[at] >> _DIGIT_BITS, places[at], lengths[at]
    return text.tobytes().decode("ascii")


def _unpack(packed: bytes) -> NDArray[np.int64]:
    """Read compressed counts."""
    codes = np.frombuffer(packed, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or codes[-1] & _MORE:
        raise InputError(
            "expected compressed RLE counts, which are characters from '0' to 'o' of which the "
            f"last ends a number, got {packed[:40]!r}",
            hint="the string is cut short or is not COCO RLE",
        )
    ends = np.flatnonzero(codes & _MORE == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MOST_DIGITS:
        raise InputError(
            f"expected RLE counts of at most {_MOST_DIGITS} characters each, "
            f"got one of {lengths.max()}",
            hint="the string is damaged or is not COCO RLE",
        )
    position = np.arange(codes.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((codes & (_MORE - 1)) << (_DIGIT_BITS * position), starts)
    numbers -= np.where(codes[ends] & _SIGN, np.int64(1) << (_DIGIT_BITS * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _read(rle: Mapping[str, Any]) -> tuple[int, int, NDArray[np.int64]]:
    """Return height, width and run lengths of either form, checked."""
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        raise InputError(
            "expected an RLE mapping with 'size' and 'counts', got "
            f"{sorted(rle) if isinstance(rle, Mapping) else type(rle).__name__}"
        )
    size, counts = rle["size"], rle["counts"]
    if (
        not isinstance(size, Sequence)
        or len(size) != 2
        or not all(isinstance(side, (int, np.integer)) and side > 0 for side in size)
    ):
        raise InputError(f"expected an RLE size of [height, width], got {size!r}")
    if isinstance(counts, str):
        if not counts.isascii():
            raise InputError(f"expected RLE counts in ASCII, got {counts[:40]!r}")
        counts = counts.encode("ascii")
    runs = _unpack(counts) if isinstance(counts, bytes) else _plain_counts(counts)
    height, width = int(size[0]), int(size[1])
    if len(runs) == 0 or runs.min() < 0 or int(runs.sum()) != height * width:
        raise InputError(
            f"expected RLE runs that add up to {height} x {width} = {height * width} pixels, "
            f"got {int(runs.sum())}" + (" with negative runs" if (runs < 0).any() else ""),
            hint="size is [height, width]; are they swapped or of another image?",
        )
    return height, width, runs


def _plain_counts(counts: Any) -> NDArray[np.int64]:
    try:
        runs = np.asarray(counts)
    except ValueError:  # lists of different lengths
        runs = np.empty((0, 0), object)
    if runs.ndim != 1 or not (np.issubdtype(runs.dtype, np.integer) or runs.size == 0):
        raise InputError(
            f"expected RLE counts as str, bytes or a list of run lengths, got {counts!r:.80}",
            hint="a polygon (a list of lists of coordinates) is not RLE",
        )
    return runs.astype(np.int64)
