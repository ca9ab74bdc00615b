"""Settings of automatic masks: defaults and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.predict.automatic.settings import AutomaticSettings, settings_for
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import TINY_EDGETAM, tiny_sam2


def test_defaults_are_those_of_the_originals() -> None:
    """SAM's wants 0.88 of predicted IoU, SAM 2's and EdgeTAM's 0.8; the rest is shared."""
    sam = settings_for(tiny_sam(), {})

    assert sam == AutomaticSettings()
    assert (sam.points_per_side, sam.points_per_batch) == (32, 64)
    assert (sam.pred_iou_thresh, sam.stability_score_thresh) == (0.88, 0.95)
    assert (sam.stability_score_offset, sam.box_nms_thresh) == (1.0, 0.7)
    assert (sam.crop_n_layers, sam.crop_overlap_ratio) == (0, 512 / 1500)
    assert settings_for(tiny_sam2(), {}).pred_iou_thresh == 0.8
    assert settings_for(tiny_sam2(config=TINY_EDGETAM), {}).pred_iou_thresh == 0.8
    assert settings_for(tiny_sam2(), {"pred_iou_thresh": 0.5}).pred_iou_thresh == 0.5


def test_an_unknown_setting_is_refused() -> None:
    """The message has the known ones and the near one."""
    with pytest.raises(InputError, match=r"points_per_side.*got pred_iou_tresh\n.*did you mean"):
        settings_for(tiny_sam(), {"pred_iou_tresh": 0.5})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points_per_side": None}, "either points_per_side or point_grids, got neither"),
        ({"point_grids": [np.zeros((1, 2))]}, "got both\nhint: with `point_grids` pass"),
        ({"points_per_side": 0}, "points_per_side of at least 1 and at most 1000, got 0"),
        ({"points_per_batch": 0}, "points_per_batch of at least 1, got 0"),
        ({"crop_n_layers": -1}, "crop_n_layers of at least 0 and at most 8, got -1"),
        ({"box_nms_thresh": float("nan")}, "box_nms_thresh to be a number, got nan"),
        ({"crop_overlap_ratio": 1.0}, "crop_overlap_ratio below 1, got 1.0"),
        ({"output_mode": "png"}, "binary_mask, uncompressed_rle, coco_rle, got 'png'"),
        (
            {"points_per_side": None, "point_grids": [np.zeros((1, 2))], "crop_n_layers": 1},
            "expected 2 point_grids",
        ),
        (
            {"points_per_side": None, "point_grids": [np.array([[3.0, 4.0]])]},
            r"x, y in \[0, 1\], got shape \(1, 2\), values 0 to 4",
        ),
        ({"points_per_side": 4, "crop_n_layers": 3, "crop_n_points_downscale_factor": 2}, "layer"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    """Each message names the setting, what it may be and what it was."""
    with pytest.raises(InputError, match=message):
        AutomaticSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points_per_side": "abc"}, "expected points_per_side to be a whole number, got 'abc'"),
        ({"points_per_side": 2.5}, "expected points_per_side to be a whole number, got 2.5"),
        ({"points_per_side": True}, "expected points_per_side to be a whole number, got True"),
        ({"points_per_batch": None}, "expected points_per_batch to be a whole number, got None"),
        ({"points_per_side": 10**6}, "points_per_side of at least 1 and at most 1000, got 1000000"),
        ({"crop_n_layers": 99}, "crop_n_layers of at least 0 and at most 8, got 99"),
        ({"pred_iou_thresh": "high"}, "expected pred_iou_thresh to be a number, got 'high'"),
        ({"pred_iou_thresh": float("nan")}, "expected pred_iou_thresh to be a number, got nan"),
        ({"mask_threshold": [0]}, r"expected mask_threshold to be a number, got \[0\]"),
        ({"use_m2m": "yes"}, "expected use_m2m to be true or false, got 'yes'"),
        ({"output_mode": 3}, "expected an output_mode among .*, got 3"),
        ({"output_mode": ["x"]}, "expected an output_mode among"),
    ],
)
def test_values_of_another_type_are_refused(changes: dict[str, Any], message: str) -> None:
    """What `--set NAME=VALUE` may hold is checked before any image is read."""
    with pytest.raises(InputError, match=message):
        AutomaticSettings(**changes)


def test_numbers_of_numpy_are_numbers() -> None:
    """Settings may come out of arrays."""
    settings = AutomaticSettings(points_per_side=np.int64(4), pred_iou_thresh=np.float32(0.5))

    assert len(settings.grids()[0]) == 16
