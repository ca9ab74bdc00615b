"""The scripts of examples/ run, do what the documents say, and stay short."""

from __future__ import annotations

import csv
import importlib
import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from examples.nuclei_count.measure import Score, score, summary
from examples.nuclei_count.seeds import find_seeds, otsu
from examples.video_edit.background import ground
from examples.video_edit.follow import smooth_crops
from nexus.core.errors import InputError
from nexus.core.weights.checkpoint import read_checkpoint
from nexus.data.images.loading import read_mask, write_mask, write_picture
from nexus.data.video.opening import open_video
from nexus.ops.polygons import ring_area
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import tiny_sam2
from tests.train.moving_square import draw_davis
from tests.train.tiny_run import draw_set
from tools.doc_blocks import pages

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples").rglob("*.py"))
TASKS = (
    "cut_out",
    "damage_area",
    "fine_tune",
    "fine_tune_video",
    "nuclei_count",
    "object_removal",
    "video_edit",
)
SCRIPTS = [
    path
    for path in FILES
    if path.parent.name in TASKS and '__name__ == "__main__"' in path.read_text("utf-8")
]
LINES = 80
NUCLEI = ("0f0a43af8c", "1367fc1258")
SIZE_HW = (120, 160)

Run = Callable[..., None]


def name_of(path: Path) -> str:
    """Name a file as documents do."""
    return path.relative_to(ROOT).as_posix()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a script, given as task/name, with arguments."""

    def run_script(script: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        importlib.import_module("examples." + script.replace("/", ".")).main()

    return run_script


@pytest.fixture
def photograph(tmp_path: Path) -> SimpleNamespace:
    """Write a red disc of 20 pixels across on green, and its mask."""
    yy, xx = np.mgrid[:60, :80]
    mask = (yy - 29.5) ** 2 + (xx - 39.5) ** 2 < 100
    picture = np.where(mask[..., None], (200, 30, 30), (40, 160, 60)).astype(np.uint8)
    return SimpleNamespace(
        array=picture,
        mask_array=mask,
        image=write_picture(tmp_path / "photo.png", picture),
        mask=write_mask(tmp_path / "mask.png", mask),
    )


@pytest.fixture
def clip(tmp_path: Path) -> SimpleNamespace:
    """Write 12 frames of a disc that moves left over ground that moves right, and its masks."""
    random = np.random.default_rng(3)
    wide = np.kron(random.integers(0, 256, (40, 60, 1)), np.ones((4, 4, 3))).astype(np.uint8)
    yy, xx = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    grounds, masks = [], []
    for t in range(12):
        ground = wide[: SIZE_HW[0], 30 - 2 * t : 30 - 2 * t + SIZE_HW[1]]
        mask = (yy - 60) ** 2 + (xx - 120 + 6 * t) ** 2 < 144
        frame = np.where(mask[..., None], np.uint8([230, 20, 220]), ground)
        write_picture(tmp_path / "frames" / f"{t:05}.png", frame)
        write_mask(tmp_path / "masks" / f"{t:05}.png", mask.astype(np.uint8) * 3)
        grounds.append(ground)
        masks.append(mask)
    return SimpleNamespace(
        frames=tmp_path / "frames",
        masks=tmp_path / "masks",
        grounds=grounds,
        mask_arrays=masks,
        out=tmp_path / "out.mp4",
    )


def pixels(path: Path) -> np.ndarray:
    """Read a picture as it is stored."""
    with Image.open(path) as picture:
        return np.array(picture).astype(np.int16)


def read_clip(path: Path) -> list[np.ndarray]:
    """Return all frames of a video."""
    with open_video(path) as video:
        return [frame.astype(np.int16) for frame in video]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_examples_are_short(path: Path) -> None:
    """No file of examples/ has 80 lines."""
    assert len(path.read_text("utf-8").splitlines()) < LINES


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_scripts_start_and_are_documented(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each script prints its help when it is run, and a document shows how to run it."""
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(path), run_name="__main__")

    module = name_of(path).removesuffix(".py").replace("/", ".")
    assert left.value.code == 0
    assert "usage:" in capsys.readouterr().out
    assert any(f"python -m {module} " in page.read_text("utf-8") for page in pages())


def test_damage_is_measured_in_mm(
    run: Run, photograph: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Area, width and outline of a disc of 20 pixels at 0.5 mm each are those of 10 mm."""
    out = tmp_path / "out"
    arguments = (photograph.image, "--mask", photograph.mask, "--out", out)
    run("damage_area/measure", *arguments, "--mm-per-pixel", 0.5)
    report = json.loads((out / "report.json").read_text("utf-8"))
    run("damage_area/measure", *arguments, "--reference", "10,5,10,45,20")
    again = json.loads((out / "report.json").read_text("utf-8"))

    (part,) = report["parts"]
    assert report["area_mm2"] == photograph.mask_array.sum() * 0.25
    assert report["area_m2"] == pytest.approx(np.pi * 0.005**2, rel=0.02)
    assert (part["width_mm"], part["height_mm"]) == (10, 10)
    assert ring_area(part["outlines_mm"][0]) == pytest.approx(report["area_mm2"], rel=0.02)
    assert again == report
    assert "1 parts" in capsys.readouterr().out
    assert pixels(out / "overlay.png").shape == (60, 80, 3)


def test_a_reference_line_has_a_length(
    run: Run, photograph: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line from a point to itself gives no scale, and the message names the argument."""
    with pytest.raises(SystemExit):
        run("damage_area/measure", photograph.image, "--reference", "5,5,5,5,20")

    assert "argument --reference: invalid reference value" in capsys.readouterr().err


def test_an_object_is_painted_over(run: Run, photograph: SimpleNamespace, tmp_path: Path) -> None:
    """On even ground nothing of the object is left, and pixels far from it are untouched."""
    out = tmp_path / "out.png"
    run("object_removal/remove", photograph.image, "--mask", photograph.mask, "--out", out)
    result = pixels(out)

    assert np.abs(result - (40, 160, 60)).max() <= 4


@pytest.mark.parametrize("script", ["object_removal/remove", "cut_out/cut_out"])
def test_a_mask_of_another_size_is_refused(
    run: Run,
    photograph: SimpleNamespace,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    script: str,
) -> None:
    """A mask that belongs to another picture ends the script with both sizes."""
    mask = write_mask(tmp_path / "other.png", np.ones((6, 8), np.bool_))
    with pytest.raises(SystemExit):
        run(script, photograph.image, "--mask", mask, "--out", tmp_path / "out.png")

    message = capsys.readouterr().err
    assert "expected a mask of (60, 80)" in message
    assert "got (6, 8)" in message


def test_a_hard_cut_is_the_mask(run: Run, photograph: SimpleNamespace, tmp_path: Path) -> None:
    """With no feather alpha is 255 on the mask and 0 beside it, and colours are the picture's."""
    out = tmp_path / "cut.png"
    arguments = ("--mask", photograph.mask, "--feather", 0, "--out", out)
    run("cut_out/cut_out", photograph.image, *arguments)
    cut = pixels(out)

    assert np.array_equal(cut[..., 3], photograph.mask_array * np.uint8(255))
    assert np.array_equal(cut[..., :3], photograph.array)


def test_a_soft_cut_fades_without_the_old_ground(
    run: Run, photograph: SimpleNamespace, tmp_path: Path
) -> None:
    """Alpha passes one half at the mask's edge; whatever is seen has the object's colour."""
    out = tmp_path / "cut.png"
    arguments = ("--mask", photograph.mask, "--feather", 6, "--crop", "--out", out)
    run("cut_out/cut_out", photograph.image, *arguments)
    cut = pixels(out)
    row = cut[len(cut) // 2, :, 3]

    assert cut.shape[:2] == (26, 26)
    assert (cut[cut[..., 3] > 0][:, :3] == (200, 30, 30)).all()
    assert row.max() == 255
    assert row[2] < 128 < row[3]
    assert (np.diff(row[:13]) >= 0).all()


@pytest.mark.parametrize("kind", ["color", "picture"])
def test_the_ground_is_replaced(run: Run, clip: SimpleNamespace, tmp_path: Path, kind: str) -> None:
    """The object keeps its colour, and what is around it becomes the colour or the picture."""
    picture = write_picture(tmp_path / "sky.png", np.full((30, 30, 3), (0, 90, 200), np.uint8))
    what = picture if kind == "picture" else "0,90,200"
    arguments = ("--masks", clip.masks, "--ground", what, "--out", clip.out)
    run("video_edit/background", clip.frames, *arguments)
    frames = read_clip(clip.out)

    assert len(frames) == 12
    for t, frame in enumerate(frames):
        assert np.abs(frame[60, 120 - 6 * t] - (230, 20, 220)).max() < 25
        assert np.abs(frame[15:30, 15:145] - (0, 90, 200)).max() < 25


def test_the_ground_is_blurred_without_a_halo() -> None:
    """Blur evens the ground out, and nothing of the object's colour gets into it."""
    frame = np.full((40, 60, 3), (0, 100, 0), np.uint8)
    frame[::2] = (0, 200, 0)
    mask = np.zeros((40, 60), np.bool_)
    mask[10:30, 20:40] = True
    frame[mask] = (255, 0, 255)

    blurred = ground("blur", (40, 60))(frame, mask)
    sharp = np.full((40, 60), 150)

    assert blurred[..., [0, 2]].max() <= 3
    assert np.abs(blurred[~mask, 1] - sharp[~mask]).max() < 40


def test_what_an_object_hid_comes_from_other_frames(run: Run, clip: SimpleNamespace) -> None:
    """The ground under the object is back, although the camera moves: inpainting cannot do that."""
    run("video_edit/remove", clip.frames, "--masks", clip.masks, "--step", 3, "--out", clip.out)
    errors, painted = [], []
    for frame, true, mask in zip(read_clip(clip.out), clip.grounds, clip.mask_arrays, strict=True):
        alone = cv2.inpaint(np.ascontiguousarray(true), mask.astype(np.uint8), 5, 1)
        errors.append(np.abs(frame - true)[mask].mean())
        painted.append(np.abs(alone.astype(int) - true)[mask].mean())

    assert np.max(errors) < np.min(painted) / 2


def test_a_crop_follows_its_actor(run: Run, clip: SimpleNamespace) -> None:
    """Each frame has the size asked for and the actor at its middle, whole."""
    arguments = ("--masks", clip.masks, "--object", 3, "--size", 64, 64)
    run("video_edit/crop", clip.frames, *arguments, "--out", clip.out)
    frames = read_clip(clip.out)

    assert len(frames) == 12
    for frame in frames:
        assert frame.shape == (64, 64, 3)
        assert np.abs(frame[32, 32] - (230, 20, 220)).max() < 25
        assert np.abs(frame[[2, 61]] - (230, 20, 220)).sum(-1).min() > 40


def test_crops_bridge_gaps_and_stay_in_the_frame() -> None:
    """Where the actor is not seen the crop goes on; all have one shape and lie in the frame."""
    boxes = np.array([[10 * t, 20, 10 * t + 20, 60] for t in range(10)], np.float64)
    boxes[4:6] = 0

    crops = smooth_crops(boxes, (100, 140), (30, 60), 0.1, 1.0)

    width, height = (crops[:, 2:] - crops[:, :2]).T
    assert crops.min() >= 0
    assert (crops[:, 2:] <= (140, 100)).all()
    assert width / height == pytest.approx(np.full(10, 0.5))
    assert np.diff(crops[2:8, 0]) == pytest.approx(np.full(5, 10), abs=0.5)


def test_a_crop_needs_an_actor() -> None:
    """Empty masks alone are refused."""
    with pytest.raises(InputError) as caught:
        smooth_crops(np.zeros((3, 4)), (100, 140), (30, 60), 0.1, 1.0)

    assert "expected an actor in at least one frame, got empty masks" in str(caught.value)


def test_a_folder_without_masks_is_refused(run: Run, clip: SimpleNamespace, tmp_path: Path) -> None:
    """A folder in which no PNG is named by a frame number is named."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        run("video_edit/crop", clip.frames, "--masks", tmp_path / "empty", "--out", clip.out)

    assert "expected PNGs named by frame number, got none in" in str(caught.value)


def test_a_model_tracks_what_is_in_a_box(
    run: Run, clip: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --box a SAM 2 gives the masks: those its own session gives."""
    monkeypatch.setattr("examples.video_edit.masks.load_model", lambda name: tiny_sam2())
    seen: dict[int, np.ndarray] = {}
    monkeypatch.setattr(
        "examples.video_edit.background.compose",
        lambda frame, mask, behind, feather: seen.setdefault(len(seen), mask)[..., None] * frame,
    )
    arguments = ("--box", "105,45,135,75", "--ground", "0,0,0", "--out", clip.out)
    run("video_edit/background", clip.frames, *arguments)
    with tiny_sam2().video(clip.frames) as session:
        session.add(frame_index=0, object_id=1, box=(105, 45, 135, 75))
        expected = [frame.mask(1) for frame in session.propagate()]

    assert len(seen) == 12
    assert all(np.array_equal(seen[t], mask) for t, mask in enumerate(expected))


def test_a_model_that_does_not_track_is_refused(
    run: Run, clip: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image model for a clip is an error that names it."""
    monkeypatch.setattr("examples.video_edit.masks.load_model", lambda name: object())
    with pytest.raises(InputError) as caught:
        run("video_edit/crop", clip.frames, "--box", "1,2,9,9", "--model", "m", "--out", clip.out)

    assert "expected a SAM 2 or EdgeTAM for a video, got 'm'" in str(caught.value)


@pytest.mark.parametrize("script", ["remove", "background", "crop"])
def test_real_clips_are_edited(run: Run, shared_data: Path, tmp_path: Path, script: str) -> None:
    """Frames of DAVIS with their true tracks go through each script, in number and size."""
    clip = shared_data / "davis16_video" / "car-shadow"
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for path in sorted((clip / kind).iterdir())[:3]:
            shutil.copy(path, tmp_path / kind)
    out = tmp_path / "out.mp4"
    run(f"video_edit/{script}", tmp_path / "images", "--masks", tmp_path / "masks", "--out", out)
    frames = read_clip(out)

    assert [frame.shape for frame in frames] == 3 * [
        (480, 360, 3) if script == "crop" else (480, 854, 3)
    ]


def nuclei(paper: int, ink: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw five discs of radius 10, two of which touch, and return their label map too."""
    centres = [(20, 20), (60, 20), (20, 60), (60, 60), (76, 60)]
    picture, labels = Image.new("L", (100, 80), paper), Image.new("L", (100, 80), 0)
    for number, (x, y) in enumerate(centres, 1):
        for canvas, value in ((picture, ink), (labels, number)):
            ImageDraw.Draw(canvas).ellipse((x - 9, y - 9, x + 9, y + 9), fill=value)
    ImageDraw.Draw(picture).rectangle((90, 5, 91, 6), fill=ink)
    return np.asarray(picture.convert("RGB")), np.asarray(labels).astype(np.int64)


@pytest.mark.parametrize(("paper", "ink"), [(10, 200), (220, 60)])
def test_seeds_are_found_on_dark_and_on_bright_ground(paper: int, ink: int) -> None:
    """Every disc is a seed, touching ones too unless they may not be parted; specks are none."""
    image, truth = nuclei(paper, ink)

    assert score(find_seeds(image), truth) == Score(5, 5, 5)
    assert find_seeds(image, split=False).max() == 4
    assert find_seeds(image, min_area=2).max() == 6


def test_an_even_image_has_no_seeds() -> None:
    """An image of one grey has nothing to count."""
    assert find_seeds(np.full((8, 8, 3), 7, np.uint8)).max() == 0


def test_otsu_parts_two_groups() -> None:
    """The threshold of two groups of grey lies between them, however unequal they are."""
    grey = np.r_[np.full(900, 10.0), np.full(5, 12.0), np.full(100, 200.0)]

    assert 12 < otsu(grey) <= 200


def test_scores_are_those_counted_by_hand() -> None:
    """An IoU of one half is no match; errors are means over images, F1 is over all nuclei."""
    truth = np.array([[1, 1, 1, 0, 2, 2, 2, 2]])
    found = np.array([[5, 5, 5, 0, 7, 7, 0, 0]])

    assert score(found, truth) == Score(found=2, true=2, matched=1)
    assert summary([Score(2, 4, 2), Score(3, 2, 1)]) == {
        "mean absolute error": 1.5,
        "mean relative error": 0.5,
        "mean signed error": -0.5,
        "F1 at IoU 0.5": pytest.approx(6 / 11),
    }


def test_no_images_have_no_scores() -> None:
    """Nothing to average is an error."""
    with pytest.raises(ValueError) as caught:
        summary([])

    assert "expected the scores of at least one image, got none" in str(caught.value)


class BoxModel:
    """Answers a box with the box, its score falling from prompt to prompt."""

    def encode_image(self, image: np.ndarray, **_: Any) -> tuple[int, ...]:
        """Keep the size."""
        return image.shape[:2]

    def predict_batch(self, size_hw: tuple[int, int], prompts: list[Any]) -> list[Any]:
        """Fill each box."""
        from nexus.core.types import Masks

        results = []
        for index, prompt in enumerate(prompts):
            mask = np.zeros((1, *size_hw), np.bool_)
            x0, y0, x1, y1 = np.asarray(prompt.box).round().astype(int)
            mask[0, y0:y1, x0:x1] = True
            low = np.zeros((1, 4, 4), np.float32)
            results.append(Masks(mask, np.float32([1 - index / 10]), low))
        return results


@pytest.mark.parametrize("tile", [8, 0])
def test_nuclei_are_counted_and_listed(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tile: int,
) -> None:
    """A folder gives a count per image, a row per nucleus, label maps, pictures and scores."""
    monkeypatch.setattr("examples.nuclei_count.count.load_model", lambda name: BoxModel())
    image, truth = nuclei(10, 200)
    write_picture(tmp_path / "in" / "a.png", image)
    write_picture(tmp_path / "in" / "empty.png", np.zeros((40, 40, 3), np.uint8))
    write_mask(tmp_path / "truth" / "a.png", truth)
    write_mask(tmp_path / "truth" / "empty.png", np.zeros((40, 40), np.uint8))
    out = tmp_path / "out"
    arguments = ("--truth", tmp_path / "truth", "--out", out, "--tile", tile)
    run("nuclei_count/count", "--images", tmp_path / "in", *arguments)
    lines = capsys.readouterr().out.splitlines()
    with (out / "nuclei.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert lines[:2] == ["a: 5", "empty: 0"]
    assert "seeds, mean absolute error 0.000" in lines[2]
    assert "F1 at IoU 0.5 1.000" in lines[2]
    assert lines[3].startswith("masks, mean absolute error 0.000")
    assert [row["image"] for row in rows] == ["a"] * 5
    assert sorted(float(row["x"]) for row in rows)[:2] == pytest.approx([20, 20], abs=1)
    assert read_mask(out / "masks" / "a.png").max() == 5
    assert pixels(out / "overlays" / "a.png").shape == (80, 100, 3)


def test_counted_nuclei_are_shown(run: Run, tmp_path: Path) -> None:
    """The picture has a column for each image: itself, its true outlines and those found."""
    image, truth = nuclei(10, 200)
    write_picture(tmp_path / "images" / "a.png", image)
    write_mask(tmp_path / "truth" / "a.png", truth)
    write_mask(tmp_path / "found" / "a.png", np.zeros_like(truth))
    folders = [
        part for name in ("images", "truth", "found") for part in (f"--{name}", tmp_path / name)
    ]
    run("nuclei_count/picture", "a", "a", *folders, "--side", 80, "--out", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        shown = np.asarray(sheet.convert("RGB")).astype(int)

    plain, true, found = shown[:80, :80], shown[86:166, :80], shown[172:, :80]
    assert shown.shape == (3 * 80 + 2 * 6, 2 * 80 + 6, 3)
    assert np.ptp(plain, axis=2).max() <= 8
    assert np.ptp(true, axis=2).max() > 150
    assert np.array_equal(found, plain)


@pytest.mark.slow
@pytest.mark.usefixtures("lite_medsam_weights")
def test_real_nuclei_are_counted(
    run: Run, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LiteMedSAM's masks of two real images match at least 9 of 10 nuclei."""
    folder = shared_data / "dsb2018_nuclei"
    (tmp_path / "in").mkdir()
    for path in folder.glob("images/*.png"):
        if path.stem.endswith(NUCLEI):
            shutil.copy(path, tmp_path / "in")
    arguments = ("--truth", folder / "masks", "--out", tmp_path / "out")
    run("nuclei_count/count", "--images", tmp_path / "in", *arguments)
    masks = capsys.readouterr().out.splitlines()[-1]

    assert masks.startswith("masks, mean absolute error 0.500")
    assert float(masks.split()[-1]) >= 0.9


@pytest.mark.slow
@pytest.mark.usefixtures("lite_medsam_weights")
def test_a_box_is_enough_for_a_cut_out(run: Run, tmp_path: Path) -> None:
    """With --box LiteMedSAM gives the mask: the optic disc of a real picture."""
    out = tmp_path / "disc.png"
    image = ROOT / "examples" / "images" / "retina.jpg"
    run("cut_out/cut_out", image, "--box", "112,530,330,764", "--crop", "--out", out)
    height, width, _ = pixels(out).shape

    assert 150 < width < 235
    assert 170 < height < 250


def test_a_page_of_plain_torch_fine_tunes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop of one page writes weights that load, and they are not those it began with."""
    import examples.fine_tune.train as example

    before = {name: tensor.clone() for name, tensor in tiny_sam().state_dict().items()}
    monkeypatch.setattr(example, "load_model", lambda name: tiny_sam())
    draw_set(tmp_path / "shapes")

    run("fine_tune/train", tmp_path / "shapes", "--out", tmp_path / "x.safetensors", "--steps", 2)

    after = read_checkpoint(tmp_path / "x.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed
    assert not any(name.startswith("image_encoder.") for name in changed)


def test_videos_are_fine_tuned_with_figures(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The video loop trains on one drawn video and tracks another before and after."""
    import examples.fine_tune_video.train as example

    monkeypatch.setattr(example, "load_model", lambda *arguments: tiny_sam2())
    draw_davis(tmp_path / "drawn", ("a", "b"))
    options = ["--split", "val", "--steps", 1, "--frames", 2, "--out", tmp_path / "out"]

    run("fine_tune_video/train", "davis2017", tmp_path / "drawn", *options)

    assert "held-out videos 1, mean J 0." in capsys.readouterr().out
    assert (tmp_path / "out" / "last.safetensors").is_file()


@pytest.mark.parametrize(
    "script", ["cut_out/cut_out", "object_removal/remove", "damage_area/measure"]
)
def test_a_missing_mask_ends_in_a_message(
    script: str, photograph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Scripts say what is wrong as the command does: two lines, exit code 2, no traceback."""
    scale = ["--mm-per-pixel", "1"] if script.startswith("damage") else []
    arguments = [photograph.image, "--mask", tmp_path / "none.png", "--out", tmp_path / "o", *scale]
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "examples" / f"{script}.py"), run_name="__main__")

    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("error: expected an image file, got ")
