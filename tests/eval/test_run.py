from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from nexus.core.errors import InputError, NexusError, NexusWarning
from nexus.data.truth import open_images
from nexus.data.truth.labelled import LabelledImage
from nexus.eval.run import evaluate
from nexus.models.cv import MedSAM
from tests.eval.scenes import Draughtsman, images, perfect_tracker, picture, truths, video
from tests.models.tiny import tiny_sam


def test_sets_are_reported_and_pooled() -> None:
    """Two sets give rows and figures of each, in order, and of both."""
    result = evaluate(Draughtsman(), {"a": images(1), "b": images(2)}, ["box", "click"])

    assert [(r["set"], r["image"], r["protocol"]) for r in result.rows[:4]] == [
        ("a", "0.png", "box"),
        ("a", "0.png", "box"),
        ("a", "0.png", "click"),
        ("a", "0.png", "click"),
    ]
    assert result.mean("dice", "box") == 1.0
    assert result.mean("dice", "click", "a") < 1.0
    assert result.summary["results"]["box"]["sets"]["b"]["objects"] == 4
    assert result.summary["results"]["box"]["categories"]["dog"]["objects"] == 3
    assert result.files == []


def test_the_summary_says_how_it_was_made() -> None:
    """Settings, model, names, machine and versions stand beside the figures."""
    one, other = (
        evaluate(
            Draughtsman(), images(count), jitter=0.1, seed=3, about={"dataset": "drawn"}
        ).summary
        for count in (1, 2)
    )

    assert one["settings"]["seed"] == 3
    assert one["settings"]["protocols"] == ("box",)
    assert one["model"]["variant"] == "draughtsman"
    assert len(one["model"]["weights"]) == 16
    assert one["dataset"] == "drawn"
    assert one["data"]["images"] == 1
    assert one["data"]["names_sha256"] != other["data"]["names_sha256"]
    assert one["efficiency"]["embedding_bytes"] > 0
    assert {"threads", "processor"} <= set(one["machine"])
    assert "torch" in one["versions"]


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    """What the journal has is not encoded again, and the files are those of one run."""
    sources, model = images(4), Draughtsman()
    first = evaluate(model, sources[:2], "box", out=tmp_path / "out")
    second = evaluate(model, sources, "box", out=tmp_path / "out")
    fresh = evaluate(Draughtsman(), sources, "box", out=tmp_path / "fresh")
    texts = [(tmp_path / name / "objects.csv").read_text() for name in ("out", "fresh")]

    assert len(first.rows) == 4
    assert model.encoded == 4
    assert second.rows == fresh.rows
    assert texts[0] == texts[1]
    assert [path.name for path in second.files] == [
        "objects.csv",
        "summary.json",
        "report.md",
        "histogram.png",
        "worst.png",
    ]
    assert all(path.is_file() for path in second.files)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_area": 500}, "settings.min_area 500 (was 1)"),
        ({"protocol": "click"}, "settings.protocols ['click'] (was ['box'])"),
        ({"about": {"dataset": "coco"}}, "dataset 'coco' (was None)"),
    ],
)
def test_other_settings_in_one_folder_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """A folder holds one kind of figures; what is other is named, with what to do."""
    evaluate(Draughtsman(), images(1), "box", out=tmp_path)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        evaluate(Draughtsman(), images(1), **{"protocol": "box", **options}, out=tmp_path)

    assert "take another folder" in str(caught.value.hint)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    """Two runs cannot write into one folder."""
    (tmp_path / ".nexus").mkdir()
    message = "got one that another run is using"

    with (
        filelock.FileLock(tmp_path / ".nexus" / "lock"),
        pytest.raises(NexusError, match=message),
    ):
        evaluate(Draughtsman(), images(1), out=tmp_path)


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A file cannot be the folder of a run."""
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="expected the output to be a folder"):
        evaluate(Draughtsman(), images(1), out=tmp_path / "file")


def test_a_bad_image_is_told_and_tried_again(tmp_path: Path) -> None:
    """The others are done; mended, the image is evaluated by the next run."""
    with pytest.warns(NexusWarning, match=r"1 of 3 images.*all/1.png: expected a picture"):
        result = evaluate(Draughtsman(), images(3, bad=1), out=tmp_path)
    mended = evaluate(Draughtsman(), images(3), out=tmp_path)
    written = json.loads((tmp_path / "summary.json").read_text())

    assert result.failures == [
        {"image": "all/1.png", "message": "expected a picture, got noise", "hint": "mend it"}
    ]
    assert result.summary["data"]["failed"] == 1
    assert len(result.rows) == 4
    assert len(mended.rows) == 6
    assert written["data"] | {"names_sha256": ""} == {
        "images": 3,
        "evaluated": 3,
        "failed": 0,
        "names_sha256": "",
        "sets": {
            "all": {
                "images": 3,
                "without_objects": 0,
                "images_without_mask": 0,
                "masks_without_image": 0,
                "notes": {},
            }
        },
    }


def test_progress_tells_of_a_bad_image(capsys: pytest.CaptureFixture[str]) -> None:
    """With progress the message goes to stderr, and there is no warning."""
    evaluate(Draughtsman(), images(2, bad=0), progress=True)
    said = capsys.readouterr()

    assert "error: all/0.png: expected a picture, got noise\nhint: mend it" in said.err
    assert "2 images" in said.err
    assert said.out == ""


def interrupt() -> np.ndarray:
    """Do what Ctrl-C does."""
    raise KeyboardInterrupt


def test_an_interrupted_run_says_what_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C ends the run with a word on what is done, and the next one goes on from there."""
    sources, model = images(3), Draughtsman()
    stopped = [*sources[:2], dataclasses.replace(sources[2], load_image=interrupt)]
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, stopped, out=tmp_path, progress=True)
    result = evaluate(model, sources, out=tmp_path)

    assert "2 of 3 images are done and kept; the same command goes on" in capsys.readouterr().err
    assert len(result.rows) == 6
    assert model.encoded == 3


def test_a_tracker_is_evaluated_on_videos(tmp_path: Path) -> None:
    """The truth as a tracker scores 1; the sheet of the worst is drawn from its frames."""
    clip = video(tmp_path / "clip")
    result = evaluate(perfect_tracker, [clip], "vos", out=tmp_path / "out")
    with (tmp_path / "out" / "objects.csv").open() as stream:
        rows = list(csv.DictReader(stream))

    assert result.mean("j_and_f") == 1.0
    assert rows[0]["frames"] == "1 2 3"
    assert rows[0]["j_per_frame"] == "1 1 1"
    assert (tmp_path / "out" / "worst.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "expected at least one image or video, got none"),
        ({"images": images(1) * 2}, "images of different names in a set, got 'all/0.png' twice"),
        ({"images": images(1), "protocol": "detections"}, "got one without the other"),
        ({"images": images(1), "workers": 0}, "a number of workers of 1 or more, got 0"),
        ({"images": [7]}, "expected LabelledImages for the protocol box, got a int"),
        ({"images": images(1), "click": 1}, "hint: did you mean 'clicks'?"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    """What cannot be evaluated is an InputError that says why."""
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate(Draughtsman(), **arguments)


def test_a_mean_that_is_not_there_is_named() -> None:
    """Asking for another metric, set or protocol says which there is none of."""
    result = evaluate(Draughtsman(), images(1), ["box", "click"])
    messages = [
        ({"metric": "nsd", "protocol": "box"}, "got 'nsd'"),
        ({"metric": "iou", "protocol": "clicks"}, "got 'clicks'"),
        ({"metric": "iou", "protocol": "box", "set_name": "b"}, "got 'b'"),
        ({"metric": "iou"}, "expected one protocol, got box, click"),
    ]

    for arguments, message in messages:
        with pytest.raises(InputError, match=message):
            result.mean(**arguments)


def test_what_workers_cannot_take_is_refused() -> None:
    """Functions that cannot be sent, and a model whose weights processes cannot share."""
    local = [LabelledImage("0.png", lambda: picture(), truths), *images(2)[1:]]

    with pytest.raises(InputError, match=r"functions of 'all/0.png' that can be sent to a worker"):
        evaluate(Draughtsman(), local, workers=2)
    with pytest.raises(InputError, match="expected a model on the CPU, got one on meta"):
        evaluate(tiny_sam().to("meta"), local, workers=2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*could not be used")
def test_workers_find_the_same(tmp_path: Path) -> None:
    """With as many threads in each, rows from two processes equal those from this one.

    So do those of a run that is gone on with; failures travel too. With another number of threads
    rows are alike.
    """
    sources, model = images(4, bad=2), tiny_sam()
    options = {"protocol": ("box", "clicks"), "clicks": 2}
    one, two, four = (
        evaluate(model, sources, workers=workers, threads=threads, **options)
        for workers, threads in ((1, 1), (2, 1), (1, 4))
    )
    evaluate(model, sources[:3], out=tmp_path, workers=2, **options)
    resumed = evaluate(model, sources, out=tmp_path, workers=2, **options)
    whole = evaluate(model, sources, workers=2, **options)

    assert len(one.rows) == 12
    assert two.rows == one.rows
    assert two.failures == one.failures != []
    assert resumed.rows == whole.rows
    for metric in ("iou", "score", "boundary_f"):
        assert [row[metric] for row in four.rows] == pytest.approx(
            [row[metric] for row in one.rows], abs=0.02
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mri_prostate", "pennfudan_sample"])
def test_boxes_reach_the_reference_object_by_object(
    lite_medsam_weights: Path, shared_data: Path, name: str
) -> None:
    """LiteMedSAM on ground-truth boxes gives each object the DSC of the original pipeline."""
    recorded = {
        (record["image"], record["id"]): record
        for record in json.loads((shared_data / "lite_medsam_reference.json").read_text())
        if record["set"] == name
    }
    model = MedSAM.from_checkpoint(lite_medsam_weights, variant="lite_medsam", device="cpu")
    sources = open_images("folder", shared_data / name)
    result = evaluate(model, {name: sources}, "box", max_objects=20, min_area=50)
    found = {(row["image"], row["object_id"]): row for row in result.rows}

    assert list(found) == list(recorded)
    assert [row["dice"] for row in found.values()] == pytest.approx(
        [record["dsc"] for record in recorded.values()], abs=0.005
    )
    assert [row["box"] for row in found.values()] == [r["box_xyxy"] for r in recorded.values()]
