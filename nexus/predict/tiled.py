"""Images too large for a model's frame: tile by tile, and put together at the seams."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from nexus.core.errors import InputError
from nexus.core.steps import ProgressLike, steps_of
from nexus.core.types import Prompt, PromptLike
from nexus.data.images.loading import ImageLike, load_image
from nexus.models.calls import listed_prompts
from nexus.models.promptable import PromptableModel
from nexus.ops.boxes import tight_box
from nexus.ops.crops import CropBox, tiles
from nexus.ops.rle import decode_rle, encode_rle_at
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.automatic.settings import segmentation_of
from nexus.predict.automatic.stages import shift_prompt

_DEFAULT_TILE_PX, _DEFAULT_OVERLAP_PX = 1024, 256


def generate_tiled(
    generator: SAMAutomaticMaskGenerator,
    image: ImageLike,
    *,
    tile_side: int = _DEFAULT_TILE_PX,
    overlap: int = _DEFAULT_OVERLAP_PX,
    merge_iou: float = 0.5,
    max_pixels: int | None = None,
    progress: ProgressLike = False,
) -> list[dict[str, Any]]:
    """Find the masks of a large image, one tile after the other.

    Masks of two tiles that agree where the tiles overlap are one object and are joined. Memory
    grows with the tile and the masks' run lengths, not with the image.

    Args:
        generator: Finds the masks of each tile; its output mode is that of the result.
        image: Whatever `nexus.data.images.load_image` reads.
        tile_side: Pixels.
        overlap: Least pixels that neighbouring tiles share; at least the size of most objects.
        merge_iou: Join masks whose IoU within the overlap is at least this.
        max_pixels: Refuse larger images before decoding them; None accepts any.
        progress: Show tiles done on stderr, or a function of tiles done and tiles in all.

    Returns:
        Records as of `generate`, in the image, highest predicted IoU first. `crop_box` is the tile,
        or the box around all tiles of a joined mask, which has the highest of its parts' scores
        and the points of all of them.

    Raises:
        ImageError: The image cannot be read or used.
        InputError: An overlap that is not less than the tile, or a merge_iou out of (0, 1].
    """
    if not 0 < merge_iou <= 1:
        raise InputError(f"expected merge_iou in (0, 1], got {merge_iou}")
    array = load_image(image, max_pixels=max_pixels)
    size_hw = (array.shape[0], array.shape[1])
    parts: list[_Part] = []
    places = tiles(size_hw, tile_side, overlap)
    with steps_of(progress, len(places), label="generate", unit="tiles") as steps:
        for tile in places:
            left, top, right, bottom = tile
            for record in generator.generate(array[top:bottom, left:right], max_pixels=None):
                mask = record["segmentation"]
                mask = decode_rle(mask) if isinstance(mask, dict) else mask
                if mask.any():
                    x0, y0, x1, y1 = tight_box(mask)
                    part = mask[y0:y1, x0:x1].copy()
                    parts.append(_Part(record, part, (x0 + left, y0 + top), tile))
            steps.advance()
    joined = [_joined([parts[i] for i in group]) for group in _groups(parts, merge_iou)]
    joined.sort(key=lambda part: -part.record["predicted_iou"])
    return [_record(part, size_hw, generator.settings.output_mode) for part in joined]


def predict_tiled(
    model: PromptableModel,
    image: ImageLike,
    prompts: Iterable[PromptLike],
    *,
    tile_side: int = _DEFAULT_TILE_PX,
    overlap: int = _DEFAULT_OVERLAP_PX,
    max_pixels: int | None = None,
    progress: ProgressLike = False,
) -> list[dict[str, Any]]:
    """Answer prompts on a large image, each in the tile that shows most of what is around it.

    Prompts are points or boxes in pixels of the image, no masks; a box larger than a tile is
    answered on a crop around it. Other arguments are those of `generate_tiled`.

    Returns:
        For each prompt `segmentation` (compressed RLE in the image), `area`, `bbox` (x, y, width,
        height of its tight box, edges exclusive), `predicted_iou` and `crop_box`.

    Raises:
        ImageError: The image cannot be read or used.
        PromptError: A prompt is malformed or does not fit the image.
        InputError: A prompt with a mask, or an overlap that is not less than the tile.
    """
    array = load_image(image, max_pixels=max_pixels)
    size_hw = (array.shape[0], array.shape[1])
    places = tiles(size_hw, tile_side, overlap)
    hint = "for one prompt pass [prompt]"
    parsed = [Prompt.of(prompt) for prompt in listed_prompts(prompts, "", hint)]
    jobs: dict[CropBox, list[int]] = {}
    for index, prompt in enumerate(parsed):
        if prompt.mask is not None:
            raise InputError(f"expected prompts of points or boxes, got a mask in prompt {index}")
        prompt.check_within(size_hw)
        jobs.setdefault(_tile_for(prompt, places, size_hw, overlap), []).append(index)
    results: list[dict[str, Any]] = [{} for _ in parsed]
    with steps_of(progress, len(jobs), label="predict", unit="tiles") as steps:
        for tile, members in jobs.items():
            x0, y0, x1, y1 = tile
            embedding = model.encode_image(array[y0:y1, x0:x1], max_pixels=None)
            local = [shift_prompt(parsed[index], -x0, -y0) for index in members]
            for index, masks in zip(members, model.predict_batch(embedding, local), strict=True):
                left, top, right, bottom = (int(v) for v in masks.boxes_xyxy[masks.best_index])
                results[index] = {
                    "segmentation": encode_rle_at(masks.best, (x0, y0), size_hw),
                    "area": int(np.count_nonzero(masks.best)),
                    "bbox": [left + x0, top + y0, right - left, bottom - top],
                    "predicted_iou": masks.best_score,
                    "crop_box": [x0, y0, x1 - x0, y1 - y0],
                }
            steps.advance()
    return results


@dataclass(frozen=True)
class _Part:
    """A mask as far as its tile shows it: its pixels from `corner_xy` on."""

    record: dict[str, Any]
    pixels: NDArray[np.bool_]
    corner_xy: tuple[int, int]
    tile: CropBox

    @property
    def box(self) -> CropBox:
        """Edges exclusive, in the image."""
        (height, width), (x0, y0) = self.pixels.shape, self.corner_xy
        return x0, y0, x0 + width, y0 + height

    def within(self, box: CropBox) -> NDArray[np.bool_]:
        """Return the pixels within a box of the image, as large as the box."""
        shown = np.zeros((box[3] - box[1], box[2] - box[0]), np.bool_)
        x0, y0, x1, y1 = _overlap(self.box, box)
        if x0 < x1 and y0 < y1:
            left, top = self.corner_xy
            shown[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]] = self.pixels[
                y0 - top : y1 - top, x0 - left : x1 - left
            ]
        return shown


def _groups(parts: Sequence[_Part], merge_iou: float) -> list[list[int]]:
    """Return which parts are of one object: those that agree, and those that agree with these."""
    agree = DisjointSet(range(len(parts)))
    boxes = np.array([part.box for part in parts]).reshape(-1, 4)
    for second, part in enumerate(parts):
        x0, y0, x1, y1 = part.box
        left, top, right, bottom = boxes[:second].T
        near = (left < x1) & (right > x0) & (top < y1) & (bottom > y0)
        for first in np.flatnonzero(near).tolist():
            if part.tile != parts[first].tile and _agree(part, parts[first], merge_iou):
                agree.merge(first, second)
    return sorted(sorted(group) for group in agree.subsets())


def _agree(part: _Part, other: _Part, merge_iou: float) -> bool:
    """Tell whether two masks whose boxes overlap are alike in what both tiles show."""
    region = _overlap(_around([part.box, other.box]), _overlap(part.tile, other.tile))
    first, second = part.within(region), other.within(region)
    both, either = np.count_nonzero(first & second), np.count_nonzero(first | second)
    return bool(both > 0 and both >= merge_iou * either)


def _joined(parts: list[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    box, tile = _around([part.box for part in parts]), _around([part.tile for part in parts])
    pixels = functools.reduce(np.logical_or, (part.within(box) for part in parts))
    best = max(parts, key=lambda part: part.record["predicted_iou"])
    points = [
        [x + part.tile[0] - tile[0], y + part.tile[1] - tile[1]]
        for part in parts
        for x, y in part.record["point_coords"]
    ]
    return _Part({**best.record, "point_coords": points}, pixels, (box[0], box[1]), tile)


def _record(part: _Part, size_hw: tuple[int, int], output_mode: str) -> dict[str, Any]:
    x0, y0, x1, y1 = part.box
    left, top, right, bottom = part.tile
    rle = encode_rle_at(part.pixels, part.corner_xy, size_hw)
    return {
        **part.record,
        "segmentation": segmentation_of(rle, output_mode),
        "area": int(np.count_nonzero(part.pixels)),
        "bbox": [x0, y0, x1 - 1 - x0, y1 - 1 - y0],
        "point_coords": [[x + left, y + top] for x, y in part.record["point_coords"]],
        "crop_box": [left, top, right - left, bottom - top],
    }


def _tile_for(
    prompt: Prompt, places: Sequence[CropBox], size_hw: tuple[int, int], margin: int
) -> CropBox:
    """Return the tile whose edges are furthest from a prompt, or a crop around a larger box."""
    edge = np.array((size_hw[1], size_hw[0]), np.float32)
    given = [part.reshape(-1, 2) for part in (prompt.points, prompt.box) if part is not None]
    low = np.maximum(np.concatenate(given).min(0), 0)
    high = np.minimum(np.concatenate(given).max(0), edge)

    def room(tile: CropBox) -> float:
        """Return the least distance to an edge of the tile that is no edge of the image."""
        first, last = np.array(tile, np.float32).reshape(2, 2)
        before = np.where(first == 0, np.inf, low - first)
        behind = np.where(last == edge, np.inf, last - high)
        return float(min(*before, *behind))

    best = max(places, key=room)
    if room(best) >= 0:
        return best
    x0, y0 = (max(0, int(value) - margin) for value in low)
    x1, y1 = (min(int(np.ceil(v)) + margin, int(e)) for v, e in zip(high, edge, strict=True))
    return x0, y0, x1, y1


def _overlap(box: CropBox, other: CropBox) -> CropBox:
    (x0, y0, x1, y1), (left, top, right, bottom) = box, other
    return max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)


def _around(boxes: Sequence[CropBox]) -> CropBox:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)
