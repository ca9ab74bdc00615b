from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import nexus.data.images.loading
import nexus.models.cv
from nexus.core.errors import DownloadError
from nexus.data.images.loading import read_mask
from nexus.ops.rle import decode_rle
from tests.cli.segmenting import HEIGHT, WIDTH, FakeModel, run


def test_a_run_writes_masks_an_overlay_and_a_coco_file(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """Each box is an object of its own, and stdout names what was written, nothing else."""
    out = tmp_path / "new" / "out"
    result = run(picture("a.png"), "--box", "2,3,10,12", "--box", "0,0,5,5", "--out", out)

    assert result.exit_code == 0
    assert result.stderr.startswith("segment: 1 image")
    names = ["a.1.mask.png", "a.2.mask.png", "a.overlay.png", "annotations.json"]
    assert result.stdout.splitlines() == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == [".nexus", *names]
    mask = read_mask(out / "a.1.mask.png")
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask[3:12, 2:10].min() == 255
    assert np.count_nonzero(mask) == 9 * 8
    with Image.open(out / "a.overlay.png") as overlay:
        assert overlay.size == (WIDTH, HEIGHT)


# pycocotools' own decoding hands NumPy an object without the newer `copy` keyword.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_coco_file_is_read_by_pycocotools(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """Images, annotations with ids over the run, boxes, areas and masks come back."""
    first, second = picture("a.png"), picture("b.png")
    run(first, second, "--box", "2,3,10,12", "--box", "0,0,5,5", "--out", tmp_path)
    coco = COCO(str(tmp_path / "annotations.json"))

    assert [image["file_name"] for image in coco.loadImgs([1, 2])] == [
        first.as_posix(),
        second.as_posix(),
    ]
    assert sorted(coco.anns) == [1, 2, 3, 4]
    annotation = coco.anns[3]
    assert annotation["image_id"] == 2
    assert annotation["bbox"] == [2, 3, 8, 9]
    assert annotation["area"] == 72
    assert annotation["score"] == 0.75
    np.testing.assert_array_equal(
        coco.annToMask(annotation), read_mask(tmp_path / "b.1.mask.png") > 0
    )


@pytest.mark.parametrize(
    ("arguments", "objects"),
    [
        (["--box", "1,1,5,5"], [(None, None, [1, 1, 5, 5])]),
        (["--point", "7,8"], [([[7, 8]], [1], None)]),
        (["--point", "7,8", "--point", "9,9,0"], [([[7, 8], [9, 9]], [1, 0], None)]),
        (["--box", "1,1,5,5", "--point", "3,3,1"], [([[3, 3]], [1], [1, 1, 5, 5])]),
        (
            ["--point", "3,3", "--box", "1,1,5,5", "--box", "-2,0,4.5,4"],
            [(None, None, [1, 1, 5, 5]), (None, None, [-2, 0, 4.5, 4]), ([[3, 3]], [1], None)],
        ),
    ],
)
def test_how_boxes_and_points_become_objects(
    arguments: list[str],
    objects: list[tuple[Any, Any, Any]],
    loaded: list[FakeModel],
    picture: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """A box is an object, all points are one, and with exactly one box they refine it."""
    result = run(picture("a.png"), *arguments, "--out", tmp_path)
    asked = [
        tuple(part if part is None else part.tolist() for part in (p.points, p.labels, p.box))
        for p in loaded[0].prompts
    ]

    assert result.exit_code == 0
    assert asked == objects


def test_options_reach_the_model(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """Model, checkpoint, device, dtype, the kind of answer and the limit are handed on."""
    common = (picture("a.png"), "--box", "1,1,5,5", "--out", tmp_path)
    run(*common)
    run(*common, "--model", "sam_vit_b", "--checkpoint", "w.pth", "--device", "cpu", "--single")
    run(*common, "--dtype", "bfloat16", "--multimask", "--max-pixels", 0)

    default = {"checkpoint": None, "device": None, "dtype": None}
    assert [model.load_arguments for model in loaded] == [
        ("lite_medsam", default),
        ("sam_vit_b", {**default, "checkpoint": Path("w.pth"), "device": "cpu"}),
        ("lite_medsam", {**default, "dtype": "bfloat16"}),
    ]
    assert [model.multimask for model in loaded] == [[None], [False], [True]]
    assert [model.encoded[0][3] for model in loaded] == [100_000_000, 100_000_000, 0]


def test_one_model_encodes_each_image_once(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """Three images and two objects load one model and encode three times; a repeat is dropped."""
    images = [picture(name) for name in ("a.png", "b.png", "c.png")]
    run(*images, images[0], "--box", "1,1,5,5", "--box", "2,2,5,5", "--out", tmp_path)

    assert len(loaded) == 1
    assert len(loaded[0].encoded) == 3


def test_a_bad_image_is_reported_and_the_rest_is_done(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """Missing, cut and too small images cost exit code 1 and a line each, not the run."""
    cut = picture("cut.png")
    cut.write_bytes(cut.read_bytes()[:-40])
    small = picture("small.png")
    Image.new("L", (4, 4)).save(small)
    missing = tmp_path / "missing.png"
    result = run(
        missing, cut, small, picture("good.png"), "--box", "6,6,9,9", "--out", tmp_path / "out"
    )

    assert result.exit_code == 1
    assert [Path(line).name for line in result.stdout.splitlines()] == [
        "good.1.mask.png",
        "good.overlay.png",
        "annotations.json",
    ]
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith(f"error: {missing}: expected an image file")
    assert errors[1].startswith(f"error: {cut}: expected a whole PNG file")
    assert errors[2].startswith(f"error: {small}: expected a box that overlaps the image of 4 x 4")
    assert "hint: the file is damaged or cut short" in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_is_loaded_or_written_when_no_image_can_be_read(
    loaded: list[FakeModel], tmp_path: Path
) -> None:
    """Without a readable image no model is fetched and no COCO file appears."""
    result = run(tmp_path / "missing.png", "--box", "1,1,5,5", "--out", tmp_path)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert loaded == []
    assert list(tmp_path.iterdir()) == []


def test_images_above_the_limit_fail_alone(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """--max-pixels is held against every image."""
    result = run(
        picture("a.png"), "--box", "1,1,5,5", "--out", tmp_path, "--max-pixels", HEIGHT * WIDTH - 1
    )

    assert result.exit_code == 1
    assert "expected at most 767 pixels" in result.stderr


def test_results_that_cannot_be_written_fail_their_image(
    loaded: list[FakeModel],
    picture: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A disk that is full is an error of that image, not a traceback."""

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "a.1.mask.png")

    monkeypatch.setattr(nexus.data.images.loading, "write_mask", full)
    result = run(picture("a.png"), "--box", "1,1,5,5", "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {picture('a.png')}: ")
    assert "a.1.mask.png" in result.stderr
    assert not (tmp_path / "out").exists()


def test_json_is_one_document_that_holds_everything(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """Scores, boxes, areas, RLE, files, notes and errors are there, and no paths besides."""
    good, missing = picture("a.png"), tmp_path / "missing.png"
    result = run(
        *(missing, good, "--box", "2,3,10,12", "--box", "0,0,5,5", "--point", "20,20"),
        *("--out", tmp_path, "--json"),
    )
    document = json.loads(result.stdout)

    assert result.exit_code == 1
    assert document["model"] == "lite_medsam"
    assert document["failed"] == 1
    assert document["annotations_file"] == str(tmp_path / "annotations.json")
    failed, done = document["images"]
    assert failed.keys() == done.keys()
    assert failed["image"] == str(missing)
    assert failed["error"]["message"].startswith("expected an image file")
    assert done["error"] is None
    assert done["size_hw"] == [HEIGHT, WIDTH]
    assert done["overlay_file"] == str(tmp_path / "a.overlay.png")
    box, _, point = done["objects"]
    assert box["prompt"] == {"box": [2, 3, 10, 12]}
    assert box["score"] == 0.75
    assert box["box_xyxy"] == [2, 3, 10, 12]
    assert box["area"] == 72
    assert box["notes"] == []
    assert point["object"] == 3
    assert point["prompt"] == {"points": [[20, 20]], "labels": [1]}
    assert point["notes"] == ["a point means little"]
    np.testing.assert_array_equal(decode_rle(box["rle"]), read_mask(box["mask_file"]) > 0)


def test_notes_of_results_are_told_once_with_their_places(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """What weakens results is a line on stderr that names the objects, not a warning for each."""
    images = [picture(f"{name}.png") for name in "abcde"]
    one = run(images[0], "--point", "5,5", "--out", tmp_path / "one")
    boxes = ("--box", "1,1,5,5") * 2
    many = run(*images, *boxes, "--point", "5,5", "--out", tmp_path / "many")

    assert one.exit_code == 0
    assert one.stderr.splitlines()[1:] == [f"note: {images[0]} object 1: a point means little"]
    places = ", ".join(f"{image} object 3" for image in images[:3])
    assert many.stderr.splitlines()[1:] == [f"note: {places} and 2 more: a point means little"]


def test_images_of_one_name_do_not_overwrite_each_other(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """Alike stems get their folder's name, and a number where that is alike too."""
    names = ["x/a.png", "y/a.png", "y/A.bmp", "z/b.png", "z/x-a.png", "p/y/a.png"]
    out = tmp_path / "out"
    result = run(*[picture(name) for name in names], "--box", "1,1,5,5", "--out", out)

    assert result.exit_code == 0
    overlays = [
        path.name for path in map(Path, result.stdout.splitlines()) if "overlay" in str(path)
    ]
    assert overlays == [
        "x-a-1.overlay.png",
        "y-a-1.overlay.png",
        "y-A-2.overlay.png",
        "b.overlay.png",
        "x-a-2.overlay.png",
        "y-a-3.overlay.png",
    ]
    assert len(list(out.glob("*.mask.png"))) == len(names)


def test_an_input_is_never_overwritten(
    loaded: list[FakeModel], picture: Callable[[str], Path]
) -> None:
    """A run whose results would replace one of its images is refused before it starts."""
    image, victim = picture("a.png"), picture("a.1.mask.png")
    before = victim.read_bytes()
    result = run(image, victim, "--box", "1,1,5,5", "--out", victim.parent)

    assert result.exit_code == 2
    assert "expected results that replace no input" in result.stderr
    assert "hint: write into another folder: --out DIR" in result.stderr
    assert victim.read_bytes() == before
    assert loaded == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: expected at least one --box or --point, got none"),
        (["--box", "1,2,3"], "error: expected --box x0,y0,x1,y1, got '1,2,3'\nhint: commas"),
        (["--box", "1,2,a,4"], "got '1,2,a,4'"),
        (["--box", "5,5,1,1"], "error: expected a box with x0 < x1 and y0 < y1, got (5, 5, 1, 1)"),
        (["--box", "nan,1,2,3"], "error: expected"),
        (["--point", "1"], "error: expected --point x,y or x,y,0 or x,y,1, got '1'"),
        (["--point", "1,2,7"], "error: expected labels 1 (foreground) or 0 (background), got 7"),
        (["--box", "1,1,5,5", "--model", "lite-medsam"], "hint: did you mean 'lite_medsam'?"),
        (["--box", "1,1,5,5", "--max-pixels", "-1"], "--max-pixels"),
        (["--box", "1,1,5,5", "--colour"], "No such option"),
    ],
)
def test_wrong_arguments_exit_with_2(
    arguments: list[str],
    message: str,
    loaded: list[FakeModel],
    picture: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """Prompts, names and options that make no sense say what was expected, before any work."""
    result = run(picture("a.png"), *arguments, "--out", tmp_path)

    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert loaded == []


def test_an_out_that_is_a_file_exits_with_2(
    loaded: list[FakeModel], picture: Callable[[str], Path]
) -> None:
    """--out must be a folder."""
    image = picture("a.png")
    result = run(image, "--box", "1,1,5,5", "--out", image)

    assert result.exit_code == 2
    assert "expected the output to be a folder" in result.stderr


def test_missing_weights_exit_with_3(
    monkeypatch: pytest.MonkeyPatch, picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """Weights that cannot be fetched end the run with their message and hint."""

    def load_model(*arguments: object, **options: object) -> None:
        raise DownloadError("no source could be reached", hint="try again")

    monkeypatch.setattr(nexus.models.cv, "load_model", load_model)
    result = run(picture("a.png"), "--box", "1,1,5,5", "--out", tmp_path)

    assert result.exit_code == 3
    assert result.stderr == "error: no source could be reached\nhint: try again\n"


def test_an_interrupted_run_keeps_what_it_has_done(
    loaded: list[FakeModel],
    picture: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C exits with 130 and leaves a COCO file of the images done."""
    encode = FakeModel.encode_image

    def interrupt(self: FakeModel, image: np.ndarray, **options: Any) -> SimpleNamespace:
        if self.encoded:
            raise KeyboardInterrupt
        return encode(self, image, **options)

    monkeypatch.setattr(FakeModel, "encode_image", interrupt)
    result = run(picture("a.png"), picture("b.png"), "--box", "1,1,5,5", "--out", tmp_path)

    assert result.exit_code == 130
    assert result.stderr.endswith("\ninterrupted\n")
    images = json.loads((tmp_path / "annotations.json").read_text())["images"]
    assert [Path(image["file_name"]).name for image in images] == ["a.png"]


def test_memory_running_out_fails_one_image(
    loaded: list[FakeModel],
    picture: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A MemoryError is an error of its image."""

    def exhaust(self: FakeModel, image: np.ndarray, **options: Any) -> SimpleNamespace:
        raise MemoryError

    monkeypatch.setattr(FakeModel, "encode_image", exhaust)
    result = run(picture("a.png"), "--box", "1,1,5,5", "--out", tmp_path)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {picture('a.png')}: out of memory\n")


def test_the_help_says_how_boxes_and_points_go_together() -> None:
    """The rule of one box and many points is in --help."""
    text = " ".join(run("--help").stdout.split())

    assert "Each is one object" in text
    assert "with exactly one --box they refine the object of that box" in text


def test_prompt_errors_of_one_image_name_it(
    loaded: list[FakeModel], picture: Callable[[str], Path], tmp_path: Path
) -> None:
    """A point outside an image is that image's error."""
    result = run(picture("a.png"), "--point", "500,5", "--out", tmp_path)

    assert result.exit_code == 1
    assert "a.png: expected points inside the image" in result.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("lite_medsam_weights")
def test_lite_medsam_segments_a_real_picture(shared_data: Path, tmp_path: Path) -> None:
    """Real weights and a real skin lesion: the mask overlaps the ground truth by DSC over 0.9."""
    reference = json.loads((shared_data / "lite_medsam_reference.json").read_text())
    record = next(r for r in reference if r["set"] == "ph2_skin" and r["dsc"] > 0.93)
    image = next((shared_data / "ph2_skin" / "images").glob(f"{Path(record['image']).stem}.*"))
    box = ",".join(map(str, record["box_xyxy"]))
    result = run(image, "--box", box, "--out", tmp_path, "--json", "--device", "cpu")
    found = json.loads(result.stdout)["images"][0]["objects"][0]
    truth = read_mask(shared_data / "ph2_skin" / "masks" / f"{image.stem}.png") == record["id"]
    mask = decode_rle(found["rle"])

    assert result.exit_code == 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) >= record["dsc"] - 0.005
    assert found["notes"] == []
