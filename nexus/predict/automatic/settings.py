"""Settings of automatic masks, with the names and defaults of the originals."""

from __future__ import annotations

import dataclasses
import math
import numbers
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nexus.core.choices import did_you_mean, entry
from nexus.core.errors import InputError, shown
from nexus.models.promptable import PromptableModel
from nexus.ops.points import layered_point_grids
from nexus.ops.rle import decode_rle, rle_counts

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


@dataclass(frozen=True)
class AutomaticSettings:
    """How automatic masks are found and which of them stay.

    Attributes:
        points_per_side: Points along each side of the image, one prompt each; None with
            `point_grids`.
        points_per_batch: Most prompts decoded together. On a CPU fewer are, as many as its cache
            holds; results and memory do not depend on it.
        pred_iou_thresh: Keep masks whose predicted IoU is above this; 0 or less keeps all.
        stability_score_thresh: Keep masks at least this stable; 0 or less keeps all.
        stability_score_offset: Distance of the two cuts that stability compares, in logits.
        box_nms_thresh: Within a crop, of masks whose boxes have an IoU above this the one with the
            highest predicted IoU stays.
        crop_n_layers: Also look at 2^i x 2^i crops of the image, for i from 1 to this.
        crop_nms_thresh: As `box_nms_thresh`, between crops, where the smaller crop stays.
        crop_overlap_ratio: How far crops overlap, as a share of the image's shorter side.
        crop_n_points_downscale_factor: Layer i has points_per_side / factor^i points per side.
        point_grids: Instead of points_per_side, for the image and each crop layer (N, 2) x, y in
            [0, 1].
        min_mask_region_area: Fill holes and remove parts of masks below this many pixels; 0
            leaves them.
        output_mode: 'binary_mask' (H, W) bool, 'uncompressed_rle' or 'coco_rle'.
        mask_threshold: Logits above it are mask; None takes the model's.
        use_m2m: Give each mask back to the model once, as a prompt beside its point, and keep what
            it makes of it.
        multimask_output: Three candidates for each point, or one.

    Raises:
        InputError: A value out of range.
    """

    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[NDArray[np.floating[Any]]] | None = None
    min_mask_region_area: int = 0
    output_mode: Literal["binary_mask", "uncompressed_rle", "coco_rle"] = "binary_mask"
    mask_threshold: float | None = None
    use_m2m: bool = False
    multimask_output: bool = True

    def __post_init__(self) -> None:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise InputError(
                "expected either points_per_side or point_grids, got "
                + ("neither" if self.point_grids is None else "both"),
                hint="with `point_grids` pass `points_per_side=None`",
            )
        self._check_kinds()
        for name, low in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= _MOST.get(name, math.inf):
                most = f" and at most {_MOST[name]}" if name in _MOST else ""
                raise InputError(f"expected {name} of at least {low}{most}, got {shown(value)}")
        ratio = self.crop_overlap_ratio
        if not ratio < 1:
            raise InputError(f"expected crop_overlap_ratio below 1, got {ratio!r}")
        entry(dict.fromkeys(OUTPUT_MODES), self.output_mode, "an output_mode")
        self.grids()
        for name in ("pred_iou_thresh", "stability_score_thresh"):
            if not getattr(self, name) < 1:
                raise InputError(
                    f"expected {name} below 1, got {getattr(self, name)!r}",
                    hint="the scores are shares of 1; no mask would be left",
                )

    def _check_kinds(self) -> None:
        """Refuse a value of another type than its field has."""
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value, wanted = getattr(self, field.name), hints[field.name]
            for kind, (fits, words) in _KINDS.items():
                may_be_none = wanted == kind | None
                if wanted != kind and not may_be_none:
                    continue
                is_bool = isinstance(value, (bool, np.bool_))
                if not (value is None and may_be_none) and not (
                    isinstance(value, fits) and is_bool == (kind is bool) and value == value
                ):
                    raise InputError(f"expected {field.name} to be {words}, got {shown(value)}")

    def grids(self) -> list[NDArray[np.float64]]:
        """Return (N, 2) points in [0, 1] for the image and for the crops of each layer."""
        layers = self.crop_n_layers
        if self.point_grids is None:
            side = 1 if self.points_per_side is None else self.points_per_side
            return layered_point_grids(side, layers, self.crop_n_points_downscale_factor)
        grids = [np.asarray(grid, np.float64) for grid in self.point_grids]
        if len(grids) <= layers:
            raise InputError(
                f"expected {layers + 1} point_grids, for the image and {layers} crop layers, "
                f"got {len(grids)}"
            )
        for grid in grids:
            inside = grid.ndim == 2 and grid.shape[1:] == (2,) and len(grid)
            if not inside or not ((grid >= 0) & (grid <= 1)).all():
                raise InputError(
                    "expected every point grid as (N, 2) x, y in [0, 1], "
                    f"got shape {grid.shape}, values {grid.min(initial=0):g} to "
                    f"{grid.max(initial=0):g}",
                    hint="points are fractions of width and height",
                )
        return grids


def segmentation_of(rle: Mapping[str, Any], output_mode: str) -> Any:
    """Return a compressed RLE as records of an output mode have it."""
    if output_mode == "binary_mask":
        return decode_rle(rle)
    if output_mode == "uncompressed_rle":
        return {"size": rle["size"], "counts": rle_counts(rle).tolist()}
    return rle


_KINDS: dict[type, tuple[Any, str]] = {
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    bool: ((bool, np.bool_), "true or false"),
}
_MOST = {"points_per_side": 1000, "crop_n_layers": 8}  # beyond lie days, and more than memory
_FROM_1 = ("points_per_side", "points_per_batch", "crop_n_points_downscale_factor")
_FROM_0 = (
    *("stability_score_offset", "box_nms_thresh", "crop_nms_thresh"),
    *("crop_n_layers", "crop_overlap_ratio", "min_mask_region_area"),
)
_LEAST = {**dict.fromkeys(_FROM_1, 1), **dict.fromkeys(_FROM_0, 0)}


def settings_for(
    model: PromptableModel | type[PromptableModel], overrides: Mapping[str, Any]
) -> AutomaticSettings:
    """Return a model's `automatic_settings` with some replaced; errors as of its generator.

    Its class will do, before there are weights.
    """
    known = [field.name for field in dataclasses.fields(AutomaticSettings)]
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise InputError(
            f"expected settings among {', '.join(known)}, got {', '.join(unknown)}",
            hint=did_you_mean(unknown[0], known),
        )
    return AutomaticSettings(**{**model.automatic_settings, **overrides})
