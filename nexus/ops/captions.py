"""Write numbers, names and scores of objects into a picture, where they can be read.

Letters grow with the picture. A caption stands inside the picture, at its object, on a ground of
the object's colour; it covers no other caption, and as little of the masks as can be. Where there
is no room for all that is to be said, letters shrink, then scores and names go, and at last the
caption: a picture of 64 pixels cannot tell the names of 60 objects.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.ops.boxes import tight_box

Color = tuple[int, int, int]
Box = tuple[int, int, int, int]

_LONGEST_NAME = 32
_SMALLEST_LETTERS_PX = 9  # below, 6 and 8 look alike
_MOST_HIDDEN = 0.25  # of what is masked: captions are to tell of objects, not to stand for them
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
)


@dataclass(frozen=True)
class Caption:
    """What is written at an object; what is None is left out.

    Attributes:
        number: Its number, which is given up last.
        name: What it is called, cut after 32 characters.
        score: Shown with two decimals.
    """

    number: int | None = None
    name: str | None = None
    score: float | None = None

    @property
    def forms(self) -> tuple[str, ...]:
        """The caption's spellings, the longest first.

        Examples:
            >>> Caption(3, "polyp", 0.914).forms
            ('3 polyp 0.91', '3 polyp', '3')
        """
        number = None if self.number is None else str(self.number)
        name = _printable(self.name) if self.name else None
        score = None
        if self.score is not None and math.isfinite(self.score):
            score = f"{self.score:.2f}"
        # Without the colon, object 3 of score 0.55 would read as 30.55.
        before_score = f"{number}:" if number and score and not name else number
        spellings = ((before_score, name, score), (number, name), (number or name or score,))
        texts = (" ".join(part for part in parts if part) for parts in spellings)
        return tuple(dict.fromkeys(text for text in texts if text))


def draw_captions(
    canvas: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    captions: Sequence[Caption | str],
    colors: Sequence[Color],
    *,
    boxes: Sequence[Box] = (),
    kept_free: Sequence[Box] | NDArray[Any] = (),
) -> NDArray[np.uint8]:
    """Write a caption at each object of a picture, in place, and return the picture.

    Args:
        canvas: (H, W, 3) RGB.
        masks: (M, H, W).
        captions: M; an empty text is not written.
        colors: M, of the captions' grounds; letters are black or white on it.
        boxes: Where an object without a pixel is captioned, x0, y0, x1, y1; as many as are known.
        kept_free: Boxes that no caption covers.

    Examples:
        >>> canvas, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64), bool)
        >>> mask[0, 30:60, 10:50] = True
        >>> picture = draw_captions(canvas, mask, [Caption(1, score=0.5)], [(255, 0, 0)])
        >>> bool((picture[..., 0] == 255).any()), bool(picture[30:60, 10:50].any())
        (True, False)
    """
    height, width = canvas.shape[:2]
    if not any(forms := [_forms(caption) for caption in captions]):
        return canvas
    objects = []
    for index, mask in enumerate(masks):
        box = tight_box(mask)
        if not any(box):
            empty_box = boxes[index] if index < len(boxes) else (0, 0, 0, 0)
            box = _cut(empty_box, (height, width))
            mask = np.broadcast_to(np.bool_(True), (height, width))
        objects.append(_Spots.of(mask, box) if box[2] > box[0] and box[3] > box[1] else None)
    layout = _Layout((height, width), masks, objects, kept_free)
    for tag in layout.arranged(forms):
        if tag is not None:
            x0, y0, x1, y1 = tag.box
            canvas[y0:y1, x0:x1] = _sign(tag, colors[tag.index])
    return canvas


@dataclass(frozen=True)
class _Tag:
    """A text that has found its place."""

    index: int
    text: str
    letters_px: int
    box: Box


@dataclass(frozen=True)
class _Spots:
    """The points of an object that a caption may stand at: its tips, and its innermost point."""

    box: Box
    top_x: float
    bottom_x: float
    left_y: float
    right_y: float
    middle_xy: tuple[float, float]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], box: Box) -> _Spots:
        from scipy.ndimage import distance_transform_edt

        x0, y0, x1, y1 = box
        part = mask[y0:y1, x0:x1]
        step = max(1, math.ceil(max(part.shape) / 64))  # where to write needs no more precision
        depth = distance_transform_edt(np.pad(part[::step, ::step], 1))
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[row, column] > 0:
            middle = (x0 + (column - 0.5) * step, y0 + (row - 0.5) * step)
        else:  # thinner than a step
            middle = ((x0 + x1) / 2, (y0 + y1) / 2)
        lines = (part[0], part[-1], part[:, 0], part[:, -1])
        tips = [float(np.flatnonzero(line).mean()) + 0.5 for line in lines]
        return cls(box, x0 + tips[0], x0 + tips[1], y0 + tips[2], y0 + tips[3], middle)

    def corners(self, width: int, height: int) -> NDArray[np.float64]:
        """Return where the upper left corner of a caption may lie, the best first: (N, 2) XY."""
        x0, y0, x1, y1 = self.box
        gap = max(1, height // 8)
        (middle_x, middle_y), left, up = self.middle_xy, width / 2, height / 2
        near = [
            (self.top_x - left, y0 - height - gap),
            (x0, y0 - height - gap),
            (self.bottom_x - left, y1 + gap),
            (x1 + gap, self.right_y - up),
            (x0 - gap - width, self.left_y - up),
            (middle_x - left, middle_y - up),
        ]
        around = [
            (middle_x - left + right * width / 2, middle_y - up + down * up)
            for down in range(-6, 7)
            for right in range(-3, 4)
        ]
        around.sort(key=lambda xy: math.dist(xy, near[-1]))
        return np.array(near + around)


class _Layout:
    """Finds places for captions in a picture."""

    def __init__(
        self,
        size_hw: tuple[int, int],
        masks: NDArray[np.bool_],
        objects: Sequence[_Spots | None],
        kept_free: Sequence[Box] | NDArray[Any],
    ) -> None:
        self._size_hw = size_hw
        self._objects = objects
        self._kept_free = np.array(kept_free, np.float64).reshape(-1, 4)
        self._step = max(1, round(max(size_hw) / 256))
        cells = np.zeros((-(-size_hw[0] // self._step), -(-size_hw[1] // self._step)), np.bool_)
        for mask in masks:
            cells |= mask[:: self._step, :: self._step]
        self._covered = np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def arranged(self, forms: Sequence[Sequence[str]]) -> list[_Tag | None]:
        """Return a tag, or None where there is no room, for each object."""
        wanted = [i for i, texts in enumerate(forms) if texts and self._objects[i] is not None]
        largest, smallest = _letters_px(self._size_hw)
        tags: list[_Tag | None] = [None] * len(forms)
        for letters_px in sorted({largest, max(smallest, largest * 3 // 4), smallest})[::-1]:
            tags = [None] * len(forms)
            for index in wanted:
                tags[index] = self._placed(index, forms[index][0], letters_px, tags)
            if all(tags[index] for index in wanted) and self._hidden(tags) <= _MOST_HIDDEN:
                return tags
        # Not all have room for everything: each gets its number first, and more where more fits.
        tags = [None] * len(forms)
        for index in wanted:
            tags[index] = self._placed(index, forms[index][-1], smallest, tags)
        for index in wanted:
            others = [tag for tag in tags if tag is None or tag.index != index]
            for text in forms[index][:-1]:
                longer = self._placed(index, text, smallest, others)
                if longer and self._hidden([*others, longer]) <= _MOST_HIDDEN:
                    tags[index] = longer
                    break
        return tags

    def _hidden(self, tags: Sequence[_Tag | None]) -> float:
        """Return which part of all that is masked lies under captions."""
        places = np.array([tag.box for tag in tags if tag], np.float64).reshape(-1, 4)
        sizes = (places[:, 2:] - places[:, :2]).prod(axis=1)
        masked = float(self._covered[-1, -1]) * self._step**2
        return float(self._share_covered(places) @ sizes) / max(1.0, masked)

    def _placed(
        self, index: int, text: str, letters_px: int, others: Sequence[_Tag | None]
    ) -> _Tag | None:
        """Return the best free place of a text at its object, or None."""
        spots = self._objects[index]
        (height, width), (text_width, text_height) = self._size_hw, _extent(text, letters_px)
        if spots is None or text_width > width or text_height > height:
            return None
        corners = spots.corners(text_width, text_height)
        corners = corners.round().clip(0, (width - text_width, height - text_height))
        places = np.hstack([corners, corners + (text_width, text_height)])  # (N, 4)
        rank = np.arange(len(places))
        cost = self._share_covered(places) + 0.02 * np.minimum(rank, 5) + 0.01 * rank
        x0, y0, x1, y1 = spots.box
        reach = text_height  # farther off, nobody could tell whose caption it is
        near = _meet(places, np.array([(x0 - reach, y0 - reach, x1 + reach, y1 + reach)]))
        taken = np.array([tag.box for tag in others if tag], np.float64).reshape(-1, 4)
        taken = np.vstack([taken + (-1, -1, 1, 1), self._kept_free])
        free = near.any(1) & ~_meet(places, taken).any(1)
        if not free.any():
            return None
        left, top, right, bottom = places[int(np.where(free, cost, np.inf).argmin())].astype(int)
        return _Tag(index, text, letters_px, (int(left), int(top), int(right), int(bottom)))

    def _share_covered(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return which part of each place lies on masks."""
        rows, columns = self._covered.shape
        x0, y0 = (places[:, :2] // self._step).astype(int).T
        x1, y1 = np.ceil(places[:, 2:] / self._step).astype(int).T
        x1, y1 = x1.clip(max=columns - 1), y1.clip(max=rows - 1)
        sums = self._covered
        inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        return np.asarray(inside / np.maximum(1, (x1 - x0) * (y1 - y0)))


def _meet(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (N, K): which boxes share a pixel with which others."""
    first, second = boxes[:, None], others[None]
    overlap = np.minimum(first[..., 2:], second[..., 2:]) > np.maximum(
        first[..., :2], second[..., :2]
    )
    return np.asarray(overlap.all(-1))


def _letters_px(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Return how high letters are, the line of them, at best and at least."""
    longest, shortest = max(size_hw), min(size_hw)
    largest = max(longest / 42, min(13, longest / 6))
    largest = max(_SMALLEST_LETTERS_PX, min(largest, shortest / 4))
    least = _SMALLEST_LETTERS_PX if longest < 300 else _SMALLEST_LETTERS_PX + 2
    return round(largest), round(min(largest, max(least, largest * 0.6)))


def _forms(caption: Caption | str) -> tuple[str, ...]:
    if isinstance(caption, Caption):
        return caption.forms
    text = _printable(caption)
    return tuple(dict.fromkeys((text, _shortened(text, 8)))) if text else ()


def _printable(text: str) -> str:
    """Return a text on one line, without what has no shape, and not too long."""
    shown = "".join(mark if mark.isprintable() else " " for mark in str(text))
    return _shortened(" ".join(shown.split()), _LONGEST_NAME)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def _cut(box: Box, size_hw: tuple[int, int]) -> Box:
    (height, width), (x0, y0, x1, y1) = size_hw, box
    return max(0, x0), max(0, y0), min(width, x1), min(height, y1)


def _extent(text: str, letters_px: int) -> tuple[int, int]:
    """Return width and height of a caption, its margins included."""
    shown, font = _shaped(text, letters_px)
    margin = max(1, round(letters_px / 5))
    left, _, right, _ = font.getbbox(shown)
    _, top, _, bottom = font.getbbox("Ag(")
    return math.ceil(right - left) + 2 * margin, math.ceil(bottom - top) + 2 * margin


def _sign(tag: _Tag, color: Color) -> NDArray[np.uint8]:
    """Return the picture of a caption: its text on a ground of its object's colour."""
    from PIL import Image, ImageDraw

    shown, font = _shaped(tag.text, tag.letters_px)
    width, height = _extent(tag.text, tag.letters_px)
    margin = max(1, round(tag.letters_px / 5))
    picture = Image.new("RGB", (width, height), color)
    corner = (margin - font.getbbox(shown)[0], margin - font.getbbox("Ag(")[1])
    ImageDraw.Draw(picture).text(corner, shown, fill=_ink(color), font=font)
    return np.asarray(picture)


def _ink(color: Color) -> Color:
    """Return black or white, whichever stands out more; their contrast is never below 4.5."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (value / 255 for value in color)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


@functools.lru_cache(maxsize=4096)
def _shaped(text: str, letters_px: int) -> tuple[str, Any]:
    """Return a text as it can be shown, and the font for it.

    Pillow's own font, alike on every machine, has little more than ASCII. Other writing is shown
    in the first font found that has it; without one, accents go and the rest becomes '?'.
    """
    own = _own_font(letters_px)
    if _has_all(own, text):
        return text, own
    for font in _found_fonts(letters_px):
        if _has_all(font, text):
            return text, font
    plain = unicodedata.normalize("NFKD", text)
    kept = (mark for mark in plain if not unicodedata.combining(mark))
    return "".join(mark if _has_all(own, mark) else "?" for mark in kept), own


@functools.lru_cache(maxsize=64)
def _own_font(letters_px: int) -> Any:
    from PIL import ImageFont

    try:
        return ImageFont.load_default(letters_px)
    except ImportError:  # a Pillow built without FreeType: letters of one size
        return ImageFont.load_default()


def _found_fonts(letters_px: int) -> Iterator[Any]:
    from PIL import ImageFont

    for file in _font_files():
        yield ImageFont.truetype(file, letters_px)


@functools.lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    """Return the fonts there are: of the system, and the one that comes with matplotlib."""
    from PIL import ImageFont

    names = list(_FONTS)
    matplotlib = importlib.util.find_spec("matplotlib")
    for folder in (matplotlib and matplotlib.submodule_search_locations) or ():
        names.append(str(Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"))
    found = []
    for name in names:
        try:
            found.append(str(ImageFont.truetype(name, 12).path))
        except (OSError, ImportError):
            continue
    return tuple(dict.fromkeys(found))


def _has_all(font: Any, text: str) -> bool:
    """Return whether a font has a shape of its own for every mark of a text."""
    try:
        missing = _shape(font, "\uffff")
        return all(mark.isspace() or _shape(font, mark) != missing for mark in set(text))
    except UnicodeEncodeError:  # a font of Latin-1 alone
        return False


def _shape(font: Any, mark: str) -> tuple[Any, bytes]:
    drawn = font.getmask(mark)
    return drawn.size, bytes(drawn)
