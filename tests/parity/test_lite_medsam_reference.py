"""LiteMedSAM with its real weights on real medical and natural images.

The first six images of each set; `make proof-reference` evaluates all 199.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nexus.models.cv import MedSAM

SETS = (
    "acdc_mri",
    "busi_us",
    "coco_sample",
    "cxr_covid",
    "davis345_interactive",
    "dsb2018_nuclei",
    "kvasir_seg",
    "mri_prostate",
    "pennfudan_sample",
    "ph2_skin",
)


IMAGES = 6


@pytest.fixture(scope="module")
def medsam(lite_medsam_weights: Path) -> MedSAM:
    return MedSAM.from_checkpoint(lite_medsam_weights, variant="lite_medsam", device="cpu")


def reference(shared_data: Path) -> dict[str, list[dict[str, Any]]]:
    by_set: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in json.loads((shared_data / "lite_medsam_reference.json").read_text()):
        by_set[record["set"]].append(record)
    return by_set


def test_the_reference_covers_the_sets_tested_here(shared_data: Path) -> None:
    """No set is left out, so that no set can get worse unseen."""
    image_sets = {
        name for name in reference(shared_data) if (shared_data / name / "masks").is_dir()
    }

    assert image_sets == set(reference(shared_data)) == set(SETS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_boxes_reach_the_original_pipeline(medsam: MedSAM, shared_data: Path, name: str) -> None:
    """The mean DSC over a set's objects is at least the original pipeline's minus 0.005."""
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in reference(shared_data)[name]:
        by_image[record["image"]].append(record)
    ours, theirs = [], []
    for image, records in list(by_image.items())[:IMAGES]:
        embedding = medsam.encode_image(shared_data / name / "images" / image)
        labels = np.asarray(Image.open(mask_path(shared_data / name / "masks", image)))
        results = medsam.predict_batch(embedding, [r["box_xyxy"] for r in records])
        for record, masks in zip(records, results, strict=True):
            truth = labels == record["id"]
            ours.append(2 * (masks.best & truth).sum() / (masks.best.sum() + truth.sum()))
            theirs.append(record["dsc"])

    print(f"{name}: {len(ours)} objects, DSC {np.mean(ours):.4f}, original {np.mean(theirs):.4f}")
    assert np.mean(ours) >= np.mean(theirs) - 0.005


def mask_path(folder: Path, image: str) -> Path:
    return folder / f"{Path(image).stem}.png"
