"""Results are compared, described, shown and saved."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageShow

from nexus.core.errors import InputError, NexusWarning, PromptError
from nexus.core.types import (
    FrameMasks,
    Geometry,
    ImageEmbedding,
    Masks,
    Prompt,
    PromptedMasks,
    showing,
)
from nexus.ops.draw import PALETTE, overlay
from nexus.ops.polygons import polygons_to_mask

HEIGHT, WIDTH = 60, 80
IMAGE = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)


def some_masks(**changes: Any) -> Masks:
    """Return two candidates, the second of which is the best."""
    masks = np.zeros((2, HEIGHT, WIDTH), bool)
    masks[0, 5:20, 5:20] = True
    masks[1, 20:50, 30:70] = True
    values: dict[str, Any] = {
        "masks": masks,
        "iou_scores": np.array([0.4, 0.914], np.float32),
        "low_res_logits": np.zeros((2, 4, 4), np.float32),
        "notes": ("a note",),
    }
    return Masks(**{**values, **changes})


def some_frame(**changes: Any) -> FrameMasks:
    """Return three objects, the last of which is not on the frame; the first two overlap."""
    masks = np.zeros((3, HEIGHT, WIDTH), bool)
    masks[0, 5:30, 5:30] = True
    masks[1, 20:50, 20:70] = True
    values: dict[str, Any] = {
        "index": 12,
        "time_s": 0.48,
        "object_ids": (2, 1, 7),
        "masks": masks,
        "iou_scores": np.array([0.9, 0.8, 0], np.float32),
        "object_score_logits": np.array([5, 4, -1024], np.float32),
        "low_res_logits": np.zeros((3, 4, 4), np.float32),
    }
    return FrameMasks(**{**values, **changes})


def some_embedding(**changes: Any) -> ImageEmbedding:
    values: dict[str, Any] = {
        "features": torch.arange(8 * 16, dtype=torch.float32).reshape(8, 4, 4).sin(),
        "geometry": Geometry((HEIGHT, WIDTH), (48, 64), 64, (0.8, 0.8)),
        "model": "sam_vit_b",
        "fingerprint": "abc",
    }
    return ImageEmbedding(**{**values, **changes})


def some_prompt(**changes: Any) -> Prompt:
    values: dict[str, Any] = {
        "points": [[10, 20], [30, 40.5]],
        "labels": [1, 0],
        "box": (1, 2, 70, 50),
    }
    return Prompt(**{**values, **changes})


MAKERS = [some_masks, some_frame, some_embedding, some_prompt]


@pytest.mark.parametrize("make", MAKERS)
def test_results_are_equal_by_value_and_have_no_hash(make: Any) -> None:
    """What is made twice of the same values is equal; nothing else is, and nothing is a key."""
    assert make() == make()
    assert make() in [make()]
    assert make() != object()
    with pytest.raises(TypeError, match="unhashable"):
        hash(make())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (some_masks(), some_masks(masks=~some_masks().masks)),
        (some_masks(), some_masks(iou_scores=np.array([0.4, 0.9], np.float32))),
        (some_masks(), some_masks(iou_scores=some_masks().iou_scores.astype(np.float64))),
        (some_masks(), some_masks(notes=())),
        (some_masks(), PromptedMasks(**vars(some_masks()))),
        (some_frame(), some_frame(object_ids=(2, 1, 8))),
        (some_frame(), some_frame(index=3)),
        (some_embedding(), some_embedding(features=torch.zeros(8, 4, 4))),
        (some_embedding(), some_embedding(features=torch.zeros(8, 4, 4, dtype=torch.float16))),
        (some_embedding(), some_embedding(high_res_features=(torch.zeros(1, 1, 1),))),
        (some_embedding(), some_embedding(fingerprint="b")),
        (some_prompt(), some_prompt(labels=[1, 1])),
        (some_prompt(), some_prompt(mask=np.ones((2, 2), bool))),
        (some_prompt(mask=np.ones((2, 2), bool)), some_prompt(mask=np.ones((2, 3), bool))),
    ],
)
def test_another_value_is_another_result(one: object, other: object) -> None:
    """Content, type of number, notes, ids and finer maps all count."""
    assert one != other
    assert other != one


def test_what_is_not_a_value_does_not_count() -> None:
    """NaN equals itself, and the memory of tracking is left aside."""
    unknown = np.array([np.nan, 0.5], np.float32)

    assert some_masks(iou_scores=unknown) == some_masks(iou_scores=unknown.copy())
    assert some_frame(memory=object()) == some_frame()


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            some_masks(),
            "Masks(candidates=2, size_hw=(60, 80), best_index=1, best_score=0.914, notes=1)",
        ),
        (
            PromptedMasks(**{**vars(some_masks()), "notes": ()}),
            "PromptedMasks(candidates=2, size_hw=(60, 80), best_index=1, best_score=0.914)",
        ),
        (
            Masks(
                np.zeros((0, 4, 5), bool), np.zeros(0, np.float32), np.zeros((0, 2, 2), np.float32)
            ),
            "Masks(candidates=0, size_hw=(4, 5), best_score=none)",
        ),
        (
            some_frame(),
            "FrameMasks(index=12, time_s=0.480, objects=3, object_ids=(2, 1, 7), "
            "size_hw=(60, 80), best_score=0.900)",
        ),
        (
            some_embedding(),
            "ImageEmbedding(model='sam_vit_b', features=(8, 4, 4), dtype=float32, device='cpu', "
            "size_hw=(60, 80))",
        ),
        (
            some_prompt(),
            "Prompt(points=[(10, 20), (30, 40.5)], labels=[1, 0], box=(1, 2, 70, 50))",
        ),
        (Prompt(np.ones((500, 2))), "Prompt(points=500, foreground=500)"),
        (Prompt(mask=np.zeros((256, 256), np.float32)), "Prompt(mask=logits (256, 256))"),
    ],
)
def test_a_result_is_told_on_one_line(result: object, text: str) -> None:
    """Counts, sizes and the best score; never an array."""
    assert repr(result) == text


def test_many_objects_are_told_on_one_line() -> None:
    """Of many ids the first are named."""
    count = 300
    frame = some_frame(
        object_ids=tuple(range(count)),
        masks=np.zeros((count, 4, 4), bool),
        iou_scores=np.zeros(count, np.float32),
    )

    assert len(repr(frame)) < 160
    assert "object_ids=(0, 1, 2, 3, 4, 5, 6, 7, ...)" in repr(frame)


def opened(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("make", MAKERS)
def test_a_notebook_gets_a_small_picture_and_a_table(make: Any) -> None:
    """A PNG that is neither tiny nor huge, and the same in HTML beside the facts."""
    result = make()
    picture, page = opened(result._repr_png_()), result._repr_html_()

    assert 100 <= max(picture.shape[:2]) <= 256
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
    assert "data:image/png;base64," in page
    assert "<table>" in page
    assert len(page) < 100_000


def test_a_large_result_is_a_small_picture() -> None:
    """3000 x 4000 pixels are 256 wide in a notebook, and a box far out needs no memory."""
    masks = np.zeros((1, 3000, 4000), bool)
    masks[0, 1000:2000, 1000:3000] = True
    large = Masks(masks, np.ones(1, np.float32), np.zeros((1, 4, 4), np.float32))
    far = Prompt(box=(0, 0, 1e9, 1e9), points=[5e8, 5e8])

    assert opened(large._repr_png_()).shape == (192, 256, 3)
    assert max(opened(far._repr_png_()).shape) <= 256


def test_the_table_escapes_and_ends() -> None:
    """Marks of HTML in a model's name stay text; of 60 objects 20 have a row."""
    page = some_embedding(model="<b>")._repr_html_()
    frame = some_frame(
        object_ids=tuple(range(1, 61)),
        masks=np.ones((60, 8, 8), bool),
        iou_scores=np.ones(60, np.float32),
    )

    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "and 40 more" in frame._repr_html_()


def test_an_empty_result_has_a_picture() -> None:
    """No candidates and no objects are shown as nothing."""
    empty = np.zeros((0, 6, 8), bool)
    none, low = np.zeros(0, np.float32), np.zeros((0, 2, 2), np.float32)
    for result in (Masks(empty, none, low), FrameMasks(0, 0.0, (), empty, none, none, low)):
        assert opened(result._repr_png_()).min() > 150
        assert "<table>" in result._repr_html_()


def test_masks_are_drawn_on_their_image(tmp_path: Path) -> None:
    """The best candidate, or the one asked for; the image may be a file."""
    masks = some_masks()
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    picture = masks.overlay(IMAGE)

    assert (picture[~masks.best] == IMAGE[~masks.best]).all()
    assert (picture[masks.best] != 90).any()
    for image in (tmp_path / "image.png", str(tmp_path / "image.png"), Image.fromarray(IMAGE)):
        np.testing.assert_array_equal(masks.overlay(image), picture)
    np.testing.assert_array_equal(
        masks.overlay(IMAGE, candidate=0, alpha=0.2), overlay(IMAGE, masks[0], alpha=0.2)
    )
    with pytest.raises(InputError, match="expected a candidate below 2, got 5"):
        masks.overlay(IMAGE, candidate=5)
    with pytest.raises(InputError, match=r"expected masks of shape \(M, 3, 3\)"):
        masks.overlay(np.zeros((3, 3), np.uint8))


def test_score_and_name_are_written_when_asked_for() -> None:
    """Labels change pixels outside the mask, in the mask's colour; a name makes them wider."""
    masks = some_masks()
    outside = ~masks.best
    plain, told = masks.overlay(IMAGE), masks.overlay(IMAGE, labels=True)
    named = masks.overlay(IMAGE, labels="cell")

    assert not (plain[outside] == PALETTE[0]).all(-1).any()
    widths = [(p[outside] == PALETTE[0]).all(-1).sum() for p in (told, named)]
    assert 0 < widths[0] < widths[1]


def test_objects_of_a_frame_keep_their_colours() -> None:
    """Colour goes by id, and the higher score lies on top."""
    frame = some_frame()
    picture = frame.overlay(IMAGE, alpha=1, outline=False)

    assert tuple(picture[10, 10]) == PALETTE[1]
    assert tuple(picture[25, 25]) == PALETTE[1]
    assert tuple(picture[40, 60]) == PALETTE[0]
    for labels in (True, {2: "dog"}, {}):
        told = frame.overlay(IMAGE, labels=labels, alpha=1, outline=False)
        assert (told != picture).any()


def test_a_prompt_is_drawn_on_its_image() -> None:
    """Points, box and a bool mask; logits have no place in an image."""
    prompt = some_prompt()
    rough = np.zeros((HEIGHT, WIDTH), bool)
    rough[10:20, 40:60] = True

    np.testing.assert_array_equal(
        prompt.overlay(IMAGE),
        overlay(IMAGE, [], boxes_xyxy=prompt.box, points_xy=prompt.points, labels=prompt.labels),
    )
    assert (Prompt(mask=rough).overlay(IMAGE)[rough] != 90).any()
    assert (Prompt(mask=np.ones((4, 4), np.float32)).overlay(IMAGE) == 90).all()


def test_an_embedding_is_drawn_as_colours_of_alike_parts() -> None:
    """Where features differ, colours do; padding of the model frame is left out."""
    features = torch.zeros(5, 8, 8)
    features[0, :, :4], features[1, :, 4:] = 1, 1
    features[:, 6:] = 99  # the padding
    embedding = some_embedding(features=features)
    picture = embedding.overlay(IMAGE, alpha=1).astype(int)

    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert np.ptp(picture[:, :30], axis=(0, 1)).max() == 0
    assert np.abs(picture[0, 0] - picture[0, -1]).max() > 200
    np.testing.assert_array_equal(embedding.overlay(IMAGE, alpha=0), IMAGE)
    with pytest.raises(InputError, match="of 80 x 60 pixels, got one of 60 x 80"):
        embedding.overlay(IMAGE.transpose(1, 0, 2))
    with pytest.raises(InputError, match=r"alpha in \[0, 1\], got 3"):
        embedding.overlay(IMAGE, alpha=3)


def test_a_machine_without_a_screen_gets_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` says where the picture is, and returns the path."""
    monkeypatch.setattr(showing, "_has_screen", lambda: False)
    masks = some_masks()
    with pytest.warns(NexusWarning, match="there is no screen: the picture is in .*png"):
        path = masks.show(IMAGE, labels=True)

    assert path is not None
    np.testing.assert_array_equal(np.asarray(Image.open(path)), masks.overlay(IMAGE, labels=True))
    path.unlink()
    with pytest.warns(NexusWarning):
        alone = some_frame().show(labels=True)
    assert alone is not None
    assert np.asarray(Image.open(alone)).shape == (HEIGHT, WIDTH, 3)
    alone.unlink()


def test_a_screen_gets_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's viewer is given the picture; where it has none, there is a file again."""
    shown: list[Image.Image] = []
    monkeypatch.setattr(showing, "_has_screen", lambda: True)
    monkeypatch.setattr(ImageShow, "show", lambda image: not shown.append(image))

    assert some_prompt().show(IMAGE) is None
    assert shown[0].size == (WIDTH, HEIGHT)
    monkeypatch.setattr(ImageShow, "show", lambda image: False)
    with pytest.warns(NexusWarning, match="no screen"):
        path = some_prompt().show(IMAGE)
    assert path is not None
    path.unlink()


def test_a_notebook_shows_the_picture_under_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's display is given a PNG; the IPython of a terminal is not."""
    shown: list[Any] = []
    shell = types.SimpleNamespace(kernel=object())
    module: Any = types.ModuleType("IPython")
    module.get_ipython = lambda: shell
    display: Any = types.ModuleType("IPython.display")
    display.Image, display.display = lambda data: data, shown.append
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(showing, "_has_screen", lambda: False)

    assert some_masks().show(IMAGE) is None
    np.testing.assert_array_equal(opened(shown[0]), some_masks().overlay(IMAGE))
    shell.kernel = None
    with pytest.warns(NexusWarning, match="no screen"):
        path = some_masks().show(IMAGE)
    assert path is not None
    path.unlink()


@pytest.mark.parametrize("make", [some_masks, some_frame])
def test_everything_comes_back_from_npz(make: Any, tmp_path: Path) -> None:
    """What is saved is equal to what is loaded."""
    result = make()
    loaded = type(result).load(result.save(tmp_path / "new" / "result.npz"))

    assert loaded == result
    assert dataclasses.asdict(loaded).keys() == dataclasses.asdict(result).keys()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result.npz"]


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_prompts_come_back(suffix: str, tmp_path: Path) -> None:
    """From JSON, which `Prompt.of` takes as well, and from .npz."""
    for prompt in (some_prompt(), Prompt(box=(1, 2, 3, 4)), Prompt(mask=np.eye(4, 6, dtype=bool))):
        path = prompt.save(tmp_path / f"prompt.{suffix}")

        assert Prompt.load(path) == prompt
        if suffix == "json":
            assert Prompt.of(json.loads(path.read_text())) == prompt


def test_logits_of_a_prompt_go_into_npz_alone(tmp_path: Path) -> None:
    """JSON refuses them and says what to do."""
    prompt = Prompt(mask=np.full((4, 4), 0.1, np.float32))

    assert Prompt.load(prompt.save(tmp_path / "a.npz")) == prompt
    with pytest.raises(InputError, match="got mask logits\nhint: a name that ends in .npz"):
        prompt.save(tmp_path / "a.json")
    with pytest.raises(PromptError, match="expected"):
        Prompt(mask={"size": [2, 2], "counts": [99]})


def test_png_is_what_a_label_map_can_hold(tmp_path: Path) -> None:
    """The best candidate as 0 and 255; of a frame the ids, the higher score on top."""
    masks, frame = some_masks(), some_frame()
    best = np.asarray(Image.open(masks.save(tmp_path / "a.PNG")))
    ids = np.asarray(Image.open(frame.save(tmp_path / "b.png")))
    many = some_frame(object_ids=(300, 1, 7)).save(tmp_path / "c.png")

    np.testing.assert_array_equal(best, masks.best * np.uint8(255))
    assert ids[10, 10] == ids[25, 25] == 2
    assert ids[40, 60] == 1
    assert np.asarray(Image.open(many)).max() == 300
    with pytest.raises(InputError, match="object ids in 1..65535 for a label map, got -2"):
        some_frame(object_ids=(1, -2, 7)).save(tmp_path / "d.png")
    assert not (tmp_path / "d.png").exists()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_json_is_a_coco_file(tmp_path: Path) -> None:
    """COCO's reader reads it; a frame has the objects on it, with their ids as tracks."""
    from pycocotools.coco import COCO

    masks, frame = some_masks(), some_frame()
    one = COCO(masks.save(tmp_path / "a.json", file_name="photo.jpg", category="cell"))
    two = COCO(frame.save(tmp_path / "frame12.json"))

    assert one.imgs[1] == {"id": 1, "file_name": "photo.jpg", "height": HEIGHT, "width": WIDTH}
    assert one.cats[1]["name"] == "cell"
    assert len(one.anns) == 1
    np.testing.assert_array_equal(one.annToMask(one.anns[1]), masks.best)
    assert two.imgs[1]["file_name"] == "frame12"
    assert [a["track_id"] for a in two.anns.values()] == [2, 1]
    for annotation in two.anns.values():
        np.testing.assert_array_equal(two.annToMask(annotation), frame.mask(annotation["track_id"]))


def test_what_cannot_be_saved_or_loaded_is_said(tmp_path: Path) -> None:
    """Another suffix, no file, a damaged one, one of something else."""
    masks = some_masks()
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    some_frame().save(tmp_path / "frame.npz")

    with pytest.raises(InputError, match=r"ends in .png, .json, .npz, got 'a.tif'\nhint: .png is"):
        masks.save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="expected a Masks saved by Nexus, got no file"):
        Masks.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match="which is no whole .npz file"):
        Masks.load(tmp_path / "bad.npz")
    with pytest.raises(InputError, match="which holds a$"):
        Masks.load(tmp_path / "other.npz")
    with pytest.raises(InputError, match="expected a Masks saved by Nexus, got .*frame.npz"):
        Masks.load(tmp_path / "frame.npz")
    with pytest.raises(InputError, match="got no file"):
        Prompt.load(tmp_path / "none.json")
    with pytest.raises(InputError, match="ends in .json, .npz, got 'a.png'"):
        some_prompt().save(tmp_path / "a.png")


def test_polygons_are_those_of_each_mask() -> None:
    """Drawn again they are the masks; an empty mask has none."""
    for result in (some_masks(), some_frame()):
        every = result.to_polygons(0)

        assert len(every) == len(result.masks)
        for rings, mask in zip(every, result.masks, strict=True):
            np.testing.assert_array_equal(polygons_to_mask(rings, HEIGHT, WIDTH), mask)
    assert some_frame().to_polygons()[2] == []


@pytest.mark.parametrize(
    "name",
    ["Mask", "Box", "Label", "Polygon", "Color", "Halo", "RoundBox", "Dot", "Ellipse"],
)
def test_annotators_of_supervision_draw_results_as_they_come(name: str) -> None:
    """Of images and of frames, by class and by tracker, also where an object is not there."""
    import supervision

    annotator = getattr(supervision, f"{name}Annotator")
    with_nothing = some_masks(masks=some_masks().masks & [[[True]], [[False]]])
    for result in (some_masks(), some_frame(), with_nothing):
        detections = result.to_supervision(class_name="cell")
        for lookup in (supervision.ColorLookup.CLASS, supervision.ColorLookup.TRACK):
            scene = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            shown = annotator(color_lookup=lookup).annotate(scene.copy(), detections)

            assert shown.shape == scene.shape
            assert (shown != scene).any()


def test_traces_of_supervision_follow_ids() -> None:
    """The line that its annotator draws from frame to frame goes by `tracker_id`."""
    import supervision

    annotator = supervision.TraceAnnotator(thickness=1)
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    shown = [
        annotator.annotate(blank.copy(), some_frame(masks=masks).to_supervision())
        for masks in (some_frame().masks, np.roll(some_frame().masks, 9, axis=2))
    ]

    assert not shown[0].any()
    assert shown[1].any()


def test_supervision_gets_classes_and_trackers() -> None:
    """Candidates count from 1; objects on a frame keep their ids, and those not on it are left."""
    masks, frame = some_masks().to_supervision(class_id=3), some_frame().to_supervision()
    named = some_frame().to_supervision(class_name="dog")
    labels = [f"#{number}" for number in frame.tracker_id]

    assert (masks.class_id.tolist(), masks.tracker_id.tolist()) == ([3, 3], [1, 2])
    assert (frame.class_id.tolist(), frame.tracker_id.tolist()) == ([0, 0], [2, 1])
    assert named["class_name"].tolist() == ["dog", "dog"]
    assert labels == ["#2", "#1"]
    np.testing.assert_array_equal(frame.mask, some_frame().masks[:2])
    np.testing.assert_array_equal(frame.xyxy, [[5, 5, 30, 30], [20, 20, 70, 50]])
    nothing = some_frame(masks=np.zeros((3, 4, 4), bool)).to_supervision()
    assert len(nothing) == 0
