from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import nexus.models.cv
from nexus.cli.generate import parse_settings
from nexus.cli.main import app
from nexus.core.errors import InputError, WeightsNotFoundError
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
    assert loads == [
        {"name": "lite_medsam", "checkpoint": None, "device": None, "dtype": "float32"}
    ]


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
