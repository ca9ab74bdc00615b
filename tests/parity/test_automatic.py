"""Automatic masks against those the original generators recorded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.models.cv import SAM, SAM2, MedSAM
from nexus.models.cv.sam2 import VARIANTS as SAM2_VARIANTS
from nexus.models.promptable import PromptableModel
from nexus.ops.rle import decode_rle
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from tests.parity.test_sam import build, procedural_state

_MARGIN = 2e-3


@pytest.fixture(scope="module")
def mobile_sam(shared_parity: Path) -> SAM:
    model = build("mobile_sam")
    model.load_state_dict(procedural_state(shared_parity, "mobile_sam"))
    return model


@pytest.fixture(scope="module")
def sam2(shared_parity: Path) -> SAM2:
    config = dataclasses.replace(SAM2_VARIANTS["sam2.1_hiera_tiny"], stability=None)
    model = SAM2(config, "sam2.1_hiera_tiny")
    model.load_state_dict(procedural_state(shared_parity, "sam2.1_hiera_t"))
    return model


def lite_medsam(weights: Path) -> MedSAM:
    """LiteMedSAM as the original SAM generator drove it."""
    model = MedSAM.from_checkpoint(weights, variant="lite_medsam", device="cpu")
    model.policy = dataclasses.replace(
        model.policy,
        interpolation="bilinear",
        normalize="mean_std",
        pixel_mean=(0.0, 0.0, 0.0),
        pixel_std=(255.0, 255.0, 255.0),
        box_scale="per_axis",
        upscale="via_input",
        box_only=False,
    )
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "crops"])
def test_mobile_sam(mobile_sam: SAM, shared_parity: Path, kind: str) -> None:
    """The original SAM generator with MobileSAM: noise all over, edge rejection, clean-up."""
    check(mobile_sam, shared_parity, f"mobile_sam_amg_{kind}", "truck_900x600.png")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "m2m"])
def test_sam2(sam2: SAM2, shared_parity: Path, kind: str) -> None:
    """The original SAM 2 generator, and with each mask given back once."""
    check(sam2, shared_parity, f"sam2.1_hiera_t_amg_{kind}", "truck_900x600.png")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "crops"])
def test_lite_medsam(lite_medsam_weights: Path, shared_parity: Path, kind: str) -> None:
    """Real weights: small masks that exercise stability, suppression, crops and clean-up."""
    model = lite_medsam(lite_medsam_weights)
    check(model, shared_parity, f"lite_medsam_amg_{kind}", "amg_input.png")


def check(model: PromptableModel, parity: Path, name: str, image: str) -> None:
    """Compare both ways: what is recorded and clears the thresholds is found, and nothing else."""
    recording = json.loads((parity / f"{name}.json").read_text())
    generator = SAMAutomaticMaskGenerator(model, output_mode="coco_rle", **recording["settings"])
    ours, theirs = generator.generate(parity / image), recording["masks"]
    settings = generator.settings
    matches = {
        (i, j)
        for i, a in enumerate(ours)
        for j, b in enumerate(theirs)
        if a["point_coords"] == b["point_coords"] and a["crop_box"] == b["crop_box"]
        if is_same(a, b)
    }
    found, matched = {j for _, j in matches}, {i for i, _ in matches}

    assert len(theirs) > 10
    assert [b for j, b in enumerate(theirs) if clears(b, settings) and j not in found] == []
    assert [a for i, a in enumerate(ours) if clears(a, settings) and i not in matched] == []
    assert len(found) == len(matched) == len(matches)


def is_same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Tell whether two records are of one mask: IoU 0.99, scores within the margin."""
    one, two = (decode_rle(record["segmentation"]) for record in (a, b))
    union = np.count_nonzero(one | two)
    return (
        np.count_nonzero(one & two) >= 0.99 * union
        and abs(a["predicted_iou"] - b["predicted_iou"]) <= _MARGIN
        and abs(a["stability_score"] - b["stability_score"]) <= _MARGIN
        and a["bbox"] == pytest.approx(b["bbox"], abs=1)
    )


def clears(record: dict[str, Any], settings: Any) -> bool:
    """Tell whether both scores clear their thresholds by the margin."""
    return bool(
        record["predicted_iou"] > settings.pred_iou_thresh + _MARGIN
        and record["stability_score"] >= settings.stability_score_thresh + _MARGIN
    )
