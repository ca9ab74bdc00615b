"""AP and AR are those of pycocotools."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nexus.core.errors import InputError, MissingDependencyError
from nexus.data.truth.labelled import Truth
from nexus.eval.metrics import Detection, average_precision, coco_scores
from nexus.ops.boxes import tight_box

NAMES = ("cat", "dog")
Sample = tuple[list[Truth], list[Detection]]


def rectangle(rng: np.random.Generator, size: int = 160) -> NDArray[np.bool_]:
    """Draw a rectangle of any size: some small, some large as COCO counts."""
    mask = np.zeros((size, size), bool)
    side = rng.integers(8, 120, 2)
    top, left = (rng.integers(0, size - s) for s in side)
    mask[top : top + side[0], left : left + side[1]] = True
    return mask


def samples(seed: int, images: int = 8) -> list[Sample]:
    """Draw objects, some of them crowds, and detections near them or anywhere."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(images):
        truths, found = [], []
        for number in range(rng.integers(1, 6)):
            mask, name = rectangle(rng), str(rng.choice(NAMES))
            truths.append(Truth(number + 1, mask, tight_box(mask), name, bool(rng.random() < 0.15)))
            for _ in range(rng.integers(0, 3)):
                near = np.roll(mask, rng.integers(-6, 7, 2), (0, 1))
                found.append(Detection(float(rng.random()), near, tight_box(near), name))
        noise = rectangle(rng)
        found.append(
            Detection(float(rng.random()), noise, tight_box(noise), str(rng.choice(NAMES)))
        )
        result.append((truths, found))
    return result


def as_coco(data: list[Sample]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write the samples as a COCO instances file and COCO results."""

    def rle(mask: NDArray[np.bool_]) -> dict[str, Any]:
        packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": packed["size"], "counts": packed["counts"].decode()}

    def xywh(box: Any) -> list[float]:
        return [box[0], box[1], box[2] - box[0], box[3] - box[1]]

    annotations, results = [], []
    for image_id, (truths, found) in enumerate(data, 10):
        for truth in truths:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": NAMES.index(truth.category or "") + 1,
                    "segmentation": rle(truth.mask),
                    "bbox": xywh(truth.box_xyxy),
                    "area": int(truth.mask.sum()),
                    "iscrowd": int(truth.ignore),
                }
            )
        for detection in found:
            assert detection.mask is not None
            results.append(
                {
                    "image_id": image_id,
                    "category_id": NAMES.index(detection.category or "") + 1,
                    "score": detection.score,
                    "segmentation": rle(detection.mask),
                    "bbox": xywh(detection.box_xyxy),
                }
            )
    images = [{"id": i, "height": 160, "width": 160} for i in range(10, 10 + len(data))]
    categories = [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def directly(truth: dict[str, Any], results: list[dict[str, Any]], kind: str) -> list[float]:
    """Run COCOeval as its users do."""
    # loadRes takes a result with both for a box, and its area for that of the box.
    other = "segmentation" if kind == "box" else "bbox"
    results = [{key: value for key, value in r.items() if key != other} for r in results]
    ground_truth = COCO()
    ground_truth.dataset = truth
    ground_truth.createIndex()
    evaluation = COCOeval(
        ground_truth, ground_truth.loadRes(results), "segm" if kind == "mask" else "bbox"
    )
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.mark.parametrize("kind", ["mask", "box"])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_a_direct_run_of_coco(
    seed: int, kind: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """All twelve numbers, from labelled images and from COCO records, and nothing is printed."""
    data = samples(seed)
    truth, results = as_coco(data)
    ours, theirs = average_precision(iter(data), kind), coco_scores(truth, results, kind)
    printed = capsys.readouterr().out
    expected = directly(*as_coco(data), kind)

    assert printed == ""
    assert 0.05 < expected[0] < 0.95
    for found in (ours, theirs):
        values = [-1.0 if value is None else value for value in vars(found).values()]
        assert values == pytest.approx(expected, abs=1e-12)


def test_perfect_detections_have_an_ap_of_one() -> None:
    """And a size nothing has is None."""
    data = []
    for truths, _ in samples(3):
        kept = [truth for truth in truths if truth.mask.sum() < 96**2]
        data.append((kept, [Detection(0.9, t.mask, t.box_xyxy, t.category) for t in kept]))
    scores = average_precision(data)

    assert (scores.ap, scores.ap50, scores.ar100) == pytest.approx((1, 1, 1))
    assert scores.ap_large is None


def test_nothing_found_is_an_ap_of_zero() -> None:
    """No detection at all is a result, not an error."""
    data = [(truths, []) for truths, _ in samples(0)]

    assert average_precision(data).ap == 0.0
    assert coco_scores(as_coco(samples(0))[0], [], "box").ap == 0.0


def test_objects_without_classes_are_one_class() -> None:
    """None matches None."""
    mask = np.ones((4, 4), bool)
    data = [([Truth(1, mask, tight_box(mask))], [Detection(0.5, mask)])]

    assert average_precision(data).ap == pytest.approx(1)


def test_a_ground_truth_file_is_read(tmp_path: Path) -> None:
    """A path and its content give one result."""
    truth, results = as_coco(samples(1))
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(truth))

    assert coco_scores(path, results) == coco_scores(truth, results)


def test_wrong_detections_are_refused(tmp_path: Path) -> None:
    """What is not there to be compared, numbers that are none, masks of two sizes."""
    mask, small = np.ones((4, 4), bool), np.ones((3, 3), bool)
    truths = [Truth(1, mask, tight_box(mask))]
    truth, results = as_coco(samples(1))

    with pytest.raises(InputError, match="kind among mask, box, got 'segm'"):
        average_precision([], "segm")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one true object, got none in 0 images"):
        average_precision([])
    with pytest.raises(InputError, match="detection to have a box, got one without"):
        average_precision([(truths, [Detection(0.5, mask)])], "box")
    with pytest.raises(InputError, match="finite score of every detection, got nan"):
        average_precision([(truths, [Detection(float("nan"), mask)])])
    with pytest.raises(InputError, match=r"one size in an image, got \[\(3, 3\), \(4, 4\)\]"):
        average_precision([(truths, [Detection(0.5, small)])])
    with pytest.raises(InputError, match="COCO instances file, got no file at"):
        coco_scores(tmp_path / "none.json", results)
    with pytest.raises(InputError, match="got one without score, bbox"):
        coco_scores(truth, [{"image_id": 10, "category_id": 1}], "box")
    with pytest.raises(InputError, match=r"(?s)got one for image_id 999.*another split"):
        coco_scores(truth, [{**results[0], "image_id": 999}])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "pycocotools", None)

    with pytest.raises(MissingDependencyError, match=r"(?s)'pycocotools'.*hint: pip install"):
        average_precision(samples(0))
