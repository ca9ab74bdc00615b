from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.data.truth.labelled import LabelledImage
from nexus.eval.evaluator import Evaluator, Item
from nexus.eval.settings import EvaluationSettings
from tests.eval.scenes import Draughtsman, images, perfect_tracker, truths, video
from tests.models.tiny_sam2 import tiny_sam2


def items(sources: list[Any]) -> list[Item]:
    """Return the items of one set."""
    return [Item("set", source) for source in sources]


def evaluator(model: Any = None, **settings: Any) -> Evaluator:
    """Return an evaluator with the draughtsman."""
    return Evaluator(model or Draughtsman(), EvaluationSettings(**settings))


def test_a_record_says_whose_it_is_and_what_it_cost() -> None:
    """Rows name set, image and group; costs hold times, prompts and sizes."""
    (item,) = items(images(1, group="volume"))
    record = evaluator(protocols=("box", "click"))(item)
    costs = record["costs"]

    assert {(r["set"], r["image"], r["group"]) for r in record["rows"]} == {
        ("set", "0.png", "volume")
    }
    assert costs["prompts"] == 4
    assert costs["embedding_bytes"] > 0
    assert costs["encoder_s"] > 0
    assert costs["decoder_s"] > 0


def test_an_image_is_encoded_once_for_all_protocols() -> None:
    """Four protocols take one call of the encoder."""
    one = evaluator(protocols=("box", "click", "clicks", "medical-box"), clicks=2)
    one(items(images(1))[0])

    assert one.model.encoded == 1


def test_large_objects_come_first_and_ignored_ones_not_at_all() -> None:
    """`max_objects` takes the largest, `min_area` leaves out, `ignore` is not evaluated."""
    crowd = dataclasses.replace(truths()[1], ignore=True)
    (item,) = items(images(1))
    crowded = dataclasses.replace(
        item, source=dataclasses.replace(item.source, load_truths=lambda: [truths()[0], crowd])
    )
    ids = [
        [row["object_id"] for row in evaluator(**settings)(each)["rows"]]
        for each, settings in (
            (item, {}),
            (item, {"max_objects": 1}),
            (item, {"min_area": 500}),
            (crowded, {}),
        )
    ]

    assert ids == [[2, 1], [2], [2], [1]]


def test_masks_of_another_size_are_refused() -> None:
    """A truth that does not fit its image is an error of that image."""
    wide = LabelledImage("wide.png", lambda: np.zeros((48, 65, 3), np.uint8), truths)

    with pytest.raises(InputError, match="masks of 48 x 65 pixels, as 'wide.png' is, got 48 x 64"):
        evaluator()(items([wide])[0])


def test_a_video_is_tracked(tmp_path: Path) -> None:
    """A model for videos and any tracker give rows of the protocol vos, and seconds a frame."""
    (item,) = items([video(tmp_path)])
    records = [
        evaluator(model, protocols=("vos",))(item) for model in (tiny_sam2(), perfect_tracker)
    ]

    assert [row["j_and_f"] for row in records[1]["rows"]] == [1.0, 1.0]
    assert [len(record["rows"]) for record in records] == [2, 2]
    assert {row["protocol"] for row in records[0]["rows"]} == {"vos"}
    assert records[0]["costs"]["frames"] == 4
    assert records[0]["costs"]["tracker_s"] > 0


@pytest.mark.parametrize(
    ("model", "protocols", "message"),
    [
        (perfect_tracker, ("box",), "expected a promptable model for the protocol box, got functi"),
        (7, ("vos",), "expected a model for videos for the protocol vos, got int"),
        (None, ("vos",), "got draughtsman\nhint: `nexus models` says which models track"),
    ],
)
def test_a_model_that_does_not_fit_is_named(
    model: Any, protocols: tuple[str, ...], message: str
) -> None:
    """What the model cannot do is said before any image is read."""
    with pytest.raises(InputError, match=re.escape(message)):
        evaluator(model, protocols=protocols)
