from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexus.core.errors import InputError, NexusWarning, PromptError
from nexus.data.prompt_files import ImagePrompts, read_image_prompts

IMAGES = [{"id": 7, "file_name": "a.png", "width": 32, "height": 24}]
BOX = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 3, 8, 9]}
CATEGORIES = [{"id": 3, "name": "polyp"}]


def table(folder: Path, text: str, name: str = "prompts.csv") -> ImagePrompts:
    path = folder / name
    path.write_bytes(text.encode())
    return read_image_prompts(path)


def coco(folder: Path, **changed: Any) -> ImagePrompts:
    document = {"images": IMAGES, "annotations": [BOX], "categories": CATEGORIES, **changed}
    path = folder / "instances.json"
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))
    return read_image_prompts(path)


def told(prompts: ImagePrompts) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that a file says as plain values."""
    return {
        name: [
            (
                each.number,
                each.category,
                *(
                    None if part is None else part.tolist()
                    for part in (each.prompt.box, each.prompt.points, each.prompt.labels)
                ),
            )
            for each in image.objects
        ]
        for name, image in prompts.images.items()
    }


def test_rows_of_boxes_are_objects_of_their_images(tmp_path: Path) -> None:
    """Each row is an object, numbered from 1 on its image, with its category if it has one."""
    found = table(
        tmp_path,
        "image,x0,y0,x1,y1,category\na.png,1,2,3,4,cat\n\nb.png,5,6,7.5,8,\na.png,0,0,9,9,dog\n",
    )

    assert told(found) == {
        "a.png": [(1, "cat", [1, 2, 3, 4], None, None), (2, "dog", [0, 0, 9, 9], None, None)],
        "b.png": [(1, "object", [5, 6, 7.5, 8], None, None)],
    }
    assert found.categories == ("cat", "dog", "object")
    assert found.images["a.png"].boxes_xyxy.tolist() == [[1, 2, 3, 4], [0, 0, 9, 9]]


def test_rows_of_one_number_are_one_object(tmp_path: Path) -> None:
    """Points go together and with a box; the number is the caller's, and rows without fill up."""
    found = table(
        tmp_path,
        "image,object,x0,y0,x1,y1,x,y,label\n"
        "a.png,2,1,1,9,9,,,\na.png,2,,,,,5,5,\na.png,2,,,,,6,6,0\na.png,,2,2,4,4,,,\n"
        "a.png,,3,3,4,4,,,\n",
    )

    assert told(found)["a.png"] == [
        (2, "object", [1, 1, 9, 9], [[5, 5], [6, 6]], [1, 0]),
        (1, "object", [2, 2, 4, 4], None, None),
        (3, "object", [3, 3, 4, 4], None, None),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_other_tools_are_read(delimiter: str, tmp_path: Path) -> None:
    """Their names of columns, a byte order mark, CRLF, and other signs between cells do as well."""
    lines = "\ufefffilename,width,height,class,xmin,ymin,xmax,ymax\r\na.png,32,24,cat,1,2,3,4\r\n"
    found = table(tmp_path, lines.replace(",", delimiter))

    assert told(found) == {"a.png": [(1, "cat", [1, 2, 3, 4], None, None)]}
    assert found.images["a.png"].size_hw == (24, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table with the columns image and x0"),
        ("image,x0,y0,x1,y1\n", "expected at least one prompt, got none"),
        ("picture,x0,y0,x1,y1\na.png,1,2,3,4", "got picture, x0, y0, x1, y1\nhint: the first line"),
        ("image,x0,y0,x1\na.png,1,2,3", "expected a table with the columns"),
        ("image,x0,y0,x1,y1,lable\na.png,1,2,3,4,1", "got image, x0, y0, x1, y1, lable"),
        ("image,x,x,y\na.png,1,2,3", "expected a table with the columns"),
        ("image,x0,y0,x1,y1\na.png,1,2,3,c", "line 2: expected a number under y1, got 'c'"),
        ("image,x0,y0,x1,y1\na.png,1,2,3", "line 2: expected a number under y1, got an empty"),
        ("image,x0,y0,x1,y1\na.png,1,2,3,4\na.png,9,2,3,4", "line 3: expected a box with x0 < x1"),
        ("image,x0,y0,x1,y1\na.png,1,2,3,nan", "line 2: expected finite numbers"),
        ("image,x0,y0,x1,y1\na, b.png,1,2,3,4", "line 2: expected 5 cells, got 5 and ['4']"),
        ("image,x0,y0,x1,y1\n,1,2,3,4", "line 2: expected the name of an image"),
        ("image,x,y,label\na.png,1,2,cat", "line 2: expected a number under label, got 'cat'"),
        ("image,x,y,label\na.png,1,2,7", "line 2: expected labels 1 (foreground) or 0"),
        ("image,x,y\na.png,1,2\na.png,3,4", "'a.png': expected a number under object for each"),
        ("image,x,y,object\na.png,1,2,zero", "expected a whole number, 1 or more, under object"),
        ("image,x,y,object\na.png,1,2,0", "expected a whole number, 1 or more, under object"),
        ("image,x,y\na.png,,", "line 2: expected a prompt with points"),
        ("image,object,x0,y0,x1,y1\na.png,1,1,2,3,4\na.png,1,1,2,3,4", "one box for object 1"),
        ("image,x,y,width,height\na.png,1,2,9,9\nb.png,1,2,9,x", "under height, got 'x'"),
        ('image,x,y\n"a.png,1,2', "expected a CSV or COCO file of prompts"),
        ("{", "expected a CSV or COCO file of prompts"),
        ("[" * 100000, "expected a CSV or COCO file of prompts"),
    ],
)
def test_a_wrong_table_says_where(text: str, message: str, tmp_path: Path) -> None:
    """The file is named, the line or image, and what was expected there."""
    with pytest.raises(InputError) as caught:
        table(tmp_path, text)

    assert message in str(caught.value)
    assert "prompts.csv" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_missing_or_binary_file_is_an_input_error(tmp_path: Path) -> None:
    """No file, a folder and bytes that are no text are told alike."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\xff")
    for path in (tmp_path / "none.csv", tmp_path, picture):
        with pytest.raises(InputError, match="expected a (CSV or COCO )?file of prompts"):
            read_image_prompts(path)


def test_boxes_of_a_coco_file_are_prompts(tmp_path: Path) -> None:
    """A bbox becomes corners, crowds are no objects, and images without boxes stay known."""
    more = [*IMAGES, {"id": "b", "file_name": "in/b.png"}]
    crowd = {**BOX, "id": 2, "iscrowd": 1}
    found = coco(tmp_path, images=more, annotations=[BOX, crowd])

    assert told(found) == {"a.png": [(1, "polyp", [2, 3, 10, 12], None, None)], "in/b.png": []}
    assert found.images["a.png"].size_hw == (24, 32)
    assert found.images["in/b.png"].size_hw is None
    assert told(coco(tmp_path, categories=None))["a.png"][0][1] == "object"


def test_boxes_without_area_are_passed_over_with_a_warning(tmp_path: Path) -> None:
    """One such annotation among many does not spoil a file, and is named."""
    flat = {**BOX, "id": 2, "bbox": [1, 1, 0, 5]}
    with pytest.warns(NexusWarning, match="boxes without area are passed over: annotation 2"):
        found = coco(tmp_path, annotations=[flat, BOX])

    assert len(found.images["a.png"].objects) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": None}, "expected a COCO file with a list of images, got the keys annotations"),
        ({"annotations": {}}, "expected a COCO file with a list of annotations, got {}"),
        ({"images": [{"file_name": "a.png"}]}, "expected an image with id, got {'file_name'"),
        ({"images": [{"id": 7}]}, "expected image 7 with file_name"),
        ({"images": [*IMAGES, *IMAGES]}, "expected images with an id each, got two with 7"),
        ({"images": [*IMAGES, {**IMAGES[0], "id": 8}]}, "file_name each of its own, got 'a.png'"),
        ({"annotations": [{**BOX, "image_id": 9}]}, "annotation 1 to be of an image there is"),
        ({"annotations": [{"id": 4, "bbox": [0, 0, 1, 1]}]}, "expected annotation 4 with image_id"),
        ({"annotations": [{"image_id": [7]}]}, "expected annotation 'at place 1' with image_id"),
        ({"annotations": [{**BOX, "bbox": None}]}, "expected annotation 1 with bbox"),
        ({"annotations": [{**BOX, "bbox": [1, 2, 3]}]}, "with a bbox of x, y, width, height"),
        ({"annotations": [{**BOX, "bbox": [1, 2, -3, 4]}]}, "the last two are not negative"),
        ({"annotations": [{**BOX, "bbox": [1, 2, 10**400, 4]}]}, "with a bbox of x, y"),
        ({"annotations": [{**BOX, "bbox": [1, 2, float("nan"), 4]}]}, "with a bbox of x, y"),
        ({"annotations": [{**BOX, "category_id": 5}]}, "to have a category there is, got 5"),
        ({"annotations": [{**BOX, "category_id": []}]}, "to have a category there is, got []"),
        ({"annotations": []}, "expected at least one prompt, got none"),
    ],
)
def test_a_wrong_coco_file_says_where(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Missing ids, unknown ids and boxes that are none are named."""
    with pytest.raises(InputError) as caught:
        coco(tmp_path, **changed)

    assert message in str(caught.value)
    assert "instances.json" in str(caught.value)


def test_a_list_of_results_is_no_coco_file(tmp_path: Path) -> None:
    """It names no images, which the hint says."""
    with pytest.raises(InputError, match="a list of results names no images"):
        table(tmp_path, json.dumps([BOX]))


def test_names_fit_images_by_the_end_of_their_paths(tmp_path: Path) -> None:
    """A file name, a path of it, one of Windows, one without ending, and an address."""
    names = ["a.png", "x/b.png", r"x\c.png", "d", "../e.png", "http://h/f.png", "h/g.png", "n.png"]
    rows = "".join(f"{name},1,1,2,2\n" for name in names)
    prompts = table(tmp_path, "image,x0,y0,x1,y1\n" + rows)
    images = [tmp_path / "x" / name for name in ("a.png", "b.png", "c.png", "d.tif", "e.png")]
    found, unused = prompts.for_images(
        [*images, "http://h/f.png", "https://h/g.png?size=2", tmp_path / "other.png"]
    )

    assert [image and image.name for image in found] == [*names[:7], None]
    assert unused == ["n.png"]


def test_no_name_is_guessed(tmp_path: Path) -> None:
    """Other folders, other endings and half a name do not fit."""
    prompts = table(tmp_path, "image,x,y\ny/a.png,1,1\na.jpg,1,1\ng.png,1,1\npng,1,1\n")
    with pytest.raises(InputError) as caught:
        prompts.for_images(["x/a.png", "img.png"])

    assert "to name one of the images, such as 'x/a.png', got 'y/a.png', 'a.jpg', 'g.png' ..." in (
        str(caught.value)
    )


def test_a_name_of_two_images_and_two_names_of_one_are_refused(tmp_path: Path) -> None:
    """Both are named, and the hint says how to tell them apart."""
    prompts = table(tmp_path, "image,x,y\na.png,1,1\n")
    with pytest.raises(InputError, match=r"to be one image, got 'x/a.png' and 'y/a.png'\nhint: "):
        prompts.for_images(["x/a.png", "y/a.png"])
    prompts = table(tmp_path, "image,x,y\na.png,1,1\nx/a.png,1,1\n")
    with pytest.raises(InputError, match="expected one name for 'x/a.png'.*'a.png' and 'x/a.png'"):
        prompts.for_images(["x/a.png"])


def test_an_image_as_it_was_given_is_meant_before_others(tmp_path: Path) -> None:
    """A name that is the image's own is not taken for that of another folder's."""
    prompts = table(tmp_path, "image,x,y\na.png,1,1\n")

    assert [image is not None for image in prompts.for_images(["x/a.png", "a.png"])[0]] == [
        False,
        True,
    ]


def test_prompts_for_another_size_are_refused(tmp_path: Path) -> None:
    """Boxes do not follow an image that was scaled."""
    image = coco(tmp_path).images["a.png"]
    image.check((24, 32))
    with pytest.raises(PromptError, match="an image of 32 x 24 pixels.*'a.png' are for, got 64 x"):
        image.check((48, 64))


def test_a_prompt_outside_the_image_names_its_object(tmp_path: Path) -> None:
    """A box and a point beside the image are told with their numbers."""
    text = "image,object,x0,y0,x1,y1,x,y\na.png,4,1,1,3,3,,\na.png,7,90,90,99,99,,\n"
    image = table(tmp_path, text).images["a.png"]
    with pytest.raises(PromptError, match="object 7: expected a box that overlaps the image of 32"):
        image.check((24, 32))


def test_boxes_alone_are_asked_for(tmp_path: Path) -> None:
    """`boxes_xyxy` refuses an object with points."""
    image = table(tmp_path, "image,x,y\na.png,1,1\n").images["a.png"]
    with pytest.raises(PromptError, match="expected boxes alone for 'a.png', got points for obj"):
        _ = image.boxes_xyxy
