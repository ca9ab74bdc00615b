"""Average precision and recall of masks or boxes with scores, through pycocotools' COCOeval."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nexus.core.choices import entry
from nexus.core.errors import InputError
from nexus.core.json_text import read_json
from nexus.core.packages import optional_module
from nexus.core.words import counted
from nexus.data.truth.labelled import Truth
from nexus.ops.rle import encode_rle, rle_area

Kind = Literal["mask", "box"]
_IOU_TYPE = {"mask": "segm", "box": "bbox"}
_NO_CATEGORY = "object"


@dataclass(frozen=True, eq=False)
class Detection:
    """One object a model found in an image.

    Attributes:
        score: How sure it is; only the order matters.
        mask: Bool (H, W); needed for the AP of masks.
        box_xyxy: Right and bottom edges exclusive; needed for the AP of boxes.
        category: Name of its class, as the truths name theirs; None where there are no classes.
    """

    score: float
    mask: NDArray[np.bool_] | None = None
    box_xyxy: tuple[float, float, float, float] | None = None
    category: str | None = None


@dataclass(frozen=True)
class DetectionScores:
    """The twelve numbers of a COCO table; None where no object is of that size.

    Attributes:
        ap: Average precision, the mean over the IoU thresholds 0.5, 0.55 to 0.95 and over
            categories; `ap50` and `ap75` at 0.5 and 0.75 alone. `ap_small` is that of objects below
            32^2 pixels, `ap_large` of those above 96^2, `ap_medium` of those between.
        ar1: Average recall with one detection an image and category; `ar10` and `ar100` with ten
            and a hundred; by size with a hundred.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None


def average_precision(
    images: Iterable[tuple[Sequence[Truth], Sequence[Detection]]], kind: Kind = "mask"
) -> DetectionScores:
    """Return AP and AR of detections against the objects of labelled images.

    Masks are kept as run lengths, so that the images may come one at a time. The size of an object
    is the area of its mask; COCO's own files state the area of its polygons, which differs a
    little, so for AP by size exactly as published use `coco_scores`.

    Args:
        images: For each image, its true objects and what was found. An object to ignore is a crowd
            to COCO: detections on it count for nothing.
        kind: Compare masks, or boxes.

    Raises:
        InputError: No object, a detection without what is compared, a score that is not a number,
            or masks of different sizes in one image.
        MissingDependencyError: pycocotools is not installed.
    """
    entry(_IOU_TYPE, kind, "a kind")
    categories: dict[str, int] = {}
    truths: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    count = 0
    for count, (objects, detections) in enumerate(images, 1):
        given: list[Truth | Detection] = [*objects, *detections]
        sizes = {each.mask.shape for each in given if each.mask is not None}
        if kind == "mask" and len(sizes) > 1:
            raise InputError(f"expected masks of one size in an image, got {sorted(sizes)}")
        for each in given:
            category = categories.setdefault(each.category or _NO_CATEGORY, len(categories) + 1)
            records = truths if isinstance(each, Truth) else found
            known = {"id": len(records) + 1, "image_id": count, "category_id": category}
            records.append({**known, **_record(each, kind)})
    if not truths:
        raise InputError(
            f"expected at least one true object, got none in {counted(count, 'image')}"
        )
    # COCO asks for sizes to draw polygons; run lengths bring their own.
    shared = {
        "images": [{"id": index, "height": 0, "width": 0} for index in range(1, count + 1)],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    return _evaluate({**shared, "annotations": truths}, {**shared, "annotations": found}, kind)


def coco_scores(
    ground_truth: str | os.PathLike[str] | Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    kind: Kind = "mask",
) -> DetectionScores:
    """Return AP and AR of COCO results against a COCO instances file, as published.

    Args:
        ground_truth: The JSON file, or its content.
        results: Records with `image_id`, `category_id`, `score` and `segmentation` (RLE) or `bbox`
            (x, y, width, height).
        kind: Compare masks, or boxes.

    Raises:
        InputError: A file that is not there, records without a key, or ids that the file does not
            have.
        MissingDependencyError: pycocotools is not installed.
    """
    entry(_IOU_TYPE, kind, "a kind")
    truth = ground_truth
    if not isinstance(truth, Mapping):
        path = Path(truth)
        if not path.is_file():
            raise InputError(f"expected a COCO instances file, got no file at {path}")
        truth = read_json(path, dict, "a COCO instances file")
    needed = ("image_id", "category_id", "score", "segmentation" if kind == "mask" else "bbox")
    for record in results:
        missing = [key for key in needed if key not in record]
        if missing:
            raise InputError(
                f"expected results with {', '.join(needed)}, got one without {', '.join(missing)}"
            )
    known = {image["id"] for image in truth.get("images", ())}
    unknown = {record["image_id"] for record in results} - known
    if unknown:
        raise InputError(
            "expected results for images of the ground truth, "
            f"got one for image_id {min(unknown, key=str)}",
            hint="are the results those of another split?",
        )
    sized = [
        {**record, "area": _area(record, kind), "id": index, "iscrowd": 0}
        for index, record in enumerate(results, 1)
    ]
    dataset = {key: truth[key] for key in ("images", "categories")}
    return _evaluate(truth, {**dataset, "annotations": sized}, kind)


def _record(found: Truth | Detection, kind: Kind) -> dict[str, Any]:
    """Return what COCOeval asks for of an object."""
    compared: Any = found.mask if kind == "mask" else found.box_xyxy
    if compared is None:
        raise InputError(f"expected every detection to have a {kind}, got one without")
    record: dict[str, Any]
    if kind == "mask":
        record = {"segmentation": encode_rle(np.asarray(compared))}
    else:
        left, top, right, bottom = (float(edge) for edge in compared)
        record = {"bbox": [left, top, right - left, bottom - top]}
    if isinstance(found, Truth):
        area, ignore = float(np.count_nonzero(found.mask)), int(found.ignore)
        return {**record, "area": area, "iscrowd": ignore, "ignore": ignore}
    score = float(found.score)
    if not np.isfinite(score):
        raise InputError(f"expected a finite score of every detection, got {score}")
    return {**record, "iscrowd": 0, "area": _area(record, kind), "score": score}


def _area(record: Mapping[str, Any], kind: Kind) -> float:
    if kind == "box":
        return float(record["bbox"][2] * record["bbox"][3])
    return float(rle_area(record["segmentation"]))


def _evaluate(truth: Mapping[str, Any], found: Mapping[str, Any], kind: Kind) -> DetectionScores:
    """Compare two COCO datasets."""
    make = optional_module("pycocotools.coco", "for average precision").COCO
    from pycocotools.cocoeval import COCOeval

    sides = make(), make()
    # pycocotools reports by printing, and stdout belongs to results.
    with contextlib.redirect_stdout(io.StringIO()):
        for side, dataset in zip(sides, (truth, found), strict=True):
            side.dataset = dataset
            side.createIndex()
        evaluation = COCOeval(*sides, _IOU_TYPE[kind])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return DetectionScores(*(float(value) if value > -1 else None for value in evaluation.stats))
