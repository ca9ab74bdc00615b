from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nexus.data.clicks.sampling import centre_click, error_click
from nexus.data.truth.labelled import Truth
from nexus.eval.efficiency import Stopwatch
from nexus.eval.metrics import dice, hausdorff95, normalised_surface_dice
from nexus.eval.protocols import Scene, box_rows, click_rows, clicks_rows, medical_box_rows
from nexus.eval.protocols import scene_rows as all_rows
from nexus.eval.settings import EvaluationSettings
from nexus.ops.boxes import tight_box
from nexus.ops.rle import decode_rle
from tests.eval.scenes import BOXES, SIZE_HW, Draughtsman, picture, plain_iou, truths


def scene(
    reach: int = 10,
    name: str = "set/0.png",
    ignored: np.ndarray | None = None,
    objects: list[Truth] | None = None,
    **settings: Any,
) -> Scene:
    """Return the drawn image, encoded by the draughtsman."""
    model = Draughtsman(reach)
    return Scene(
        name,
        model,
        model.encode_image(picture()),
        truths() if objects is None else objects,
        ignored,
        (0.5, 2.0),
        EvaluationSettings(**settings),
        Stopwatch(torch.device("cpu")),
    )


def asked(one: Scene) -> list[Any]:
    """Return what the model was asked."""
    return one.model.asked


def test_the_box_of_each_object_is_shown() -> None:
    """Each rectangle is answered exactly; rows hold what is known of the object."""
    one = scene()
    rows, prompts = box_rows(one)

    assert prompts == 2
    assert [prompt.box.tolist() for prompt in asked(one)[0][0]] == [list(b) for b in BOXES.values()]
    assert [(row["object_id"], row["category"]) for row in rows] == [(1, "cat"), (2, "dog")]
    assert [row["area"] for row in rows] == [400, 900]
    assert {row[name] for row in rows for name in ("iou", "dice", "boundary_f")} == {1.0}
    assert (decode_rle(rows[1]["prediction"]) == truths()[1].mask).all()
    assert "decoder_s" in one.watch.seconds


def test_jitter_is_of_the_object_alone() -> None:
    """Moved boxes depend on seed, image and object, and not on what else is evaluated."""
    boxes = {
        name: [prompt.box.tolist() for prompt in options.boxes()]
        for name, options in {
            "one": scene(jitter=0.1),
            "again": scene(jitter=0.1),
            "last": scene(jitter=0.1, objects=truths()[1:]),
            "seed": scene(jitter=0.1, seed=1),
            "image": scene(jitter=0.1, name="set/1.png"),
        }.items()
    }

    assert boxes["one"] == boxes["again"]
    assert boxes["one"][1:] == boxes["last"]
    assert boxes["one"] != boxes["seed"]
    assert boxes["one"] != boxes["image"]
    assert boxes["one"][0] != list(BOXES[1])
    assert np.abs(np.subtract(boxes["one"], list(BOXES.values()))).max() <= 20


@pytest.mark.parametrize(("how", "told"), [("auto", None), ("single", False), ("best", True)])
def test_multimask_reaches_the_model(how: str, told: bool | None) -> None:
    """Each word is what `predict_batch` is told."""
    one = scene(multimask=how)
    click_rows(one)

    assert [several for _, several in asked(one)] == [told]


def test_a_click_is_at_the_centre() -> None:
    """Each object gets one foreground click, and is scored on the square around it."""
    one = scene(reach=10)
    rows, prompts = click_rows(one)
    first = asked(one)[0][0][0]
    click = centre_click(truths()[0].mask)
    drawn = np.zeros(SIZE_HW, bool)
    drawn[int(click.y) - 9 : int(click.y) + 11, int(click.x) - 9 : int(click.x) + 11] = True

    assert prompts == 2
    assert first.points.tolist() == [[click.x, click.y]]
    assert first.labels.tolist() == [1]
    assert rows[0]["iou"] == pytest.approx(plain_iou(drawn, truths()[0].mask))
    assert rows[0]["clicks"] == 1


def test_clicks_follow_the_errors() -> None:
    """Each next click is the error's, with the mask so far; the curve holds every IoU."""
    one = scene(reach=6, objects=truths()[1:], clicks=3)
    (row,), prompts = clicks_rows(one)
    rounds = [prompt for (prompt,), _ in asked(one)]
    truth = truths()[1].mask
    curve = []
    for number, prompt in enumerate(rounds, 1):
        answer = one.model._draw(prompt, SIZE_HW).best
        curve.append(plain_iou(answer, truth))
        if number < 3:
            following = error_click(truth, answer)
            assert rounds[number].points[-1].tolist() == [following.x, following.y]
            assert rounds[number].labels[-1] == following.label

    assert prompts == 3
    assert [len(prompt.points) for prompt in rounds] == [1, 2, 3]
    assert rounds[0].mask is None
    assert [float(prompt.mask[0, 0]) for prompt in rounds[1:]] == [1.0, 2.0]
    assert row["iou_per_click"] == pytest.approx(curve)
    assert row["iou"] == pytest.approx(curve[-1])
    assert (row["clicks"], row["noc85"], row["noc90"]) == (3, 3.0, 3.0)


def test_a_perfect_answer_ends_the_clicks() -> None:
    """An object without a wrong pixel is not asked about again; its curve goes on at 1."""
    square = np.zeros(SIZE_HW, bool)
    square[10:30, 10:30] = True
    objects = [Truth(1, square, tight_box(square)), *truths()[1:]]
    one = scene(reach=10, objects=objects, clicks=3)
    rows, prompts = clicks_rows(one)

    assert rows[0]["iou_per_click"] == [1.0, 1.0, 1.0]
    assert (rows[0]["clicks"], rows[0]["noc90"]) == (1, 1.0)
    assert rows[1]["clicks"] == 3
    assert prompts == 4


def test_surfaces_are_scored_in_mm() -> None:
    """NSD and HD95 of the medical protocol use the spacing of the pixels and the tolerance."""
    one = scene(jitter=0.2, tolerance_mm=1.0)
    rows, _ = medical_box_rows(one)
    truth, predicted = truths()[0].mask, decode_rle(rows[0]["prediction"])

    assert rows[0]["nsd"] == pytest.approx(
        normalised_surface_dice(predicted, truth, tolerance_mm=1.0, spacing=(0.5, 2.0))
    )
    assert rows[0]["hd95"] == pytest.approx(hausdorff95(predicted, truth, spacing=(0.5, 2.0)))
    assert rows[0]["hd95"] != pytest.approx(hausdorff95(predicted, truth, spacing=(1.0, 1.0)))


def test_the_distance_to_an_empty_mask_is_not_defined() -> None:
    """An answer without a pixel has an NSD of 0 and no HD95."""
    one = scene(objects=[Truth(1, truths()[0].mask, (3.0, 3.0, 3.4, 3.4))])
    (row,), _ = medical_box_rows(one)

    assert row["hd95"] is None
    assert (row["nsd"], row["iou"]) == (0.0, 0.0)


def test_ignored_pixels_count_for_nothing() -> None:
    """A box that is too large only where pixels are ignored is perfect."""
    x0, y0, x1, y1 = BOXES[1]
    ignored = np.zeros(SIZE_HW, bool)
    ignored[:, x1:28] = True
    objects = [Truth(1, truths()[0].mask, (x0, y0, 28.0, y1))]
    (row,), _ = box_rows(scene(objects=objects, ignored=ignored))
    (counted,), _ = box_rows(scene(objects=objects))

    assert row["iou"] == 1.0
    assert row["dice"] == pytest.approx(
        dice(decode_rle(row["prediction"]), truths()[0].mask, ignored)
    )
    assert counted["iou"] < 1.0


def test_every_protocol_is_done_in_order() -> None:
    """Rows say which protocol they are of, in the order of the settings."""
    found = list(all_rows(scene(protocols=("click", "box"))))

    assert [[row["protocol"] for row in rows] for rows, _ in found] == [["click"] * 2, ["box"] * 2]


def test_an_image_without_objects_has_no_rows() -> None:
    """No object is no row and no prompt, whatever the protocol."""
    names = ("box", "click", "clicks", "medical-box")
    found = list(all_rows(scene(protocols=names, objects=[])))

    assert found == [([], 0)] * 4
