"""Boxes of a detector as prompts, and the average precision of the masks they give.

This is how zero-shot instance segmentation is reported for SAM (arXiv 2304.02643, section 7.4): the
boxes, their categories and their scores come from a detector; the model only turns each box into a
mask; pycocotools scores the masks against the annotations of the set.
"""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nexus.core.errors import InputError, NexusWarning
from nexus.core.files import as_path
from nexus.core.json_text import read_json
from nexus.core.types import Prompt
from nexus.eval.metrics import coco_scores
from nexus.eval.protocols import Scene
from nexus.ops.rle import encode_rle


@dataclass(frozen=True)
class Detection:
    """One box of a detector.

    Attributes:
        box_xyxy: In pixels of the original image.
        category_id: As the annotations number categories.
        score: How sure the detector is.
    """

    box_xyxy: tuple[float, float, float, float]
    category_id: int
    score: float


@dataclass(frozen=True)
class Detections:
    """The boxes of a set and the annotations they are scored against.

    Attributes:
        annotations: The COCO annotation file.
        image_ids: By file name, as the annotations have it.
        by_image: By id of the image.
    """

    annotations: Path
    image_ids: Mapping[str, int]
    by_image: Mapping[int, Sequence[Detection]]

    def of(self, name: str) -> tuple[int, tuple[Detection, ...]]:
        """Return the id of an image, by its name or the last part of it, and its boxes in order.

        Raises:
            InputError: The annotations have no such image.
        """
        for known in (name, Path(name).name):
            if known in self.image_ids:
                image_id = self.image_ids[known]
                return image_id, tuple(self.by_image.get(image_id, ()))
        raise InputError(
            f"expected an image of {str(self.annotations)!r}, got {name!r}",
            hint="the annotations must be those of the dataset and split that are evaluated",
        )


def read_detections(
    results: str | os.PathLike[str], annotations: str | os.PathLike[str]
) -> Detections:
    """Read a COCO results file of boxes.

    Args:
        results: A JSON list of `image_id`, `category_id`, `bbox` (x, y, width, height), `score`.
        annotations: The COCO annotation file of the set.

    Raises:
        InputError: Not such files, or a box of an image the annotations do not have.
        OSError: A file cannot be read.
    """
    source = as_path(annotations, "COCO annotations")
    document = read_json(source, dict, "a COCO annotation file")
    try:
        ids = {_file_name(image): int(image["id"]) for image in document["images"]}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected images with file_name and id in {str(source)!r}, got none"
        ) from error
    known = set(ids.values())
    found: dict[int, list[Detection]] = {}
    for number, entry in enumerate(
        read_json(as_path(results, "COCO results"), list, "a COCO results file")
    ):
        where = f"entry {number} of {os.fspath(results)!r}"
        try:
            x, y, width, height = (float(value) for value in entry["bbox"])
            box, score = (x, y, x + width, y + height), float(entry["score"])
            image_id, category_id = int(entry["image_id"]), int(entry["category_id"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"expected image_id, category_id, bbox and score in {where}, got {entry!r:.80}"
            ) from error
        if not np.isfinite(np.array([*box, score], np.float32)).all():
            raise InputError(f"expected finite numbers in {where}, got {entry!r:.80}")
        if image_id not in known:
            raise InputError(
                f"expected boxes of images in {str(source)!r}, got image_id {image_id} in {where}"
            )
        found.setdefault(image_id, []).append(Detection(box, category_id, score))
    return Detections(source, ids, found)


def detection_records(
    scene: Scene, image_id: int, detections: Sequence[Detection]
) -> list[dict[str, Any]]:
    """Turn the boxes of an image into COCO results with masks; scores stay the detector's.

    A box without area, which a detector may well give, has an empty mask.
    """
    size_hw = scene.embedding.original_size_hw
    usable = [_has_area(detection, size_hw) for detection in detections]
    prompts = [Prompt(box=each.box_xyxy) for each in itertools.compress(detections, usable)]
    masks = (answer.best for answer in scene.answer(prompts))
    nothing = np.zeros(size_hw, np.bool_)
    return [
        {
            "image_id": image_id,
            "category_id": detection.category_id,
            "score": detection.score,
            "segmentation": encode_rle(next(masks) if usable[i] else nothing),
        }
        for i, detection in enumerate(detections)
    ]


def score_detections(
    detections: Detections, image_ids: Iterable[int], records: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """Return COCO's twelve figures of mask AP and AR over some images, through `coco_scores`.

    Of LVIS, whose images are annotated for some categories each, COCO's rules would give wrong
    figures; there are none then, and a warning. The images of `image_ids` count, with or without
    records, which are COCO results with masks.

    Raises:
        InputError: A record of a category that the annotations do not have.
        MissingDependencyError: pycocotools is not installed.
    """
    document = read_json(detections.annotations, dict, "a COCO annotation file")
    if any("neg_category_ids" in image for image in document["images"]):
        warnings.warn(
            "no average precision: the annotations are those of LVIS, and only its own code "
            "scores them as published; it reads detections.json",
            NexusWarning,
            stacklevel=2,
        )
        return {}
    wanted = set(image_ids)
    part = {
        "images": [each for each in document["images"] if each["id"] in wanted],
        "annotations": [each for each in document["annotations"] if each["image_id"] in wanted],
        "categories": document["categories"],
    }
    return asdict(coco_scores(part, records))


def _has_area(detection: Detection, size_hw: tuple[int, int]) -> bool:
    x0, y0, x1, y1 = np.array(detection.box_xyxy, np.float32).tolist()  # a prompt's precision
    height, width = size_hw
    return bool(x1 > max(x0, 0) and y1 > max(y0, 0) and x0 < width and y0 < height)


def _file_name(image: Mapping[str, Any]) -> str:
    """Return the name of an image; LVIS gives none, but an address that ends in it."""
    name = image.get("file_name")
    return str(name) if name else "/".join(str(image["coco_url"]).split("/")[-2:])
