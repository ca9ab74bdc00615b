"""Prompts: what a caller points at, in pixels of the original image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError, PromptError, shown
from nexus.core.files import write_text
from nexus.core.json_text import dump_json, read_json
from nexus.core.types.showing import Shown, Table, as_array, ground
from nexus.core.types.values import ByValue, checked_suffix, load_record, save_record
from nexus.ops.rle import decode_rle, encode_rle

if TYPE_CHECKING:
    import torch

_SUFFIXES = {".json": "points, boxes and bool masks", ".npz": "everything"}
_MOST_SHOWN = 4
_GROUND_PX = 1024
_PROMPT_KEYS = ("point", "points", "label", "labels", "box", "mask")
_FEW = 8  # numbers that a message shows


@dataclass(frozen=True, eq=False)
class Prompt(ByValue, Shown):
    """What to segment: one object, described by any mix of points, a box and a rough mask.

    Attributes:
        points: (N, 2) XY in original pixels, or None.
        labels: (N,) one per point: 1 foreground, 0 background. None means all foreground.
        box: (4,) x0, y0, x1, y1 in original pixels with x0 < x1 and y0 < y1, or None.
        mask: (h, w) float logits as a model returned them in `Masks.low_res_logits`, or a bool
            (H, W) mask of the original image, also as COCO RLE, or None.

    Raises:
        PromptError: Nothing given, a wrong shape, a value that is not finite, another label than
            0 or 1, or a box with no area.
    """

    points: NDArray[np.float32] | None = None
    labels: NDArray[np.int64] | None = None
    box: NDArray[np.float32] | None = None
    mask: NDArray[Any] | None = None

    def __init__(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | torch.Tensor | None = None,
    ) -> None:
        point_array = None if points is None else _points(points)
        label_array = _labels(labels, None if point_array is None else len(point_array))
        object.__setattr__(self, "points", point_array)
        object.__setattr__(self, "labels", label_array)
        object.__setattr__(self, "box", None if box is None else _box(box))
        object.__setattr__(self, "mask", None if mask is None else _mask(mask))
        if self.points is None and self.box is None and self.mask is None:
            raise PromptError(
                "expected a prompt with points, a box or a mask, got an empty one",
                hint="pass points=[[x, y]], box=(x0, y0, x1, y1) or mask=...",
            )

    @classmethod
    def of(cls, prompt: PromptLike | None) -> Prompt:
        """Read a prompt from any of its spellings.

        Args:
            prompt: A `Prompt`; a mapping with `point`/`points`, `label`/`labels`, `box`, `mask`;
                an (x, y) pair, which is one foreground point; or an (x0, y0, x1, y1) box.

        Raises:
            PromptError: None of these.
        """
        if isinstance(prompt, Prompt):
            return prompt
        if prompt is None:
            raise PromptError(
                "expected a prompt, got None",
                hint="pass prompt=(x, y), prompt=(x0, y0, x1, y1) or prompt=Prompt(...)",
            )
        if isinstance(prompt, Mapping):
            return cls._of_mapping(prompt)
        values = _floats(prompt, "a prompt")
        if values.shape == (2,):
            return cls(points=values[None])
        if values.shape == (4,):
            return cls(box=values)
        raise PromptError(
            "expected a Prompt, a dict, an (x, y) point or an (x0, y0, x1, y1) box, "
            f"got an array of shape {values.shape}",
            hint="several points of one object: Prompt(points=[[x, y], ...], labels=[...]); "
            "several objects: predict_batch(embedding, [prompt, prompt, ...])",
        )

    @classmethod
    def _of_mapping(cls, prompt: Mapping[str, Any]) -> Prompt:
        unknown = sorted(map(str, set(prompt) - set(_PROMPT_KEYS)))
        if unknown:
            raise PromptError(
                f"expected prompt keys among {', '.join(_PROMPT_KEYS)}, got {', '.join(unknown)}"
            )
        values = []
        for singular, plural in (("point", "points"), ("label", "labels")):
            given = [prompt[key] for key in (singular, plural) if prompt.get(key) is not None]
            if len(given) == 2:
                raise PromptError(f"expected '{singular}' or '{plural}' in a prompt, got both")
            values.append(given[0] if given else None)
        points, labels = values
        return cls(points, labels, prompt.get("box"), prompt.get("mask"))

    def __repr__(self) -> str:
        parts = []
        if self.points is not None and self.labels is not None:
            count, foreground = len(self.points), int(self.labels.sum())
            if count <= _MOST_SHOWN:
                pairs = ", ".join(f"({x:g}, {y:g})" for x, y in self.points)
                parts.append(f"points=[{pairs}], labels={self.labels.tolist()}")
            else:
                parts.append(f"points={count}, foreground={foreground}")
        if self.box is not None:
            parts.append(f"box=({', '.join(f'{value:g}' for value in self.box)})")
        if self.mask is not None:
            kind = "bool" if self.mask.dtype == np.bool_ else "logits"
            parts.append(f"mask={kind} {self.mask.shape}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def overlay(self, image: Any, **drawing: Any) -> NDArray[np.uint8]:
        """Return an image with points, box and mask drawn on it.

        Logits lie in the frame of a model, not in the image, and are not drawn.

        Args:
            image: The one to segment: a path, or whatever else a model takes.
            drawing: `colors`, `alpha`, `outline` of `nexus.ops.draw.overlay`.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            InputError: An image that cannot be read, or that the mask has another size than.
        """
        from nexus.ops.draw import overlay

        has_mask = self.mask is not None and self.mask.dtype == np.bool_
        return overlay(
            as_array(image),
            self.mask if has_mask and self.mask is not None else [],
            boxes_xyxy=self.box,
            points_xy=self.points,
            labels=self.labels,
            **drawing,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a .json or a .npz file, whole or not at all; return its path.

        In JSON, which `Prompt.of` takes once it is read, a bool mask is COCO RLE.

        Raises:
            InputError: Another suffix; or logits, which JSON would not hold well.
            OSError: The file cannot be written.
        """
        target, suffix = checked_suffix(path, _SUFFIXES)
        if suffix == ".npz":
            return save_record(self, target)
        if self.mask is not None and self.mask.dtype != np.bool_:
            raise InputError(
                "expected points, a box or a bool mask for JSON, got mask logits",
                hint="a name that ends in .npz holds everything",
            )
        parts: dict[str, Any] = {"points": self.points, "labels": self.labels, "box": self.box}
        document = {name: part.tolist() for name, part in parts.items() if part is not None}
        if self.mask is not None:
            document["mask"] = encode_rle(self.mask)
        return write_text(target, dump_json(document) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Prompt:
        """Read what `save` wrote.

        Raises:
            InputError: There is no such file, it is damaged, or it holds something else.
            OSError: It cannot be read.
        """
        source, suffix = checked_suffix(path, _SUFFIXES)
        if suffix == ".npz":
            return cls(**load_record(cls, source))
        if not source.is_file():
            raise InputError(f"expected a Prompt saved by Nexus, got no file {str(source)!r}")
        return cls.of(read_json(source, dict, "a prompt"))

    def _alone(self, longest: int | None, **drawing: Any) -> NDArray[np.uint8]:
        if self.mask is not None and (self.mask.dtype == np.bool_ or not self._reach()):
            mask = self.mask > 0
            shown = Prompt(self.points, self.labels, self.box, mask)
            return shown.overlay(ground((mask.shape[0], mask.shape[1])), **drawing)
        # Of the image nothing is known but what was pointed at.
        reach = self._reach()
        scale = min(1.0, (longest or _GROUND_PX) / (1.15 * reach + 8))
        parts = (None if part is None else part * scale for part in (self.points, self.box))
        points, box = parts
        side = int(scale * (1.15 * reach + 8))
        return Prompt(points, self.labels, box).overlay(ground((side, side)), **drawing)

    def _reach(self) -> float:
        """Return the largest coordinate that is pointed at, 0 if none is."""
        ends = [part.max() for part in (self.points, self.box) if part is not None]
        return max(1.0, float(max(ends))) if ends else 0.0

    def _table(self) -> Table:
        rows = []
        if self.points is not None and self.labels is not None:
            pairs = zip(self.points, self.labels, strict=True)
            names = ("background", "foreground")
            rows += [(f"{names[label]} point", f"{x:g}, {y:g}") for (x, y), label in pairs]
        if self.box is not None:
            rows.append(("box", ", ".join(f"{value:g}" for value in self.box)))
        if self.mask is not None:
            rows.append(("mask", " x ".join(map(str, self.mask.shape))))
        return ("what", "where"), rows

    def check_within(self, size_hw: tuple[int, int]) -> None:
        """Refuse points outside an image and boxes that do not touch it.

        A box may reach over the edge of the original image, as boxes of detectors do; a point may
        not.

        Raises:
            PromptError: A point is outside, or a box has no pixel of the image in it.
        """
        height, width = size_hw
        if self.points is not None:
            x, y = self.points.T
            outside = (x < 0) | (x > width) | (y < 0) | (y > height)
            if outside.any():
                x0, y0 = self.points[int(np.argmax(outside))]
                raise PromptError(
                    f"expected points inside the image (0 <= x <= {width}, 0 <= y <= {height}), "
                    f"got ({x0:g}, {y0:g})",
                    hint="points are (x, y) in pixels of the original image, not (row, column)",
                )
        if self.box is not None:
            x0, y0, x1, y1 = self.box.tolist()
            if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
                raise PromptError(
                    f"expected a box that overlaps the image of {width} x {height} pixels, "
                    f"got ({x0:g}, {y0:g}, {x1:g}, {y1:g})",
                    hint="boxes are (x0, y0, x1, y1) in pixels of the original image",
                )


PromptLike = Prompt | Mapping[str, Any] | Sequence[float] | NDArray[Any]


def _floats(value: Any, what: str) -> NDArray[np.float32]:
    """Return `value` as a float32 array, or say what it is instead."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise PromptError(f"expected numbers for {what}, got {shown(value)}") from error
    wrong = array[~np.isfinite(array)]
    if wrong.size:
        got = (
            str(array.tolist())
            if array.size <= _FEW
            else (f"{wrong.size:,} NaN or infinite among {array.size:,}")
        )
        raise PromptError(f"expected finite numbers for {what}, got {got}")
    return array


def _points(points: ArrayLike) -> NDArray[np.float32] | None:
    array = _floats(points, "points")
    if array.size == 0:
        return None
    if array.shape == (2,):
        array = array[None]
    if array.ndim != 2 or array.shape[1] != 2:
        raise PromptError(
            f"expected points of shape (N, 2), XY in pixels, got shape {array.shape}",
            hint="one prompt is one object; for several objects pass several prompts",
        )
    return array


def _labels(labels: ArrayLike | None, count: int | None) -> NDArray[np.int64] | None:
    if count is None:
        if labels is not None and _floats(labels, "labels").size > 0:
            raise PromptError("expected points to go with the labels, got labels alone")
        return None
    if labels is None:
        return np.ones(count, np.int64)
    array = np.atleast_1d(_floats(labels, "labels"))
    if array.shape != (count,):
        raise PromptError(
            f"expected one label per point, shape ({count},), got shape {array.shape}"
        )
    wrong = array[(array != 0) & (array != 1)]
    if len(wrong):
        raise PromptError(
            f"expected labels 1 (foreground) or 0 (background), got {wrong[0]:g}",
            hint="prompts may differ in length, so no padding label is needed; boxes go in `box`",
        )
    return array.astype(np.int64)


def _box(box: ArrayLike) -> NDArray[np.float32]:
    array = _floats(box, "a box")
    if array.shape == (1, 4):
        array = array[0]
    if array.shape != (4,):
        raise PromptError(
            f"expected a box of shape (4,), x0, y0, x1, y1 in pixels, got shape {array.shape}",
            hint="for several boxes pass several prompts",
        )
    x0, y0, x1, y1 = array.tolist()
    if x1 <= x0 or y1 <= y0:
        raise PromptError(
            f"expected a box with x0 < x1 and y0 < y1, got ({x0:g}, {y0:g}, {x1:g}, {y1:g})",
            hint="boxes are (x0, y0, x1, y1), not (x, y, width, height)",
        )
    return array


def _mask(mask: Any) -> NDArray[Any]:
    if isinstance(mask, Mapping):
        try:
            return decode_rle(mask)
        except InputError as error:
            raise PromptError(error.message, error.hint) from error
    if hasattr(mask, "detach"):
        tensor = mask.detach().cpu()
        mask = tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
    try:
        array = np.asarray(mask)
    except ValueError as error:  # rows of different lengths
        raise PromptError(f"expected a mask of shape (h, w), got {shown(mask)}") from error
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise PromptError(
            f"expected a mask of shape (h, w), got shape {array.shape}",
            hint="pass one candidate, e.g. masks.best_low_res_logits",
        )
    if array.dtype == np.bool_:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise PromptError(
            f"expected a mask of float logits or of bool, got {array.dtype}",
            hint="for a binary mask of the original image pass mask.astype(bool)",
        )
    return _floats(array, "mask logits")
