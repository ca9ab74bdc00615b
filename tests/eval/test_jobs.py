from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.data.truth.labelled import LabelledImage
from nexus.eval.jobs import Evaluator, Item, run_here, run_in_workers
from nexus.eval.settings import EvaluationSettings
from tests.eval.scenes import Draughtsman, images, perfect_tracker, picture, truths, video
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import tiny_sam2


def items(sources: list[Any]) -> list[Item]:
    """Return the items of one set."""
    return [Item(index, "set", source) for index, source in enumerate(sources)]


def evaluator(model: Any = None, **settings: Any) -> Evaluator:
    """Return an evaluator with the draughtsman."""
    return Evaluator(model or Draughtsman(), EvaluationSettings(**settings))


def test_a_record_says_whose_it_is_and_what_it_cost() -> None:
    """Rows name set, image and group; costs hold times, prompts and sizes."""
    (item,) = items(images(1, group="volume"))
    record = evaluator(protocols=("box", "click")).evaluate(item)
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
    one.evaluate(items(images(1))[0])

    assert one.model.encoded == 1


def test_large_objects_come_first_and_ignored_ones_not_at_all() -> None:
    """`max_objects` takes the largest, `min_area` leaves out, `ignore` is not evaluated."""
    crowd = dataclasses.replace(truths()[1], ignore=True)
    (item,) = items(images(1))
    crowded = dataclasses.replace(
        item, source=dataclasses.replace(item.source, load_truths=lambda: [truths()[0], crowd])
    )
    ids = [
        [row["object_id"] for row in evaluator(**settings).evaluate(each)["rows"]]
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
        evaluator().evaluate(items([wide])[0])


def test_a_video_is_tracked(tmp_path: Path) -> None:
    """A model for videos and any tracker give rows of the protocol vos, and seconds a frame."""
    (item,) = items([video(tmp_path)])
    records = [
        evaluator(model, protocols=("vos",)).evaluate(item)
        for model in (tiny_sam2(), perfect_tracker)
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


def test_what_fails_is_told() -> None:
    """An image that cannot be read is an outcome with message and hint; the others are done."""
    outcomes = list(run_here(items(images(3, bad=1)), evaluator()))

    assert [outcome.record is None for outcome in outcomes] == [False, True, False]
    assert outcomes[1].message == "expected a picture, got noise"
    assert outcomes[1].hint == "mend it"


def test_want_of_memory_is_the_images_failure() -> None:
    """What PyTorch raises where memory does not suffice is told with its kind."""

    def large() -> np.ndarray:
        raise RuntimeError("not enough memory")

    (outcome,) = run_here(items([LabelledImage("large.png", large, truths)]), evaluator())

    assert outcome.message == "RuntimeError: not enough memory"


def test_functions_that_cannot_be_sent_are_refused() -> None:
    """A lambda cannot go to a worker process, which is said before one starts."""
    local = LabelledImage("0.png", lambda: picture(), truths)

    with pytest.raises(InputError, match=r"functions of 'set/0.png' that can be sent to a worker"):
        list(run_in_workers(items([local]), evaluator(), 2))
    with pytest.raises(InputError, match=r"expected a tracker that can be sent"):
        list(run_in_workers(items([local]), evaluator(lambda v: iter(()), protocols=("vos",)), 2))


@pytest.mark.slow
def test_workers_find_the_same() -> None:
    """Rows from two processes equal those from this one, and failures travel too."""
    sources, model = items(images(4, bad=2)), tiny_sam()
    one = evaluator(model, protocols=("box", "clicks"), clicks=2)
    here = list(run_here(sources, one))
    there = sorted(run_in_workers(sources, one, 2), key=lambda outcome: outcome.index)

    assert [each.message for each in there] == [each.message for each in here]
    assert [each.record and each.record["rows"] for each in there] == [
        each.record and each.record["rows"] for each in here
    ]
