"""Single stages of automatic masks."""

from __future__ import annotations

import tracemalloc

import numpy as np

from nexus.core.types import Prompt
from nexus.ops.rle import decode_rle, encode_rle
from nexus.predict.automatic.settings import AutomaticSettings
from nexus.predict.automatic.stages import (
    Found,
    Seed,
    clean_regions,
    inclusive_box,
    measure,
    point_seeds,
    record_of,
    shift_prompt,
    suppress_between_crops,
)

_OPEN = AutomaticSettings(stability_score_thresh=0.0, stability_score_offset=0.1)


def _logits(height: int, width: int) -> np.ndarray:
    logits = np.full((height, width), -1.0, np.float32)
    logits[30:40, 25:45] = 1.0
    logits[30, 25:45] = 0.05
    return logits


def test_a_mask_is_measured_in_the_image() -> None:
    """Run lengths, area and inclusive box are the crop's, moved to where the crop lies."""
    measured = measure(_logits(80, 90), 0.0, _OPEN, (10, 20, 100, 100), (120, 200))

    assert not isinstance(measured, str)
    rle, area, box, stability = measured
    assert (area, box) == (200, (35, 50, 54, 59))
    assert stability == 180 / 200
    assert inclusive_box(decode_rle(rle)) == box


def test_an_unstable_mask_goes() -> None:
    """Below the threshold it goes; at it, it stays."""
    for threshold, stays in ((0.9, True), (0.91, False)):
        settings = AutomaticSettings(stability_score_thresh=threshold, stability_score_offset=0.1)
        measured = measure(_logits(80, 90), 0.0, settings, (0, 0, 90, 80), (80, 90))

        assert (measured != "stability_score_thresh") == stays


def test_a_mask_cut_off_by_its_crop_goes() -> None:
    """Near a crop's edge inside the image it goes; near the image's own edge it stays."""
    assert measure(_logits(60, 60), 0.0, _OPEN, (0, 0, 60, 60), (60, 60)) != "crop_edge"
    assert measure(_logits(60, 60), 0.0, _OPEN, (0, 0, 60, 60), (200, 200)) == "crop_edge"


def test_an_empty_mask_has_no_box() -> None:
    """Zeros all over, and no foreground in its run lengths."""
    measured = measure(np.full((8, 9), -5, np.float32), 0.0, _OPEN, (0, 0, 9, 8), (8, 9))

    assert not isinstance(measured, str)
    assert measured[1:] == (0, (0, 0, 0, 0), 0.0)
    assert not decode_rle(measured[0]).any()


def test_seeds_are_in_the_image() -> None:
    """A grid over a crop is moved and scaled with it; moved back it starts at 0."""
    seeds = point_seeds(np.array([[0.5, 0.25]]), (10, 20, 30, 60))
    box = Prompt(box=(10, 10, 20, 20))

    assert seeds[0].prompt.points.tolist() == [[20, 30]]  # type: ignore[union-attr]
    assert seeds[0].record == {"point_coords": [[20, 30]]}
    assert shift_prompt(box, -10, -5).box.tolist() == [0, 5, 10, 15]  # type: ignore[union-attr]


def _found(mask: np.ndarray, crop_box: tuple[int, int, int, int], score: float = 0.5) -> Found:
    return Found(
        encode_rle(mask),
        int(mask.sum()),
        inclusive_box(mask),
        score,
        1.0,
        Seed(Prompt(points=[[3, 3]]), {"point_coords": [[3.0, 3.0]]}),
        crop_box,
    )


def test_the_smaller_crop_wins() -> None:
    """Of a mask found in the image and in a crop, the crop's stays, whatever the scores."""
    mask = np.zeros((20, 20), bool)
    mask[2:9, 2:9] = True
    found = [_found(mask, (0, 0, 20, 20), 0.9), _found(mask, (0, 0, 10, 10), 0.1)]

    assert suppress_between_crops(found, 0.7) == [found[1]]


def test_the_mask_that_needed_least_cleaning_stays() -> None:
    """After the specks are gone all have one box; the one that had the fewest pixels of them wins.

    The original is silent on two masks that both had some; its recording has what is said here.
    """
    clean = np.zeros((20, 20), bool)
    clean[2:9, 2:9] = True
    specked = clean.copy()
    specked[18, 18] = True
    worse = specked.copy()
    worse[18, 1] = True
    frame = (0, 0, 20, 20)
    all_three = [_found(worse, frame, 0.9), _found(specked, frame, 0.7), _found(clean, frame, 0.5)]
    kept = clean_regions(all_three, 5, 0.7)
    of_two = clean_regions(all_three[:2], 5, 0.7)
    alone = clean_regions([_found(specked, (0, 0, 20, 20))], 5, 0.7)

    assert [mask.iou_score for mask in kept] == [0.5]
    assert [mask.iou_score for mask in of_two] == [0.7]
    assert alone[0].area == 49
    assert alone[0].box == (2, 2, 8, 8)
    assert np.array_equal(decode_rle(alone[0].rle), clean)


def test_records_are_classic() -> None:
    """A box is x, y and the distance of the outermost pixels; crop_box is x, y, width, height."""
    mask = np.zeros((20, 30), bool)
    mask[2:5, 4:10] = True
    record = record_of(_found(mask, (0, 1, 15, 20)), "coco_rle")

    assert record["bbox"] == [4, 2, 5, 2]
    assert record["area"] == 18
    assert record["crop_box"] == [0, 1, 15, 19]
    assert record["point_coords"] == [[3.0, 3.0]]


def test_measuring_needs_about_one_mask_of_memory() -> None:
    """Beyond the logits given, less than their own four bytes a pixel are taken."""
    logits = np.full((1500, 1500), -1, np.float32)
    logits[100:1400, 100:1400] = 1
    tracemalloc.start()
    measure(logits, 0.0, _OPEN, (0, 0, 1500, 1500), (1500, 1500))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 2 * logits.nbytes
