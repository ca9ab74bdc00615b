from __future__ import annotations

import csv
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import nexus.models.cv
from nexus.cli.main import app
from tests.eval.scenes import Draughtsman, labels, picture, squeezed
from tests.models.tiny_sam2 import tiny_sam2

FILES = ("objects.csv", "summary.json", "report.md", "histogram.png", "worst.png")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace the loading of models by one that fills boxes; the arguments gather here."""
    calls: list[dict[str, Any]] = []

    def load_model(name: str, **options: Any) -> Any:
        calls.append({"name": name, **options})
        return tiny_sam2() if name.startswith("sam2") else Draughtsman()

    monkeypatch.setattr(nexus.models.cv, "load_model", load_model)
    return calls


def draw(folder: Path, count: int, bad: int | None = None) -> Path:
    """Write a set in the layout `folder`; return its folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        Image.fromarray(picture()).save(folder / "images" / f"{index}.png")
        Image.fromarray(labels().astype(np.uint8)).save(folder / "masks" / f"{index}.png")
    if bad is not None:
        (folder / "images" / f"{bad}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return folder


def draw_davis(root: Path, count: int = 4) -> Path:
    """Write a video in the layout of DAVIS 2017; return its root."""
    frames, masks = root / "JPEGImages" / "480p" / "a", root / "Annotations" / "480p" / "a"
    for folder in (frames, masks, root / "ImageSets" / "2017"):
        folder.mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("a\n")
    for index in range(count):
        Image.fromarray(picture()).save(frames / f"{index:05}.jpg")
        shown = Image.fromarray(labels().astype(np.uint8), "P")
        shown.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        shown.save(masks / f"{index:05}.png")
    return root


def run(*arguments: object) -> Result:
    """Call `nexus evaluate`."""
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def read(out: Path) -> list[dict[str, str]]:
    """Return the rows of objects.csv."""
    with (out / "objects.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_sets_are_evaluated(
    tmp_path: Path, loads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each root is a set of its folder's name; the paths of what was written are printed."""
    roots = [draw(tmp_path / name, 2) for name in ("one", "two")]
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["/bin/nexus", "evaluate", "--root", "a b"])
    result = run(
        "--dataset", "folder", "--root", roots[0], "--root", roots[1], "--out", out,
        "--model", "mobile_sam", "--protocol", "box", "--protocol", "click", "--dtype", "float32",
    )  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())

    assert result.exit_code == 0, result.output
    tables, _, paths = result.stdout.rpartition("\n\n")
    assert paths.splitlines() == [str(out / name) for name in FILES]
    assert tables.startswith("4 of 4 images, 0 failed.\n\n## box\n")
    assert "| two | 2 | 4 | 1.0000 |" in squeezed(tables)
    assert tables.split("\n\n", 1)[1] in (out / "report.md").read_text()
    assert summary["results"]["box"]["sets"]["two"]["iou"] == 1.0
    assert len(read(out)) == 16
    assert summary["dataset"] == "folder"
    assert summary["command"] == "nexus evaluate --root 'a b'"
    assert loads == [{"name": "mobile_sam", "checkpoint": None, "device": None, "dtype": "float32"}]


def test_options_reach_the_run(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """Limits, clicks, jitter, seed and the rest stand in the settings; --json prints them."""
    root = draw(tmp_path / "one", 3)
    result = run(
        "--dataset", "folder", "--root", root, "--out", tmp_path / "out", "--json",
        "--protocol", "clicks", "--protocol", "medical-box", "--clicks", 2, "--jitter", 0.1,
        "--seed", 5, "--limit", 2, "--max-objects", 1, "--min-area", 50, "--multimask", "single",
        "--tolerance-mm", 1.5, "--input-side", 64,
    )  # fmt: skip
    summary = json.loads(result.stdout)

    assert result.exit_code == 0, result.output
    assert summary["settings"] == {
        "protocols": ["clicks", "medical-box"],
        "clicks": 2,
        "jitter": 0.1,
        "max_objects": 1,
        "min_area": 50,
        "multimask": "single",
        "input_side": 64,
        "tolerance_mm": 1.5,
        "leave_out_last": False,
        "seed": 5,
    }
    assert summary["data"]["images"] == 2
    assert summary["results"]["clicks"]["pooled"]["objects"] == 2


def test_roots_are_named(
    tmp_path: Path, loads: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NAME=DIR names a set, a link is called by its own name, and '.' by that of the folder."""
    roots = [draw(tmp_path / place / "set", 1) for place in ("a", "b", "c")]
    (tmp_path / "link").symlink_to(roots[1])
    monkeypatch.chdir(roots[2])
    result = run(
        "--dataset", "folder", "--root", f"first={roots[0]}", "--root", tmp_path / "link",
        "--root", ".", "--out", tmp_path / "out", "--json",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert [*json.loads(result.stdout)["data"]["sets"]] == ["first", "link", "set"]


def test_masks_that_had_to_be_cut_or_are_empty_are_told(
    tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    """JPEG masks give the objects of the PNG; stderr, summary and report say what was done."""
    root, empty = draw(tmp_path / "one", 2), draw(tmp_path / "two", 1)
    for index, level in enumerate((1, 2)):
        path = root / "masks" / f"{index}.png"
        drawn = (labels() == level).astype(np.uint8) * 255
        Image.fromarray(drawn).save(path.with_suffix(".jpg"), quality=40)
        path.rename(root / "masks" / f"stray{index}.png")
    Image.fromarray(labels().astype(np.uint8) * 0).save(empty / "masks" / "0.png")
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = run("--dataset", "folder", "--root", root, "--root", empty, "--out", out)
    summary = json.loads((out / "summary.json").read_text())
    note = "grey levels cut half-way between dark and bright"

    assert result.exit_code == 0, result.output
    assert "2 masks of " in result.stderr
    assert f"warning: one: 2 of 2 masks: {note}" in result.stderr
    assert "warning: two: no object in any of 1 mask" in result.stderr
    assert [float(row["iou"]) for row in read(out)] == [1.0, 1.0]
    assert summary["data"]["sets"]["one"]["masks_without_image"] == 2
    assert summary["data"]["sets"]["one"]["notes"] == {note: 2}
    assert summary["data"]["sets"]["two"]["without_objects"] == 1
    assert "- `one`: 2 masks without image, left out" in (out / "report.md").read_text()


def test_a_bad_image_is_reported_and_the_code_is_1(
    tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    """The others are done, and the summary has the bad one with its reason."""
    root = draw(tmp_path / "one", 3, bad=1)
    result = run("--dataset", "folder", "--root", root, "--out", tmp_path / "out", "--json")
    summary = json.loads(result.stdout)

    assert result.exit_code == 1
    assert "error: one/1.png: " in result.stderr
    assert [each["image"] for each in summary["failures"]] == ["one/1.png"]
    assert summary["data"]["evaluated"] == 2


def test_a_video_dataset_takes_the_protocol_vos(
    tmp_path: Path, loads: list[dict[str, Any]]
) -> None:
    """DAVIS needs no --protocol, and its last frame does not count."""
    root = draw_davis(tmp_path / "DAVIS")
    result = run(
        "--dataset", "davis2017", "--root", root, "--out", tmp_path / "out",
        "--model", "sam2.1_hiera_tiny",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert [(row["protocol"], row["frames"]) for row in read(tmp_path / "out")] == [
        ("vos", "1 2"),
        ("vos", "1 2"),
    ]


def test_boxes_of_a_detector_are_scored(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """With --detections and --annotations the summary has AP, and the masks are written."""
    root = draw(tmp_path / "one", 1)
    box = {"image_id": 1, "category_id": 1, "bbox": [4, 6, 20, 20], "score": 0.9}
    document = {
        "images": [{"id": 1, "file_name": "0.png", "height": 48, "width": 64}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {
                **box,
                "id": 1,
                "iscrowd": 0,
                "area": 400,
                "segmentation": [[4, 6, 24, 6, 24, 26, 4, 26]],
            }
        ],
    }
    found, truth = tmp_path / "found.json", tmp_path / "truth.json"
    found.write_text(json.dumps([box]))
    truth.write_text(json.dumps(document))
    common = ("--dataset", "folder", "--root", root, "--protocol", "detections")
    result = run(
        *common, "--out", tmp_path / "out", "--detections", found, "--annotations", truth, "--json"
    )
    alone = run(*common, "--out", tmp_path / "other", "--detections", found)

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["results"]["detections"]["ap"] > 0.8
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 1
    assert alone.exit_code == 2
    assert "expected --detections together with --annotations" in alone.stderr


def test_two_runs_are_compared(tmp_path: Path, loads: list[dict[str, Any]]) -> None:
    """The table goes to stdout and, with --out, into files; --json prints JSON."""
    root = draw(tmp_path / "one", 3)
    for name, jitter in (("a", 0), ("b", 0.2)):
        run("--dataset", "folder", "--root", root, "--out", tmp_path / name, "--jitter", jitter)
    folders = (tmp_path / "a", tmp_path / "b")
    table = run("compare", *folders, "--out", tmp_path / "c", "--resamples", 99)
    document = run("compare", *folders, "--json", "--by", "object", "--confidence", 0.9)
    missing = run("compare", tmp_path / "a", tmp_path / "nothing")

    assert table.exit_code == 0, table.output
    assert table.stdout == (tmp_path / "c" / "compare.md").read_text()
    assert "| box | iou | 6 | 1.0000 |" in squeezed(table.stdout)
    assert json.loads(document.stdout)["unit"] == "object"
    assert missing.exit_code == 2
    assert "hint: `nexus evaluate ... --out DIR` writes objects.csv there" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "expected --dataset NAME, --root DIR and --out DIR, got --dataset folder, --root ROOT",
        ),
        (["--out", "OUT", "--protocol", "boxes"], "hint: did you mean 'box'?"),
        (["--out", "OUT", "--protocol", "vos"], "expected a protocol of images for folder, which"),
        (["--out", "OUT", "--dataset", "coca"], "hint: did you mean 'coco'?"),
        (["--out", "OUT", "--model", "mobil_sam"], "mobile_sam"),
        (["--out", "OUT", "--root", "ROOT"], "--root folders of different names, got 'one' twice"),
        (["--out", "OUT", "--protocol", "click", "--clicks", "3"], "choose the protocol clicks"),
        (["--out", "OUT", "--clicks", "20"], "expected the option clicks with the protocol clicks"),
        (["--out", "OUT", "--seed", "0"], "expected the option seed with a jitter above 0, got"),
        (["--out", "OUT", "--detections", "x"], "--detections together with --protocol detection"),
        (["--out", "OUT", "--protocol", "detections"], "got one without the other"),
        (["--out", "OUT", "--multimask", "all"], "expected multimask among auto, single, best"),
    ],
)
def test_wrong_usage(
    tmp_path: Path, loads: list[dict[str, Any]], arguments: list[str], message: str
) -> None:
    """What is wrong is said with code 2, and no folder is made."""
    root, out = draw(tmp_path / "one", 1), tmp_path / "out"
    places = {"ROOT": str(root), "OUT": str(out)}
    given = [places.get(argument, argument) for argument in arguments]
    result = run("--dataset", "folder", "--root", root, *given)

    assert result.exit_code == 2
    assert message.replace("ROOT", str(root)) in result.stderr
    assert not out.exists()
    assert loads == []


def test_options_before_compare_are_refused(tmp_path: Path) -> None:
    """What stands before the name of the comparison would be lost."""
    result = run("--out", tmp_path / "c", "--seed", 1, "compare", tmp_path, tmp_path)

    assert result.exit_code == 2
    assert "expected options of compare behind its name, got --out, --seed before" in result.stderr


@pytest.mark.parametrize("verb", [["evaluate"], ["evaluate", "compare"]])
def test_help_names_the_options(verb: list[str]) -> None:
    """--help of the verb and of its own verb shows what they take."""
    result = CliRunner().invoke(app, [*verb, "--help"])

    assert result.exit_code == 0
    assert ("--resamples" if "compare" in verb else "--protocol") in result.stdout
