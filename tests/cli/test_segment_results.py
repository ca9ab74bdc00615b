from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus.core.outputs import output_folder
from nexus.data.images.loading import load_image, read_mask
from tests.cli.segmenting import FakeModel, run

Picture = Callable[[str], Path]
BOX = ("--box", "2,3,10,12")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".nexus")


def coco_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "annotations.json").read_text())
    return document


def test_a_rerun_leaves_nothing_stale(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """With fewer boxes the masks of the others go, from the COCO file too."""
    image, out = picture("a.png"), tmp_path / "out"
    run(image, *BOX, *BOX, *BOX, "--out", out)
    again = run(image, *BOX, "--out", out)

    assert again.exit_code == 0
    assert names_in(out) == ["a.1.mask.png", "a.overlay.png", "annotations.json"]
    assert len(coco_of(out)["annotations"]) == 1


def test_results_of_other_images_stay(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """An image of the same name gets one of its own; each keeps its name ever after."""
    first, second, out = picture("x/a.png"), picture("y/a.png"), tmp_path / "out"
    run(first, *BOX, "--out", out)
    run(second, *BOX, *BOX, "--out", out)
    run(second, first, *BOX, "--out", out)

    assert names_in(out) == [
        *("a.1.mask.png", "a.overlay.png", "annotations.json"),
        *("y-a.1.mask.png", "y-a.overlay.png"),
    ]
    files = [image["file_name"] for image in coco_of(out)["images"]]
    assert files == [first.as_posix(), second.as_posix()]


def test_an_image_is_known_again_where_its_folder_was_moved(
    loaded: list[FakeModel],
    picture: Picture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same command in the new place replaces the same results."""
    monkeypatch.chdir(picture("a.png").parent)
    run("a.png", *BOX, *BOX, "--out", "out")
    monkeypatch.chdir(tmp_path)
    shutil.move(tmp_path / "in", tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    for _ in range(2):
        assert run("a.png", *BOX, "--out", "out").exit_code == 0

    assert names_in(Path("out")) == ["a.1.mask.png", "a.overlay.png", "annotations.json"]
    assert [image["file_name"] for image in coco_of(Path("out"))["images"]] == ["a.png"]


@pytest.mark.parametrize("name", ["annotations.json", "a.1.mask.png", "a.overlay.png"])
def test_files_of_others_survive(
    name: str, loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """They are named before any work, and nothing else appears; --overwrite replaces them."""
    image, out = picture("a.png"), tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"mine")
    (out / "other.txt").write_bytes(b"mine too")
    refused = run(image, *BOX, "--out", out)

    assert refused.exit_code == 2
    assert name in refused.stderr
    assert "--overwrite" in refused.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted([name, "other.txt"])
    assert (out / name).read_bytes() == b"mine"
    assert loaded == []
    assert run(image, *BOX, "--out", out, "--overwrite").exit_code == 0
    assert (out / name).read_bytes() != b"mine"
    assert (out / "other.txt").read_bytes() == b"mine too"


def test_a_result_that_was_changed_is_not_replaced(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """A mask somebody has corrected by hand is theirs."""
    image, out = picture("a.png"), tmp_path / "out"
    run(image, *BOX, "--out", out)
    (out / "a.1.mask.png").write_bytes(b"corrected")
    refused = run(image, *BOX, "--out", out)

    assert refused.exit_code == 2
    assert "a.1.mask.png, not made by Nexus or changed since" in refused.stderr
    assert (out / "a.1.mask.png").read_bytes() == b"corrected"


def test_overwrite_begins_anew_and_removes_no_input(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """Results of other images go; a result that is an input now is refused."""
    first, second, out = picture("a.png"), picture("b.png"), tmp_path / "out"
    run(first, *BOX, "--out", out)
    as_input = run(out / "a.overlay.png", *BOX, "--out", out, "--overwrite")
    run(second, *BOX, "--out", out, "--overwrite")

    assert as_input.exit_code == 2
    assert "expected results that replace no input" in as_input.stderr
    assert names_in(out) == ["annotations.json", "b.1.mask.png", "b.overlay.png"]


def test_two_runs_at_once_are_refused(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """The second ends with 1, and so does a folder of another verb with 2."""
    image, held, other = picture("a.png"), tmp_path / "held", tmp_path / "other"
    with output_folder(held, verb="segment"):
        second = run(image, *BOX, "--out", held)
    with output_folder(other, verb="generate") as outputs:
        (other / "x").touch()
        outputs.made("x")

    assert second.exit_code == 1
    assert "got one that another run is using" in second.stderr
    assert run(image, *BOX, "--out", other).exit_code == 2


def test_each_image_has_its_own_prompts_from_a_file(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """Masks have the numbers of the file, categories reach the COCO file, and gaps are told."""
    for name in ("a.png", "b.png", "c.png"):
        picture(name)
    table = tmp_path / "prompts.csv"
    table.write_text(
        "image,object,x0,y0,x1,y1,category\na.png,5,1,1,4,4,cat\na.png,2,5,5,9,9,dog\n"
        "b.png,,0,0,8,8,dog\nz.png,,1,1,2,2,cat\n"
    )
    out = tmp_path / "out"
    result = run(tmp_path / "in", "--prompts", table, "--out", out, "--json")

    assert result.exit_code == 0
    assert names_in(out)[:4] == [
        "a.2.mask.png",
        "a.5.mask.png",
        "a.overlay.png",
        "annotations.json",
    ]
    assert np.count_nonzero(read_mask(out / "a.5.mask.png")) == 9
    assert f"passed over: {tmp_path}/in/c.png\n" in result.stderr
    assert "but not among the images: z.png\n" in result.stderr
    first = json.loads(result.stdout)["images"][0]["objects"][0]
    assert (first["object"], first["category"], first["box_xyxy"]) == (5, "cat", [1, 1, 4, 4])
    found = coco_of(out)
    named = {category["id"]: category["name"] for category in found["categories"]}
    assert [named[each["category_id"]] for each in found["annotations"]] == ["cat", "dog", "dog"]


def test_categories_of_several_runs_go_together(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """What stays from an earlier run keeps its category, whatever number it has then."""
    out, table = tmp_path / "out", tmp_path / "prompts.csv"
    for name in ("a", "b"):
        table.write_text(f"image,x0,y0,x1,y1,class\n{name},1,1,4,4,kind of {name}\n")
        run(picture(f"{name}.png"), "--prompts", table, "--out", out)
    found = coco_of(out)

    assert [each["name"] for each in found["categories"]] == ["kind of a", "kind of b"]
    assert [each["category_id"] for each in found["annotations"]] == [1, 2]


def test_a_coco_file_of_a_run_gives_the_prompts_of_the_next(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """Its boxes give the same masks; it is not replaced while it is read."""
    image, out, again = picture("a.png"), tmp_path / "out", tmp_path / "again"
    run(image, *BOX, "--out", out)
    coco = out / "annotations.json"
    replaced = run(image, "--prompts", coco, "--out", out)
    result = run(image, "--prompts", coco, "--out", again)

    assert replaced.exit_code == 2
    assert "expected results that replace no input" in replaced.stderr
    assert result.exit_code == 0
    mask = "a.1.mask.png"
    assert (out / mask).read_bytes() == (again / mask).read_bytes()


def test_prompts_that_do_not_fit_fail_their_image(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """A box outside names its object, prompts for another size both sizes; others are done."""
    for name in ("a.png", "b.png", "c.png"):
        picture(name)
    table = tmp_path / "prompts.csv"
    table.write_text(
        "image,x0,y0,x1,y1,width,height\na.png,1,1,4,4,,\na.png,90,1,99,4,,\n"
        "b.png,1,1,4,4,99,99\nc.png,1,1,4,4,,\n"
    )
    result = run(tmp_path / "in", "--prompts", table, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert "a.png: object 2: expected a box that overlaps the image of 32 x 24" in result.stderr
    assert "b.png: expected an image of 99 x 99 pixels, as the prompts of 'b.png'" in result.stderr
    assert names_in(tmp_path / "out") == ["annotations.json", "c.1.mask.png", "c.overlay.png"]


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (
            "image,x,y\na.png,1,1\n",
            BOX,
            "expected either --prompts or --box and --point, got --box",
        ),
        ("image,x,y\nb.png,1,1\n", (), "to name one of the images, such as"),
        ("image,size\na.png,1\n", (), "expected a table with the columns image and x0, y0"),
    ],
)
def test_prompt_files_that_are_of_no_use_exit_with_2(
    text: str,
    arguments: tuple[str, ...],
    message: str,
    loaded: list[FakeModel],
    picture: Picture,
    tmp_path: Path,
) -> None:
    """Before any image is read, and without a folder of results."""
    table = tmp_path / "prompts.csv"
    table.write_text(text)
    out = tmp_path / "out"
    result = run(picture("a.png"), "--prompts", table, *arguments, "--out", out)

    assert result.exit_code == 2
    assert message in result.stderr
    assert loaded == []
    assert not out.exists()


def test_labels_are_written_into_the_overlay_when_asked_for(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """--labels changes the overlay, and nothing else."""
    box = ("--box", "2,12,28,22")
    plain, labelled = tmp_path / "plain", tmp_path / "labelled"
    run(picture("a.png"), *box, "--out", plain)
    run(picture("a.png"), *box, "--out", labelled, "--labels")

    assert np.any(load_image(plain / "a.overlay.png") != load_image(labelled / "a.overlay.png"))
    mask = "a.1.mask.png"
    assert (plain / mask).read_bytes() == (labelled / mask).read_bytes()


def test_stdin_and_a_folder_go_together(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """An image on stdin is one more, called stdin."""
    image, out = picture("a.png"), tmp_path / "out"
    result = run(tmp_path / "in", "-", *BOX, "--out", out, stdin=image.read_bytes())

    assert result.exit_code == 0
    assert "stdin.1.mask.png" in names_in(out)
    assert [each["file_name"] for each in coco_of(out)["images"]][1] == "stdin"


def test_many_objects_are_answered_in_parts(
    loaded: list[FakeModel], picture: Picture, tmp_path: Path
) -> None:
    """All 150 boxes of an image give a mask each, in their order."""
    boxes = [f"{x},{y},{x + 2},{y + 2}" for y in range(10) for x in range(15)]
    options = [part for box in boxes for part in ("--box", box)]
    result = run(picture("a.png"), *options, "--out", tmp_path / "out", "--json")
    (image,) = json.loads(result.stdout)["images"]
    found = [",".join(f"{edge:g}" for edge in each["box_xyxy"]) for each in image["objects"]]

    assert found == boxes
    assert len(loaded[0].encoded) == 1
