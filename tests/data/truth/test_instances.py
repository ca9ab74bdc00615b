from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lvis import LVIS
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from nexus.core.errors import ImageNotFoundError, InputError, MissingDependencyError
from nexus.data.truth import open_images
from nexus.data.truth.instances import polygons_mask
from nexus.ops.rle import encode_rle

SIZE_HW = (12, 16)
PARTS = [[1.5, 1.2, 6.7, 1.9, 5.1, 7.3], [9, 4, 15.5, 4, 15.5, 11.8, 9, 11.8]]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def annotation(number: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    base = {"id": number, "image_id": 7, "category_id": 2, "bbox": [1.5, 1.2, 14, 10.6]}
    return {**base, "segmentation": segmentation, "area": 1.0, "iscrowd": 0, **more}


def instances(**more: Any) -> dict[str, Any]:
    mask = np.zeros(SIZE_HW, bool)
    mask[3:9, 2:5] = True
    columns = np.flatnonzero(np.diff(mask.T.ravel().astype(int), prepend=0, append=0))
    plain = np.diff([0, *columns.tolist(), mask.size]).tolist()
    return {
        "images": [
            {"id": 7, "file_name": "7.jpg", "height": 12, "width": 16},
            {"id": 3, "file_name": "3.jpg", "height": 12, "width": 16},
        ],
        "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            annotation(30, {"size": [12, 16], "counts": plain}, iscrowd=1),
            annotation(10, PARTS),
            annotation(20, encode_rle(mask), category_id=5),
        ],
        **more,
    }


@pytest.fixture
def root(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out COCO as published: one split with polygons, both kinds of RLE, and a crowd."""
    write.document(tmp_path / "annotations" / "instances_val2017.json", instances())
    write.picture(tmp_path / "val2017" / "7.jpg")
    write.picture(tmp_path / "val2017" / "3.jpg")
    return tmp_path


def test_coco_is_what_pycocotools_reads(root: Path) -> None:
    """Masks are byte-equal to annToMask; ids, classes, boxes and crowds are as annotated."""
    coco = COCO(str(root / "annotations" / "instances_val2017.json"))
    images = pickle.loads(pickle.dumps(open_images("coco", root)))
    truths = images[0].load_truths()

    assert [image.name for image in images] == ["7.jpg", "3.jpg"]
    assert [t.object_id for t in truths] == [10, 20, 30]
    assert [t.category for t in truths] == ["cat", "dog", "cat"]
    assert [t.ignore for t in truths] == [False, False, True]
    assert truths[0].box_xyxy == (1.5, 1.2, 15.5, pytest.approx(11.8))
    for truth in truths:
        expected = coco.annToMask(coco.anns[truth.object_id])
        assert truth.mask.astype(np.uint8).tobytes() == expected.tobytes()
    assert images[1].load_truths() == []
    assert images[0].load_image().shape == (12, 16, 3)
    assert images[0].ignored() is None


def test_the_real_sample_is_what_pycocotools_reads(shared_data: Path) -> None:
    """All 36 objects equal annToMask, byte for byte; one of the six images has none and no file."""
    sample = shared_data / "coco_sample"
    coco = COCO(str(sample / "annotations.json"))
    images = open_images("coco", sample)
    truths = [truth for image in images for truth in image.load_truths()]

    assert [i.name for i in images if not i.load_truths()] == ["000000000089.jpg"]
    assert len(images) == 6
    assert {t.object_id for t in truths} == set(coco.anns)
    assert [t.object_id for t in truths if t.ignore] == [
        i for i, a in coco.anns.items() if a["iscrowd"]
    ]
    for truth in truths:
        given = coco.anns[truth.object_id]
        x, y, width, height = given["bbox"]
        assert truth.mask.astype(np.uint8).tobytes() == coco.annToMask(given).tobytes()
        assert truth.box_xyxy == (x, y, x + width, y + height)
        assert truth.category == coco.cats[given["category_id"]]["name"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-3, 20, width=32), min_size=6, max_size=14).map(
            lambda numbers: numbers[: len(numbers) // 2 * 2]
        ),
        min_size=1,
        max_size=3,
    )
)
def test_polygons_are_drawn_as_pycocotools_draws_them(polygons: list[list[float]]) -> None:
    """Any polygons, also ones that cross themselves or leave the image, equal annToMask."""
    coco = COCO()
    coco.imgs = {7: {"height": 12, "width": 16}}
    expected = coco.annToMask({"image_id": 7, "segmentation": polygons})

    np.testing.assert_array_equal(polygons_mask(polygons, SIZE_HW), expected.astype(bool))


def test_an_object_without_a_pixel_is_ignored(root: Path, write: SimpleNamespace) -> None:
    """Polygons that cover nothing, or have two corners, give an empty mask that does not count."""
    tiny = annotation(1, [[1, 1, 1.1, 1, 1.1, 1.1]])
    line = annotation(2, [[0, 0, 9, 9]])
    path = root / "annotations" / "instances_val2017.json"
    write.document(path, instances(annotations=[tiny, line]))
    truths = open_images("coco", root)[0].load_truths()

    assert [(t.mask.any(), t.ignore) for t in truths] == [(False, True)] * 2


def test_a_missing_box_is_made_tight(root: Path, write: SimpleNamespace) -> None:
    """Without bbox the box is tight around the mask, right and bottom exclusive."""
    square = annotation(1, [[2, 3, 6, 3, 6, 8, 2, 8]])
    del square["bbox"]
    path = root / "annotations" / "instances_val2017.json"
    write.document(path, instances(annotations=[square]))

    assert open_images("coco", root)[0].load_truths()[0].box_xyxy == (2, 3, 6, 8)


def test_several_splits_are_not_guessed_between(root: Path, write: SimpleNamespace) -> None:
    """With two instance files a split must be given; a split that is not there names its file."""
    write.document(root / "annotations" / "instances_train2017.json", instances())

    assert len(open_images("coco", root, split="val2017")) == 2
    with pytest.raises(InputError, match="one split in .*, got train2017, val2017"):
        open_images("coco", root)
    with pytest.raises(InputError, match=r"instances_test.json', got no such file"):
        open_images("coco", root, split="test")


def test_a_single_file_beside_images_is_read(tmp_path: Path, write: SimpleNamespace) -> None:
    """instances.json beside images, as this library writes it, needs no split."""
    write.document(tmp_path / "instances.json", instances())
    write.picture(tmp_path / "images" / "7.jpg")

    assert open_images("coco", tmp_path)[0].load_image().shape == (12, 16, 3)


def test_a_missing_image_is_named(root: Path) -> None:
    """An image that the file names and that is not there is an error when it is read."""
    (root / "val2017" / "7.jpg").unlink()
    image = open_images("coco", root)[0]

    with pytest.raises(ImageNotFoundError, match=r"7.jpg', which does not exist"):
        image.load_truths()
    with pytest.raises(ImageNotFoundError, match=r"7.jpg', which does not exist"):
        image.load_image()


def test_masks_of_another_size_are_refused(root: Path, write: SimpleNamespace) -> None:
    """RLE of another size than the image entry, and an entry of another size than the file."""
    path = root / "annotations" / "instances_val2017.json"
    other = annotation(4, {"size": [16, 12], "counts": [192]})
    write.document(path, instances(annotations=[other]))

    with pytest.raises(InputError, match=r"mask of \(12, 16\), got \(16, 12\) \(annotation 4 of"):
        open_images("coco", root)[0].load_truths()
    write.picture(root / "val2017" / "7.jpg", (16, 12))
    with pytest.raises(InputError, match="16 x 12 pixels for .*, got 12 x 16 in"):
        open_images("coco", root)[0].load_truths()


@pytest.mark.parametrize("polygon", [[1, 2, 3], ["a", 2, 3, 4, 5, 6], 7])
def test_what_is_no_polygon_is_named(root: Path, write: SimpleNamespace, polygon: Any) -> None:
    """Odd counts of numbers, text and numbers alone are refused, naming the annotation."""
    path = root / "annotations" / "instances_val2017.json"
    write.document(path, instances(annotations=[annotation(4, [polygon])]))

    with pytest.raises(InputError, match=r"polygons as flat lists .*annotation 4 of .*val2017"):
        open_images("coco", root)[0].load_truths()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 3}, "'images' as list, got 3"),
        ({"categories": [{"id": 2}]}, "'name' as str, got none"),
        ({"annotations": [{"id": 1}]}, "'image_id' as int, got none"),
        ({"annotations": [annotation(1, None)]}, "'segmentation' as list or dict, got None"),
        ({"annotations": [annotation(9, [], category_id=4)]}, "got 4 in annotation 9"),
        ({"annotations": [annotation(1, [], image_id=8)]}, "image_id of an image .* got 8"),
        ({"images": [7]}, "objects in .*, got 7"),
    ],
)
def test_a_file_of_another_format_is_refused(
    root: Path, write: SimpleNamespace, change: dict[str, Any], message: str
) -> None:
    """What is missing or does not fit together is named."""
    write.document(root / "annotations" / "instances_val2017.json", instances(**change))

    with pytest.raises(InputError, match=message):
        open_images("coco", root)


def test_a_file_name_does_not_lead_out(root: Path, write: SimpleNamespace) -> None:
    """An image outside the root is refused."""
    image = {"id": 7, "file_name": "../7.jpg", "height": 12, "width": 16}
    path = write.document(root / "annotations" / "instances_val2017.json", instances())
    write.document(path, instances(images=[image]))

    with pytest.raises(InputError, match="to name files below .*, got '../7.jpg'"):
        open_images("coco", root)


def test_a_truncated_file_is_named(root: Path) -> None:
    """A file cut short is an error that names it."""
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text("utf-8")[:-30], "utf-8")

    with pytest.raises(InputError, match=r"whole JSON document, got '.*instances_val2017.json'"):
        open_images("coco", root)


def test_pycocotools_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pycocotools the error names it and the extra."""
    monkeypatch.setitem(sys.modules, "pycocotools", None)

    with pytest.raises(MissingDependencyError, match=r"'pycocotools'.*\nhint: .*\[eval\]"):
        polygons_mask(PARTS, SIZE_HW)


@pytest.fixture
def lvis_root(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out LVIS as published: polygons, images in the folder that coco_url names."""
    url = "http://images.cocodataset.org/train2017/000000000007.jpg"
    image = {
        **{"id": 7, "coco_url": url, "height": 12, "width": 16, "license": 1},
        "neg_category_ids": [5],
        "not_exhaustive_category_ids": [2],
    }
    annotations = [annotation(2, [PARTS[1]]), annotation(1, PARTS)]
    for each in annotations:
        del each["iscrowd"]
    classes = [{"id": 2, "name": "cat_(animal)"}, {"id": 5, "name": "dog"}]
    whole = {"images": [image], "annotations": annotations, "categories": classes}
    write.document(tmp_path / "lvis_v1_val.json", whole)
    write.picture(tmp_path / "train2017" / "000000000007.jpg")
    return tmp_path


def test_lvis_is_what_its_package_reads(lvis_root: Path) -> None:
    """Masks equal ann_to_mask; classes, boxes, absent and not exhaustive classes are LVIS's."""
    lvis = LVIS(str(lvis_root / "lvis_v1_val.json"))
    (image,) = pickle.loads(pickle.dumps(open_images("lvis", lvis_root)))
    truths = image.load_truths()
    entry = lvis.imgs[7]

    assert [t.object_id for t in truths] == sorted(lvis.get_ann_ids(img_ids=[7]))
    for truth in truths:
        given = lvis.anns[truth.object_id]
        np.testing.assert_array_equal(truth.mask, lvis.ann_to_mask(given).astype(bool))
        x, y, width, height = given["bbox"]
        assert truth.box_xyxy == (x, y, x + width, y + height)
        assert truth.category == lvis.cats[given["category_id"]]["name"]
        assert not truth.ignore
    assert image.name == "train2017/000000000007.jpg"
    assert image.load_image().shape == (12, 16, 3)
    assert image.absent == tuple(c["name"] for c in lvis.load_cats(entry["neg_category_ids"]))
    assert image.not_exhaustive == ("cat_(animal)",)


def test_lvis_of_the_first_version_names_files(lvis_root: Path) -> None:
    """Version 0.5 has file_name for coco_url; the images of val are in val2017."""
    (old,) = lvis_root.glob("*.json")
    document = json.loads(old.read_text("utf-8"))
    del document["images"][0]["coco_url"]
    document["images"][0]["file_name"] = "000000000007.jpg"
    old.unlink()
    (lvis_root / "annotations").mkdir()
    text = json.dumps(document)
    (lvis_root / "annotations" / "lvis_v0.5_val.json").write_text(text, "utf-8")
    (lvis_root / "train2017").rename(lvis_root / "val2017")
    (image,) = open_images("lvis", lvis_root, split="val")

    assert image.name == "000000000007.jpg"
    assert len(image.load_truths()) == 2


def test_a_missing_split_of_lvis_is_named(lvis_root: Path) -> None:
    """The file that a split would be in is named."""
    with pytest.raises(InputError, match=r"lvis_v1_train.json', got no such file\nhint: LVIS has"):
        open_images("lvis", lvis_root, split="train")


@pytest.fixture
def sa1b_root(tmp_path: Path, write: SimpleNamespace) -> Path:
    """Lay out SA-1B: a picture and its JSON with the documented keys."""
    masks = [write.labels((1, 2, 3, 9, 8)) > 0, write.labels((1, 0, 0, 4, 12)) > 0]
    annotations = [
        {
            **{"id": 500 - number, "segmentation": encode_rle(mask), "bbox": [2, 3, 6, 4]},
            **{"area": int(mask.sum()), "predicted_iou": 0.9, "stability_score": 0.97},
            **{"crop_box": [0, 0, 16, 12], "point_coords": [[3.5, 4.5]]},
        }
        for number, mask in enumerate(masks)
    ]
    image = {"image_id": 1, "width": 16, "height": 12, "file_name": "sa_1.jpg"}
    write.picture(tmp_path / "sa_000000" / "sa_1.jpg")
    write.document(
        tmp_path / "sa_000000" / "sa_1.json", {"image": image, "annotations": annotations}
    )
    return tmp_path


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_what_pycocotools_decodes(sa1b_root: Path) -> None:
    """Each annotation is an object with its id; boxes end after the last pixel."""
    (image,) = pickle.loads(pickle.dumps(open_images("sa1b", sa1b_root)))
    truths = image.load_truths()
    (path,) = sa1b_root.rglob("*.json")
    given = {each["id"]: each for each in json.loads(path.read_text("utf-8"))["annotations"]}

    assert image.name == "sa_000000/sa_1.jpg"
    assert image.load_image().shape == (12, 16, 3)
    assert [t.object_id for t in truths] == [499, 500]
    assert truths[1].box_xyxy == (2, 3, 9, 8)
    for truth in truths:
        expected = coco_mask.decode(given[truth.object_id]["segmentation"])
        np.testing.assert_array_equal(truth.mask, expected.astype(bool))


def test_one_folder_is_read_alone(sa1b_root: Path) -> None:
    """A split is one of the folders; names stay relative to the root."""
    assert [i.name for i in open_images("sa1b", sa1b_root, split="sa_000000")] == [
        "sa_000000/sa_1.jpg"
    ]


def test_a_json_file_without_image_is_named(sa1b_root: Path) -> None:
    """Masks need their image beside them."""
    (sa1b_root / "sa_000000" / "sa_1.jpg").unlink()

    with pytest.raises(InputError, match=r"image beside '.*sa_1.json', got none named 'sa_1'"):
        open_images("sa1b", sa1b_root)


def test_masks_of_another_image_are_refused(sa1b_root: Path, write: SimpleNamespace) -> None:
    """RLE of another size than the image is an error when it is read."""
    write.picture(sa1b_root / "sa_000000" / "sa_1.jpg", (16, 12))

    with pytest.raises(InputError, match="16 x 12 pixels for .*, got 12 x 16 in .*sa_1.json"):
        open_images("sa1b", sa1b_root)[0].load_truths()


def test_a_truncated_sa1b_file_is_named(sa1b_root: Path) -> None:
    """A JSON file cut short is an error when its masks are read."""
    path = sa1b_root / "sa_000000" / "sa_1.json"
    path.write_text(path.read_text("utf-8")[:-20], "utf-8")

    with pytest.raises(InputError, match=r"whole JSON document, got '.*sa_1.json'"):
        open_images("sa1b", sa1b_root)[0].load_truths()
