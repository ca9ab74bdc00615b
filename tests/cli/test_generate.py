from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import nexus.models.cv
from nexus.cli.generate import _check_model, parse_settings
from nexus.cli.main import app
from nexus.core.errors import InputError, WeightsNotFoundError
from nexus.data.images.loading import read_mask
from nexus.ops.boxes import tight_box
from nexus.ops.rle import decode_rle
from tests.models.tiny import tiny_sam
from tests.predict.painter import draw_images, tree

SETTINGS = ["--set", "points_per_side=3", "--set", "pred_iou_thresh=-9"]
EVERY = [
    "--workers",
    "1",
    *SETTINGS,
    "--set",
    "stability_score_thresh=0",
    "--min-predicted-iou",
    "-9",
]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the loading of models by a tiny one; the arguments gather here."""
    calls: list[dict[str, Any]] = []

    def load_model(name: str, **options: Any) -> Any:
        calls.append({"name": name, **options})
        return tiny_sam()

    monkeypatch.setattr(nexus.models.cv, "load_model", load_model)
    return calls


def run(*arguments: object) -> Result:
    """Call `nexus generate`."""
    return CliRunner().invoke(app, ["generate", *map(str, arguments)])


def test_a_folder_becomes_a_dataset(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """The paths of the dataset, the sheet, the plot and the report are printed; the code is 0."""
    draw_images(tmp_path / "in", 3)
    out = tmp_path / "out"
    result = run(tmp_path / "in", "--out", out, "--category", "cell", "--dtype", "float32", *EVERY)
    document = json.loads((out / "instances.json").read_text())
    names = ("instances.json", "contact_sheet.png", "statistics.png", "report.json")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [str(out / name) for name in names]
    assert all((out / name).is_file() for name in names)
    assert len(document["images"]) == 3
    assert document["annotations"]
    assert document["categories"][0]["name"] == "cell"
    assert loads == [{"name": "mobile_sam", "checkpoint": None, "device": None, "dtype": "float32"}]


def test_a_bad_image_is_reported_and_the_code_is_1(
    tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    """The others are done, and --json prints the report with the bad one in it."""
    draw_images(tmp_path / "in", 4, corrupt=1)
    out = tmp_path / "out"
    result = run(tmp_path / "in", "--out", out, "--json", "--format", "records", *EVERY)
    report = json.loads(result.stdout)

    assert result.exit_code == 1
    assert "0001.png" in result.stderr
    assert "whose pixels cannot be decoded" in result.stderr
    assert [each["image"] for each in report["skipped"]] == ["0001.png"]
    assert report == json.loads((out / "report.json").read_text())


def test_started_again_it_goes_on(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """A second run says what was done earlier, and the folder is that of one run."""
    draw_images(tmp_path / "in", 2)
    run(tmp_path / "in", "--out", tmp_path / "out", *EVERY)
    draw_images(tmp_path / "in", 4)
    second = run(tmp_path / "in", "--out", tmp_path / "out", *EVERY)
    run(tmp_path / "in", "--out", tmp_path / "fresh", *EVERY)

    assert second.exit_code == 0
    assert "4 images" in second.stderr
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_other_settings_are_an_error_of_usage(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """A folder begun with other settings ends with code 2 and says which."""
    draw_images(tmp_path / "in", 1)
    run(tmp_path / "in", "--out", tmp_path / "out", *EVERY)
    result = run(tmp_path / "in", "--out", tmp_path / "out", *EVERY, "--set", "points_per_side=4")

    assert result.exit_code == 2
    assert "settings.points_per_side 4 (was 3)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "cocoa"], "hint: did you mean 'coco'?"),
        (["--model", "mobil_sam"], "mobile_sam"),
        (["--set", "points_per_side"], "expected --set NAME=VALUE, got 'points_per_side'"),
        (["--set", "points_per_sides=4"], "points_per_side"),
        (["--pictures", "move"], "expected pictures among copy, link, none"),
        (["--min-predicted-iou", "7"], "expected min_predicted_iou below 1, got 7.0"),
        (["--min-stability", "nan"], "expected min_stability_score below 1, got nan"),
        (["--set", "pred_iou_thresh=7"], "expected pred_iou_thresh below 1, got 7"),
        (["--category", ""], "expected a category with a name on one line, got ''"),
        (["--boxes", "none.csv"], "none.csv"),
    ],
)
def test_wrong_usage(
    arguments: list[str], message: str, tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    """What is wrong is said with code 2, and no folder is made."""
    draw_images(tmp_path / "in", 1)
    result = run(tmp_path / "in", "--out", tmp_path / "out", *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_among_the_inputs(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """Images in the output folder could be replaced by results, so that is refused."""
    draw_images(tmp_path / "in", 1)
    result = run(tmp_path / "in" / "0000.png", "--out", tmp_path / "in")

    assert result.exit_code == 2
    assert "expected results in a folder without inputs, got" in result.stderr
    assert not (tmp_path / "in" / ".nexus").exists()


@pytest.mark.parametrize("below", ["", "a"])
def test_one_folder_for_both(below: str, tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """A folder that is input and output is called that; its images are not denied."""
    draw_images(tmp_path / "in" / below, 1)
    result = run(tmp_path / "in" / below, "--out", tmp_path / "in")

    assert result.exit_code == 2
    assert "expected results in a folder without inputs, got" in result.stderr
    assert "hint: write into another folder" in result.stderr
    assert loads == []


BOXES = "image,x0,y0,x1,y1,category\n0001.png,2,3,20,30,cell\n0000.png,8,8,40,30,\n"


@pytest.mark.filterwarnings("always::nexus.core.errors.NexusWarning")
def test_boxes_of_a_file(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """Each box gives one mask of its category, by the model that boxes have by default."""
    draw_images(tmp_path / "in", 3)
    boxes, out = tmp_path / "boxes.csv", tmp_path / "out"
    boxes.write_text(BOXES)
    words = (tmp_path / "in", "--out", out, "--boxes", boxes, "--category", "spot")
    first, again = run(*words, "--workers", 1), run(*words)
    assert first.exit_code == 0, first.output
    document = json.loads((out / "instances.json").read_text())
    names = {each["id"]: each["name"] for each in document["categories"]}
    images = {each["id"]: each["file_name"] for each in document["images"]}

    assert again.exit_code == 0, again.output
    assert [call["name"] for call in loads] == ["lite_medsam"] * 2
    assert [
        (images[each["image_id"]], names[each["category_id"]]) for each in document["annotations"]
    ] == [("0000.png", "spot"), ("0001.png", "cell")]
    assert "1 image without boxes left out: '0002.png'" in first.stderr
    assert json.loads((out / "report.json").read_text())["options"]["min_predicted_iou"] is None


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (BOXES, ["--set", "points_per_side=4"], "expected no --set points_per_side with --boxes"),
        ("image,x,y\n0000.png,2,3\n", [], "expected boxes alone for '0000.png'"),
        ("image,x0,y0,x1,y1\nb.png,1,2,3,4\n", [], "to name one of the images"),
        (
            "image,x0,y0,x1,y1,category\n0000.png,1,2,3,4,cell\n",
            ["--category", "spot"],
            "expected the categories of the boxes, cell, got spot",
        ),
    ],
)
def test_boxes_that_cannot_be_used(
    text: str, arguments: list[str], message: str, tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    """What is wrong with them is said with code 2, before weights are fetched."""
    draw_images(tmp_path / "in", 1)
    (tmp_path / "boxes.csv").write_text(text)
    words = ("--out", tmp_path / "out", "--boxes", tmp_path / "boxes.csv", *arguments)
    result = run(tmp_path / "in", *words)

    assert result.exit_code == 2
    assert message in result.stderr
    assert loads == []
    assert not (tmp_path / "out").exists()


def test_a_model_that_knows_boxes_alone(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """It is refused without boxes before its weights are fetched; taught clicks it is not."""
    draw_images(tmp_path / "in", 1)
    taught = tmp_path / "taught.safetensors"
    save_file({"a": torch.zeros(1)}, taught, {"nexus_policy": '{"box_only": false}'})
    words = (tmp_path / "in", "--out", tmp_path / "out", "--model", "lite_medsam", *EVERY)
    refused = run(*words)
    before = list(loads)
    accepted = run(*words, "--checkpoint", taught)

    assert refused.exit_code == 2
    assert "expected boxes, or a model that answers points, to find masks with" in refused.stderr
    assert "--boxes FILE" in refused.stderr
    assert before == []
    assert accepted.exit_code == 0, accepted.output
    assert loads[0]["checkpoint"] == taught


@pytest.mark.parametrize(
    ("arguments", "reason", "remedy"),
    [
        (["--set", "pred_iou_thresh=0.99"], "pred_iou_thresh 0.99 removed 54", "--set pred_iou_"),
        ([*EVERY, "--min-area", "9999"], "min_area 9999 removed", "lower it: --min-area PIXELS"),
    ],
)
def test_an_empty_dataset_is_no_success(
    arguments: list[str], reason: str, remedy: str, tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    """The code is 1, and which threshold removed how many candidates is said."""
    draw_images(tmp_path / "in", 2)
    result = run(
        *(tmp_path / "in", "--out", tmp_path / "out", "--workers", 1),
        *("--set", "points_per_side=3", *arguments),
    )
    report = json.loads((tmp_path / "out" / "report.json").read_text())

    assert result.exit_code == 1
    assert "expected at least one mask, got an empty dataset of 2 images: of 54 candidates" in (
        result.stderr
    )
    assert reason in result.stderr
    assert remedy in result.stderr
    assert report["left_out"]["candidates"] == 54


def test_no_such_image(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """A path that is not there ends the run before the model is loaded."""
    result = run(tmp_path / "nothing", "--out", tmp_path / "out")

    assert result.exit_code == 2
    assert "which does not exist" in result.stderr
    assert loads == []


def test_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that cannot be had end with code 3, before anything is written."""

    def load_model(*_: object, **__: object) -> None:
        raise WeightsNotFoundError("expected weights, got none")

    monkeypatch.setattr(nexus.models.cv, "load_model", load_model)
    draw_images(tmp_path / "in", 1)
    result = run(tmp_path / "in", "--out", tmp_path / "out")

    assert result.exit_code == 3
    assert not (tmp_path / "out").exists()


def test_several_sources_and_workers(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """Files and folders may be mixed, and two workers do them."""
    draw_images(tmp_path / "in" / "a", 2)
    draw_images(tmp_path / "in" / "b", 1)
    result = run(
        *(tmp_path / "in" / "b" / "0000.png", tmp_path / "in" / "a"),
        *("--out", tmp_path / "out", "--workers", 2, "--format", "png", *EVERY),
    )
    maps = sorted(path.name for path in (tmp_path / "out" / "instances").iterdir())

    assert result.exit_code == 0, result.output
    assert maps == ["0001.png", "a-0000.png", "b-0000.png"]


def test_settings_are_read_as_json_or_as_text() -> None:
    """Numbers, null and lists are what they are in JSON, and a word is a word."""
    pairs = ["points_per_side=16", "mask_threshold=null", "name=some=text", "use_m2m=true"]

    assert parse_settings(pairs) == {
        "points_per_side": 16,
        "mask_threshold": None,
        "name": "some=text",
        "use_m2m": True,
    }


@pytest.mark.parametrize("pair", ["x", "=1", ""])
def test_a_setting_without_a_value(pair: str) -> None:
    """A setting is a name, an equals sign and a value."""
    with pytest.raises(InputError, match="expected --set NAME=VALUE"):
        parse_settings([pair])


def test_the_model_that_was_taught_clicks_is_accepted(shared: Path) -> None:
    """Its file says so, and no more than the header is read."""
    _check_model("lite_medsam", shared / "models" / "lite_medsam_points.safetensors", None)


@pytest.mark.slow
@pytest.mark.usefixtures("lite_medsam_weights")
@pytest.mark.filterwarnings("always::nexus.core.errors.NexusWarning")
def test_boxes_on_real_images(shared_data: Path, tmp_path: Path) -> None:
    """LiteMedSAM finds polyps in their boxes, in two processes as in one; the others are named."""
    polyps, truths, lines = shared_data / "kvasir_seg", {}, ["image,x0,y0,x1,y1,category"]
    (tmp_path / "in").mkdir()
    for path in sorted((polyps / "images").iterdir())[:4]:
        shutil.copy(path, tmp_path / "in")
        mask = read_mask(polyps / "masks" / f"{path.stem}.png") > 0
        truths[path.name] = mask
        lines.append(",".join(map(str, (path.stem, *tight_box(mask), "polyp"))))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("\n".join(lines[:4]) + "\n")
    for workers in (1, 2):
        out = tmp_path / str(workers)
        result = run(tmp_path / "in", "--out", out, "--boxes", boxes, "--workers", workers)
        assert result.exit_code == 0, result.output
        assert "1 image without boxes left out" in result.stderr
    document = json.loads((tmp_path / "1" / "instances.json").read_text())
    names = {image["id"]: image["file_name"] for image in document["images"]}
    ious = []
    for each in document["annotations"]:
        mask, truth = decode_rle(each["segmentation"]), truths[names[each["image_id"]]]
        ious.append((mask & truth).sum() / (mask | truth).sum())

    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert [each["name"] for each in document["categories"]] == ["polyp"]
    assert len(ious) == 3
    assert min(ious) > 0.8


def test_how_masks_are_stored_goes_by_the_format(tmp_path: Path) -> None:
    """The setting of the generator that --format takes the place of is refused."""
    draw_images(tmp_path / "in", 1)
    result = run(tmp_path / "in", "--out", tmp_path / "out", "--set", "output_mode=binary_mask")

    assert result.exit_code == 2
    assert "expected no --set output_mode" in result.stderr
    assert "--format" in result.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_settings_are_said_before_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting of another type is refused before anything is loaded."""

    def load_model(*_: Any, **__: Any) -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr(nexus.models.cv, "load_model", load_model)
    draw_images(tmp_path / "in", 1)
    result = run(tmp_path / "in", "--out", tmp_path / "out", "--set", "points_per_side=abc")

    assert result.exit_code == 2
    assert "expected points_per_side to be a whole number, got 'abc'" in result.stderr
