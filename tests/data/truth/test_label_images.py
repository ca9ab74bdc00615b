from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cityscapesscripts.evaluation.instances2dict import instances2dict
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import labels as CITY_LABELS
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import json2labelImg
from PIL import Image

from nexus.core.errors import ImageError, InputError, NexusWarning
from nexus.data.images.masks import GREY
from nexus.data.truth import open_images
from nexus.data.truth.label_images import _CITY_COUNTED, _CITY_VOID
from nexus.data.truth.labelled import largest_truths


@pytest.fixture
def root(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out images with label maps of the same names, one pair in a folder."""
    for name in ("b.jpg", "a.one.png", "sub/c.jpeg"):
        write.picture(tmp_path / "images" / name)
        mask = (tmp_path / "masks" / name).with_suffix(".png")
        write.label_map(mask, write.labels((3, 1, 1, 5, 6), (200, 6, 2, 12, 9)), palette=True)
    return tmp_path


def test_a_folder_gives_its_label_maps(root: Path) -> None:
    """Images come by name; objects are the values of the label map, also of palette images."""
    images = pickle.loads(pickle.dumps(open_images("folder", root)))

    assert [image.name for image in images] == ["a.one.png", "b.jpg", "sub/c.jpeg"]
    for image in images:
        assert image.load_image().shape == (12, 16, 3)
        assert [t.object_id for t in image.load_truths()] == [3, 200]
        assert [t.box_xyxy for t in image.load_truths()] == [(1, 1, 5, 6), (6, 2, 12, 9)]
        assert image.ignored() is None


def test_a_split_is_a_folder_of_its_own(root: Path) -> None:
    """Images and masks may lie in a folder named by the split."""
    (root / "held").mkdir()
    for name in ("images", "masks"):
        (root / name).rename(root / "held" / name)

    assert len(open_images("folder", root, split="held")) == 3


def test_what_has_no_partner_is_left_out_and_told(root: Path, write: SimpleNamespace) -> None:
    """An image without a mask and masks without an image are counted, with a warning for each."""
    (root / "masks" / "sub" / "c.png").unlink()
    for name in ("x.png", "deep/y.png"):
        write.label_map(root / "masks" / name, write.labels((1, 1, 1, 5, 5)))

    with (
        pytest.warns(NexusWarning, match=r"1 image of '.*images' without mask, left out: sub/c"),
        pytest.warns(NexusWarning, match=r"2 masks of '.*' without image, left out: x.png, deep/y"),
    ):
        images = open_images("folder", root)

    assert [image.name for image in images] == ["a.one.png", "b.jpg"]
    assert {(image.unpaired.images, image.unpaired.masks) for image in images} == {(1, 2)}


def test_images_without_any_mask_are_refused(root: Path) -> None:
    """Then the first of them is named, with the name its mask should have."""
    for path in (root / "masks").rglob("*.png"):
        path.rename(path.with_name(f"other-{path.name}"))

    with pytest.raises(InputError, match=r"mask for '.*a.one.png' in .* got none named 'a.one'"):
        open_images("folder", root)


@pytest.mark.parametrize("ending", ["_mask", "-seg", "_Segmentation", "_gt", ""])
def test_a_mask_may_be_named_a_little_otherwise(
    tmp_path: Path, write: SimpleNamespace, ending: str
) -> None:
    """Another case, or an ending that says that it is a mask."""
    write.picture(tmp_path / "images" / "Cell_1.jpg")
    write.label_map(tmp_path / "masks" / f"CELL_1{ending}.png", write.labels((1, 1, 1, 5, 5)))
    (image,) = open_images("folder", tmp_path)

    assert len(image.load_truths()) == 1


def test_two_masks_for_an_image_are_refused(tmp_path: Path, write: SimpleNamespace) -> None:
    """Neither is chosen; and a mask is not taken for two images."""
    write.picture(tmp_path / "images" / "a.jpg")
    for name in ("a_mask.png", "a-seg.png"):
        write.label_map(tmp_path / "masks" / name, write.labels((1, 1, 1, 5, 5)))

    with pytest.raises(InputError, match=r"one mask for '.*a.jpg' .* 'a-seg.png' and 'a_mask"):
        open_images("folder", tmp_path)

    write.label_map(tmp_path / "masks" / "a.png", write.labels((1, 1, 1, 5, 5)))
    write.picture(tmp_path / "images" / "a.png")

    with pytest.raises(InputError, match=r"one image for the mask '.*a.png', got 'a.jpg' and 'a"):
        open_images("folder", tmp_path)


def test_sets_a_level_below_are_named(root: Path) -> None:
    """The folder of several sets is no set, and the error says which are there."""
    for name in ("one", "two"):
        shutil.copytree(root / "images", root / "data" / name / "images")
        shutil.copytree(root / "masks", root / "data" / name / "masks")

    with pytest.raises(InputError, match=r"(?s)below there are .*one, .*two\nhint: .*data/one'"):
        open_images("folder", root / "data")


def test_a_jpeg_mask_is_one_object_with_a_note(tmp_path: Path, write: SimpleNamespace) -> None:
    """Its grey levels are no objects."""
    write.picture(tmp_path / "images" / "a.png", (64, 64))
    drawn = write.labels((255, 10, 10, 50, 45), size_hw=(64, 64)).astype(np.uint8)
    (tmp_path / "masks").mkdir()
    Image.fromarray(drawn).save(tmp_path / "masks" / "a.jpg", quality=40)
    (truth,) = open_images("folder", tmp_path)[0].load_truths()

    assert (truth.object_id, truth.notes) == (255, (GREY,))
    np.testing.assert_array_equal(truth.mask, drawn > 0)


def test_a_mask_of_another_size_is_named(root: Path, write: SimpleNamespace) -> None:
    """A mask of another size than its image is an error when it is read."""
    write.label_map(root / "masks" / "b.png", np.ones((16, 12), int))
    image = open_images("folder", root)[1]

    with pytest.raises(InputError, match=r"12 x 16 pixels for .*b.jpg', got 16 x 12 in .*b.png'"):
        image.load_truths()


def test_a_truncated_mask_is_named(root: Path) -> None:
    """A mask cut short is an error when it is read."""
    path = root / "masks" / "b.png"
    path.write_bytes(path.read_bytes()[:60])

    with pytest.raises(ImageError, match=r"b.png"):
        open_images("folder", root)[1].load_truths()


def test_images_alone_are_not_enough(root: Path) -> None:
    """Without masks the root is refused."""
    (root / "masks").rename(root / "labels")

    with pytest.raises(InputError, match=r"folder '.*masks', got no such folder\nhint: the root"):
        open_images("folder", root)


@pytest.mark.parametrize("name", ["acdc_mri", "pennfudan_sample", "kvasir_seg", "cxr_covid"])
def test_real_sets_give_the_recorded_objects(shared_data: Path, name: str) -> None:
    """Boxes and areas of the 20 largest objects from 50 pixels on equal the recorded ones."""
    records = json.loads((shared_data / "lite_medsam_reference.json").read_text("utf-8"))
    expected = {
        (r["image"], r["id"]): (*r["box_xyxy"], r["area"]) for r in records if r["set"] == name
    }
    found = {
        (image.name, t.object_id): (*t.box_xyxy, np.count_nonzero(t.mask))
        for image in open_images("folder", shared_data / name)
        for t in largest_truths(image.load_truths(), 20, 50)
    }

    assert found == expected


@pytest.mark.parametrize(
    ("name", "images", "masks", "ending"),
    [
        ("grabcut", "data_GT", "boundary_GT", ".bmp"),
        ("berkeley", "images", "masks", ".png"),
    ],
)
def test_a_border_does_not_count(
    tmp_path: Path, write: SimpleNamespace, name: str, images: str, masks: str, ending: str
) -> None:
    """255 is the object and 128 a border that counts for nothing, in grey and in colour files."""
    values = write.labels((128, 2, 2, 10, 10), (255, 3, 3, 9, 9))
    for stem in ("banana1", "book"):
        write.picture(tmp_path / images / f"{stem}.jpg")
    write.label_map(tmp_path / masks / f"banana1{ending}", values)
    write.colours(tmp_path / masks / f"book{ending}", np.repeat(values[:, :, None], 3, 2))
    found = pickle.loads(pickle.dumps(open_images(name, tmp_path)))

    assert [image.name for image in found] == ["banana1.jpg", "book.jpg"]
    for image in found:
        (truth,) = image.load_truths()
        assert truth.object_id == 1
        np.testing.assert_array_equal(truth.mask, values == 255)
        np.testing.assert_array_equal(image.ignored(), values == 128)


def test_davis_frames_take_all_that_is_not_black(tmp_path: Path, write: SimpleNamespace) -> None:
    """Objects of any colour are one object; nothing is ignored."""
    coded = np.zeros((12, 16, 3), np.uint8)
    coded[1:4, 1:5] = (128, 0, 0)
    coded[6:9, 6:9] = (0, 128, 0)
    write.picture(tmp_path / "img" / "1.jpg")
    write.colours(tmp_path / "gt" / "1.png", coded)
    (image,) = open_images("davis_interactive", tmp_path)
    (truth,) = image.load_truths()

    np.testing.assert_array_equal(truth.mask, coded.any(2))
    assert image.ignored() is None


def test_the_real_frames_of_davis_are_read(shared_data: Path, tmp_path: Path) -> None:
    """The 30 frames, under the names they are published with, have one object each."""
    sample = shared_data / "davis345_interactive"
    (tmp_path / "img").symlink_to(sample / "images")
    (tmp_path / "gt").symlink_to(sample / "masks")
    found = open_images("davis_interactive", tmp_path)
    plain = open_images("folder", sample)

    assert [i.name for i in found] == [i.name for i in plain]
    assert len(found) == 30
    for image, other in list(zip(found, plain, strict=True))[::6]:
        (truth,), (expected,) = image.load_truths(), other.load_truths()
        np.testing.assert_array_equal(truth.mask, expected.mask)


def test_an_interactive_set_has_no_splits(tmp_path: Path) -> None:
    """A split is refused, since there is none."""
    with pytest.raises(InputError, match="expected no split, got 'val'"):
        open_images("grabcut", tmp_path, split="val")


def test_an_interactive_set_has_masks_and_images(tmp_path: Path, write: SimpleNamespace) -> None:
    """Empty folders and an image without mask are refused."""
    (tmp_path / "img").mkdir()
    (tmp_path / "gt").mkdir()
    with pytest.raises(InputError, match="expected images in '.*img', got none"):
        open_images("davis_interactive", tmp_path)
    write.picture(tmp_path / "img" / "1.jpg")

    with pytest.raises(InputError, match=r"mask for '.*1.jpg'"):
        open_images("davis_interactive", tmp_path)


CITY_HW = (20, 24)
POLYGONS = [
    ("road", [[0, 10], [23, 10], [23, 19], [0, 19]]),
    ("out of roi", [[0, 0], [23, 0], [23, 1], [0, 1]]),
    ("car", [[1, 3], [6, 3], [6, 8], [1, 8]]),
    ("car", [[8, 3], [12, 3], [12, 9], [8, 9]]),
    ("persongroup", [[14, 4], [20, 4], [20, 12], [14, 12]]),
    ("caravan", [[2, 12], [7, 12], [7, 16], [2, 16]]),
    ("rider", [[10, 12], [12, 12], [12, 18], [10, 18]]),
]


@pytest.fixture
def city(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out Cityscapes: the authors' own scripts draw label and instance images of polygons."""
    stem = "aachen_000000_000019"
    truth = tmp_path / "gtFine" / "val" / "aachen" / f"{stem}_gtFine"
    polygons = {
        "imgHeight": CITY_HW[0],
        "imgWidth": CITY_HW[1],
        "objects": [{"label": name, "polygon": points} for name, points in POLYGONS],
    }
    source = str(write.document(truth.with_name(f"{truth.name}_polygons.json"), polygons))
    json2labelImg(source, f"{truth}_labelIds.png")
    annotation = Annotation()
    annotation.fromJsonFile(source)
    # Their script saves in a mode that newer versions of Pillow no longer write.
    numbers = np.array(createInstanceImage(annotation, "ids"))
    write.label_map(truth.with_name(f"{truth.name}_instanceIds.png"), numbers)
    write.picture(tmp_path / "leftImg8bit" / "val" / "aachen" / f"{stem}_leftImg8bit.png", CITY_HW)
    return tmp_path


def test_cityscapes_instances_are_the_authors(city: Path) -> None:
    """Ids, classes and areas are what instances2dict finds; groups and caravans are ignored."""
    (image,) = pickle.loads(pickle.dumps(open_images("cityscapes", city)))
    (path,) = city.rglob("*_instanceIds.png")
    (found,) = instances2dict([str(path)]).values()
    with_instances = {label.name for label in CITY_LABELS if label.hasInstances}
    expected = {
        each["instID"]: (name, each["pixelCount"], each["instID"] < 1000)
        for name, instances in found.items()
        for each in instances
        if name in with_instances
    }
    truths = image.load_truths()

    assert {t.object_id: (t.category, t.mask.sum(), t.object_id < 1000) for t in truths} == expected
    assert {t.object_id for t in truths} == {24, 25000, 26000, 26001, 29000}
    assert {t.object_id for t in truths if t.ignore} == {24, 29000}
    assert [t.box_xyxy for t in truths if t.object_id == 26000] == [(1, 3, 7, 9)]
    assert image.name == "aachen/aachen_000000_000019_leftImg8bit.png"
    assert image.group == "aachen"
    assert image.load_image().shape == (*CITY_HW, 3)


def test_cityscapes_void_is_what_evaluation_ignores(city: Path) -> None:
    """Pixels that count for nothing are those of labels with ignoreInEval."""
    from nexus.data.images.loading import read_mask

    (image,) = open_images("cityscapes", city)
    (path,) = city.rglob("*_labelIds.png")
    void = [label.id for label in CITY_LABELS if label.ignoreInEval]
    ignored = image.ignored()

    assert ignored is not None
    np.testing.assert_array_equal(ignored, np.isin(read_mask(path), void))
    assert 0 < ignored.sum() < ignored.size


def test_the_table_of_cityscapes_is_the_authors() -> None:
    """Numbers and names of the classes equal cityscapesscripts' table."""
    assert {x.id: x.name for x in CITY_LABELS if x.hasInstances and x.id >= 0} == _CITY_COUNTED
    assert {x.id % 256 for x in CITY_LABELS if x.ignoreInEval} == set(_CITY_VOID)


def test_a_city_image_needs_both_masks(city: Path) -> None:
    """A missing instance or label image is named with the image."""
    (path,) = city.rglob("*_labelIds.png")
    path.unlink()

    with pytest.raises(InputError, match=r"mask for '.*leftImg8bit.png' in .*labelIds'"):
        open_images("cityscapes", city)


def test_scene_parsing_gives_a_mask_a_class(tmp_path: Path, write: SimpleNamespace) -> None:
    """Classes have the names of objectInfo150.txt; pixels of other objects count for nothing."""
    values = write.labels((1, 0, 0, 8, 12), (13, 9, 2, 15, 9))
    write.picture(tmp_path / "images" / "validation" / "ADE_val_00000001.jpg")
    write.label_map(tmp_path / "annotations" / "validation" / "ADE_val_00000001.png", values)
    table = "Idx\tRatio\tTrain\tVal\tName\n1\t0.1576\t11664\t1172\twall\n"
    table += "13\t0.0160\t4842\t492\tperson, individual\n"
    (tmp_path / "objectInfo150.txt").write_text(table, "utf-8")
    (image,) = pickle.loads(pickle.dumps(open_images("ade20k", tmp_path)))
    truths = image.load_truths()

    assert image.name == "validation/ADE_val_00000001.jpg"
    assert [(t.object_id, t.category) for t in truths] == [(1, "wall"), (13, "person, individual")]
    np.testing.assert_array_equal(truths[1].mask, values == 13)
    np.testing.assert_array_equal(image.ignored(), values == 0)


def test_a_damaged_table_of_classes_is_named(tmp_path: Path, write: SimpleNamespace) -> None:
    """A table without tabs is refused."""
    write.picture(tmp_path / "images" / "training" / "ADE_train_00000001.jpg")
    write.label_map(
        tmp_path / "annotations" / "training" / "ADE_train_00000001.png", write.labels()
    )
    (tmp_path / "objectInfo150.txt").write_text("Idx\n1 wall\n", "utf-8")

    with pytest.raises(InputError, match=r"divided by tabs, got '.*objectInfo150.txt'"):
        open_images("ade20k", tmp_path, split="training")


def test_a_scene_without_mask_is_named(tmp_path: Path, write: SimpleNamespace) -> None:
    """Each image of scene parsing needs its annotation."""
    write.picture(tmp_path / "images" / "validation" / "ADE_val_00000001.jpg")
    (tmp_path / "annotations" / "validation").mkdir(parents=True)

    with pytest.raises(InputError, match="mask for .*ADE_val_00000001.jpg' .* got none named"):
        open_images("ade20k", tmp_path)


@pytest.fixture
def ade(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out ADE20K whole: classes in red and green, instances in blue, names in JSON."""
    street = tmp_path / "images" / "ADE" / "validation" / "urban" / "street"
    write.picture(street / "ADE_val_00000001.jpg")
    coded = np.zeros((12, 16, 3), np.uint8)
    # car, auto: class 401 = 1 * 256 + 145; tree: class 2855 = 11 * 256 + 39.
    coded[0:4, 0:5] = (10, 145, 1)
    coded[5:9, 0:5] = (10, 145, 2)
    coded[2:10, 8:15] = (110, 39, 3)
    write.colours(street / "ADE_val_00000001_seg.png", coded)
    write.colours(street / "ADE_val_00000001_parts_1.png", coded)
    objects = [
        {"id": 0, "name": "car, auto", "name_ndx": 401, "parts": {"part_level": 0}},
        {"id": 1, "name": "car, auto", "name_ndx": 401, "parts": {"part_level": 0}},
        {"id": 2, "name": "tree", "name_ndx": 2855, "parts": {"part_level": 0}},
    ]
    write.document(street / "ADE_val_00000001.json", {"annotation": {"object": objects}})
    return tmp_path


def test_ade20k_gives_its_instances(ade: Path) -> None:
    """An object is a class and an instance number; its class has the name that the JSON gives."""
    (image,) = pickle.loads(pickle.dumps(open_images("ade20k", ade)))
    truths = image.load_truths()

    assert image.name == "validation/urban/street/ADE_val_00000001.jpg"
    assert [t.object_id for t in truths] == [401 * 256 + 1, 401 * 256 + 2, 2855 * 256 + 3]
    assert [t.category for t in truths] == ["car, auto", "car, auto", "tree"]
    assert [t.box_xyxy for t in truths] == [(0, 0, 5, 4), (0, 5, 5, 9), (8, 2, 15, 10)]
    assert image.ignored() is None


def test_ade20k_without_json_has_no_names(ade: Path) -> None:
    """The older release, without JSON, gives the same objects without class names."""
    (path,) = ade.rglob("*.json")
    path.unlink()

    assert [t.category for t in open_images("ade20k", ade)[0].load_truths()] == [None] * 3


def test_ade20k_reads_a_lone_object(ade: Path) -> None:
    """A JSON file whose one object stands without a list is read."""
    (path,) = ade.rglob("*.json")
    lone = {"annotation": {"object": {"id": 0, "name": "tree", "name_ndx": 2855}}}
    path.write_text(json.dumps(lone), "utf-8")

    assert [t.category for t in open_images("ade20k", ade)[0].load_truths()][2] == "tree"


def test_an_ade20k_image_without_mask_is_named(ade: Path) -> None:
    """Each image needs its segmentation."""
    (path,) = ade.rglob("*_seg.png")
    path.unlink()

    with pytest.raises(InputError, match="mask for .*ADE_val_00000001.jpg'"):
        open_images("ade20k", ade)


def test_a_mask_of_another_size_is_refused(ade: Path, write: SimpleNamespace) -> None:
    """A segmentation of another size than its image is named when it is read."""
    (path,) = ade.rglob("*_seg.png")
    write.picture(path, (8, 8))

    with pytest.raises(InputError, match="12 x 16 pixels for .*, got 8 x 8 in .*_seg.png"):
        open_images("ade20k", ade)[0].load_truths()
