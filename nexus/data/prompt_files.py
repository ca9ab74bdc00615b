"""Prompts per image from a file: a CSV table, or a COCO file whose boxes are the prompts.

A row of a CSV table is a prompt: `image`, the image's name; `x0`, `y0`, `x1`, `y1`, a box in pixels
of the image, right and bottom exclusive; or `x`, `y`, a point, with `label` 1 on the object (the
default) or 0 beside it; or both. Rows with one number under `object` are one object of the image;
a row without is an object by itself. `category` names what it is. Tables of other tools have
`filename`, `xmin` ... `ymax`, `class`, `width` and `height`, which are read as well.

Of a COCO file each annotation that is not a crowd is an object, with its `bbox` as the prompt.

A name fits an image if it is the end of the image's path, by whole folders and the file; a name
without an ending fits whatever the ending.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError, NexusWarning, PromptError
from nexus.core.types import Prompt
from nexus.data.formats.dataset import IMAGE_SUFFIXES

DEFAULT_CATEGORY = "object"

_CORNERS = ("x0", "y0", "x1", "y1")
_COLUMNS = ("image", "object", *_CORNERS, "x", "y", "label", "category", "width", "height")
_ALIASES = {
    **dict.fromkeys(("filename", "file_name", "image_path"), "image"),
    **{"xmin": "x0", "ymin": "y0", "xmax": "x1", "ymax": "y1", "class": "category"},
}
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HINT = (
    "a table has a row such as photo.png,80,50,240,190 under image,x0,y0,x1,y1; "
    "a COCO file has images, annotations and categories"
)


@dataclass(frozen=True)
class ImagePrompt:
    """One object that a file asks for on an image.

    Attributes:
        number: Of the object on its image, 1 or more: the caller's, or the next that is free.
        prompt: In pixels of the image.
        category: What the object is.
    """

    number: int
    prompt: Prompt
    category: str = DEFAULT_CATEGORY


@dataclass(frozen=True)
class PromptsOfImage:
    """What a file says of one image.

    Attributes:
        name: What the file calls the image.
        objects: In the order of the file; may be empty for an image of a COCO file.
        size_hw: Height and width the prompts are for, pixels; None if the file does not say.
    """

    name: str
    objects: tuple[ImagePrompt, ...]
    size_hw: tuple[int, int] | None = None

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(K, 4) boxes of the objects.

        Raises:
            PromptError: An object has no box, or points besides.
        """
        for each in self.objects:
            if each.prompt.box is None or each.prompt.points is not None:
                raise PromptError(
                    f"expected boxes alone for {self.name!r}, got points for object {each.number}"
                )
        boxes = [each.prompt.box for each in self.objects]
        return np.array(boxes, np.float32).reshape(-1, 4)  # (K, 4)

    def check(self, size_hw: tuple[int, int]) -> None:
        """Refuse an image of another size than the prompts are for, and prompts outside of it.

        Raises:
            PromptError: The size differs, or a prompt does not fit; its object is named.
        """
        if self.size_hw is not None and self.size_hw != tuple(size_hw):
            height, width = self.size_hw
            raise PromptError(
                f"expected an image of {width} x {height} pixels, as the prompts of "
                f"{self.name!r} are for, got {size_hw[1]} x {size_hw[0]}",
                hint="boxes do not follow an image that was scaled or turned",
            )
        for each in self.objects:
            try:
                each.prompt.check_within(size_hw)
            except PromptError as error:
                which = f"object {each.number}: " if len(self.objects) > 1 else ""
                raise PromptError(which + error.message, error.hint) from error


@dataclass(frozen=True)
class ImagePrompts:
    """The prompts of a file, by what it calls each image.

    Attributes:
        path: The file.
        images: In its order.
    """

    path: Path
    images: Mapping[str, PromptsOfImage]

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the objects, each once, in the order they appear."""
        named = (each.category for image in self.images.values() for each in image.objects)
        return tuple(dict.fromkeys(named))

    def for_images(
        self, images: Sequence[str | os.PathLike[str]]
    ) -> tuple[list[PromptsOfImage | None], list[str]]:
        """Find the prompts of images.

        Args:
            images: Paths, which need not exist, or addresses.

        Returns:
            For each image its prompts, or None; and the names of the file that fit no image.

        Raises:
            InputError: A name that fits two images, two names that fit one, or none that fits any.
        """
        index = _Index.of(images)
        found: list[PromptsOfImage | None] = [None] * len(images)
        unused = []
        for name, prompts in self.images.items():
            places = index.places(name)
            if len(places) > 1:
                some = " and ".join(repr(str(images[place])) for place in places[:2])
                raise InputError(
                    f"expected {name!r} of {str(self.path)!r} to be one image, got {some}",
                    hint="write more of the paths into the file, such as folder/photo.png",
                )
            if not places:
                unused.append(name)
                continue
            former = found[places[0]]
            if former is not None:
                raise InputError(
                    f"expected one name for {str(images[places[0]])!r} in {str(self.path)!r}, got "
                    f"{former.name!r} and {name!r}"
                )
            found[places[0]] = prompts
        if images and len(unused) == len(self.images):
            shown = ", ".join(repr(name) for name in unused[:3])
            raise InputError(
                f"expected {str(self.path)!r} to name one of the images, such as "
                f"{str(images[0])!r}, got {shown}{' ...' if len(unused) > 3 else ''}",
                hint="a name is the file's, with the folders before it as far as it gives them",
            )
        return found, unused


def read_image_prompts(path: str | os.PathLike[str]) -> ImagePrompts:
    """Read a CSV table or a COCO file of prompts, as the module describes them.

    Boxes of a COCO file without area are passed over, with a warning.

    Raises:
        InputError: There is no such file, it holds something else, or nothing.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8-sig")
        is_json = text.lstrip()[:1] in ("{", "[")
        images = dict(_of_coco(json.loads(text)) if is_json else _of_table(text))
        if not any(image.objects for image in images.values()):
            raise InputError("expected at least one prompt, got none", hint=_HINT)
    except InputError as error:
        raise type(error)(f"{str(file)!r}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise InputError(f"expected a file of prompts, got {str(file)!r}: {error}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise InputError(
            f"expected a CSV or COCO file of prompts, got {str(file)!r}: {error}", hint=_HINT
        ) from error
    return ImagePrompts(file, images)


def _of_table(text: str) -> Iterator[tuple[str, PromptsOfImage]]:
    """Read the rows of a table, gathered by image."""
    by_image: dict[str, _Gathered] = {}
    for line, cells in _rows(text):
        try:
            name = cells.get("image")
            if not name:
                raise InputError(f"expected the name of an image, got {cells!r:.120}")
            by_image.setdefault(name, _Gathered()).add(cells)
        except InputError as error:
            raise type(error)(f"line {line}: {error.message}", hint=error.hint) from error
    for name, gathered in by_image.items():
        try:
            objects = gathered.objects()
        except InputError as error:
            raise type(error)(f"{name!r}: {error.message}", hint=error.hint) from error
        yield name, PromptsOfImage(name, objects, gathered.size_hw)


def _rows(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a table with their lines; cells that say nothing are left out."""
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    given = [name.strip() for name in rows.fieldnames or []]
    columns = [_ALIASES.get(name.lower(), name.lower()) for name in given]
    known = all(name in _COLUMNS for name in columns) and len({*columns}) == len(columns)
    if not known or "image" not in columns or not ({*_CORNERS} <= {*columns} or "x" in columns):
        raise InputError(
            "expected a table with the columns image and x0, y0, x1, y1 or x, y, and maybe label, "
            f"object, category, width, height, got {', '.join(given) or 'none'}",
            hint="the first line names the columns; take out those that have other names",
        )
    rows.fieldnames = columns
    for row in rows:
        if None in row:
            raise InputError(
                f"line {rows.line_num}: expected {len(columns)} cells, got {len(columns)} and "
                f"{row[None]!r:.80}",
                hint='a name with a comma stands in quotes: "a, b.png"',
            )
        cells = {name: cell.strip() for name, cell in row.items() if cell and cell.strip()}
        if cells:
            yield rows.line_num, cells


@dataclass
class _Gathered:
    """The rows of one image: what is known of each object so far."""

    numbered: dict[int, dict[str, Any]] = field(default_factory=dict)
    alone: list[dict[str, Any]] = field(default_factory=list)
    size_hw: tuple[int, int] | None = None

    def add(self, cells: Mapping[str, str]) -> None:
        """Take a row."""
        part: dict[str, Any] = {"category": cells.get("category", DEFAULT_CATEGORY)}
        if {*_CORNERS} & {*cells}:
            part["box"] = [_number(cells, name) for name in _CORNERS]
        if {"x", "y"} & {*cells}:
            part["points"] = [[_number(cells, "x"), _number(cells, "y")]]
            part["labels"] = [_number(cells, "label") if "label" in cells else 1.0]
        _prompt(part)  # refuses it while its line is known
        size = {"width", "height"} & {*cells}
        size_hw = (_count(cells, "height"), _count(cells, "width")) if size else None
        if size_hw is not None and self.size_hw not in (None, size_hw):
            raise InputError("expected one width and height for an image, got two")
        self.size_hw = size_hw or self.size_hw
        if "object" not in cells:
            self.alone.append(part)
            return
        former = self.numbered.setdefault(_count(cells, "object"), {})
        if "box" in former and "box" in part:
            raise InputError(f"expected one box for object {cells['object']}, got two")
        if former.get("category", part["category"]) != part["category"]:
            raise InputError(f"expected one category for object {cells['object']}, got two")
        for key, value in part.items():
            joins = key in ("points", "labels")
            former[key] = [*former.get(key, ()), *value] if joins else value

    def objects(self) -> tuple[ImagePrompt, ...]:
        """Return the objects: those with a number of their own, then the others."""
        if sum("points" in part for part in self.alone) > 1:
            raise InputError(
                "expected a number under object for each of several points, got none",
                hint="points of one object have one number, those of others have others",
            )
        free = (n for n in range(1, len(self.numbered) + len(self.alone) + 1))
        left = [n for n in free if n not in self.numbered]
        parts = [*self.numbered.items(), *zip(left, self.alone, strict=False)]
        return tuple(ImagePrompt(n, _prompt(part), part["category"]) for n, part in parts)


def _prompt(part: Mapping[str, Any]) -> Prompt:
    return Prompt(part.get("points"), part.get("labels"), part.get("box"))


def _number(cells: Mapping[str, str], name: str) -> float:
    try:
        return float(cells[name])
    except (KeyError, ValueError) as error:
        got = repr(cells[name]) if name in cells else "an empty cell"
        hint = "label is 1 or 0 for a point; names of objects go under category"
        raise InputError(
            f"expected a number under {name}, got {got:.80}", hint if name == "label" else None
        ) from error


def _count(cells: Mapping[str, str], name: str) -> int:
    text = cells.get(name, "")
    if not (text.isascii() and text.isdigit() and int(text[:12]) > 0):
        raise InputError(f"expected a whole number, 1 or more, under {name}, got {text!r:.80}")
    return int(text)


def _of_coco(content: Any) -> Iterator[tuple[str, PromptsOfImage]]:
    """Read the images of a COCO file with the boxes of their annotations."""
    if not isinstance(content, dict):
        raise InputError(
            "expected a COCO file, an object with images and annotations, got a list",
            hint="a list of results names no images; put it under annotations beside images",
        )
    images, annotations = (_records(content, key) for key in ("images", "annotations"))
    categories = {
        _need(each, "id", "a category"): str(_need(each, "name", "a category"))
        for each in (_records(content, "categories") if content.get("categories") else [])
    }
    objects: dict[Any, list[ImagePrompt]] = {}
    for image in images:
        number = _need(image, "id", "an image")
        if number in objects:
            raise InputError(f"expected images with an id each, got two with {number!r}")
        objects[number] = []
    flat = []
    for place, annotation in enumerate(annotations, 1):
        what = f"annotation {annotation.get('id', f'at place {place}')!r}"
        of_image = _need(annotation, "image_id", what)
        if of_image not in objects:
            raise InputError(f"expected {what} to be of an image there is, got {of_image!r}")
        if annotation.get("iscrowd") in (1, True):
            continue
        category = annotation.get("category_id")
        hashable = isinstance(category, (int, float, str))
        if categories and not (hashable and category in categories):
            raise InputError(f"expected {what} to have a category there is, got {category!r}")
        box = _corners(_need(annotation, "bbox", what), what)
        if box is None:
            flat.append(what)
            continue
        of_this = objects[of_image]
        named = categories[category] if categories else DEFAULT_CATEGORY
        of_this.append(ImagePrompt(len(of_this) + 1, Prompt(box=box), named))
    if flat:
        more = f" and {len(flat) - 3} more" if len(flat) > 3 else ""
        text = f"boxes without area are passed over: {', '.join(flat[:3])}{more}"
        warnings.warn(text, NexusWarning, stacklevel=2)
    names: set[str] = set()
    for image in images:
        name = _need(image, "file_name", f"image {image['id']!r}")
        if not isinstance(name, str) or not name or name in names:
            raise InputError(f"expected images with a file_name each of its own, got {name!r:.80}")
        names.add(name)
        size_hw = image.get("height"), image.get("width")
        sized = all(isinstance(side, int) and side > 0 for side in size_hw)
        whole = (int(size_hw[0]), int(size_hw[1])) if sized else None  # type: ignore[arg-type]
        yield name, PromptsOfImage(name, tuple(objects[image["id"]]), whole)


def _records(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    records = content.get(key)
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        got = f"{records!r:.60}" if key in content else f"the keys {', '.join(content)!s:.80}"
        raise InputError(f"expected a COCO file with a list of {key}, got {got}", hint=_HINT)
    return records


def _need(record: Mapping[str, Any], key: str, what: str) -> Any:
    """Return a value that a record has to have, one that can be a key if it is an id."""
    value = record.get(key)
    if value is None or (key in ("id", "image_id") and isinstance(value, (dict, list))):
        raise InputError(f"expected {what} with {key}, got {record!r:.120}")
    return value


def _corners(bbox: Any, what: str) -> list[float] | None:
    """Return x, y, width, height as x0, y0, x1, y1; None if there is no area."""
    numbers = isinstance(bbox, list) and all(type(edge) in (int, float) for edge in bbox)
    if (
        not numbers
        or len(bbox) != 4
        or not all(abs(edge) < 1e9 for edge in bbox)
        or min(bbox[2:]) < 0
    ):
        raise InputError(
            f"expected {what} with a bbox of x, y, width, height, got {bbox!r:.80}",
            hint="a bbox is four numbers, in pixels, of which the last two are not negative",
        )
    x, y, width, height = bbox
    corners = np.array([x, y, x + width, y + height], np.float32)
    has_area = corners[0] < corners[2] and corners[1] < corners[3]
    return [float(edge) for edge in corners] if has_area else None


@dataclass(frozen=True)
class _Index:
    """Images by the last part of their paths, with and without its ending."""

    parts: Sequence[tuple[str, ...]]
    exact: Mapping[str, int]
    by_file: Mapping[str, Sequence[int]]
    by_stem: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, images: Sequence[str | os.PathLike[str]]) -> _Index:
        texts = [os.fspath(image) for image in images]
        parts = [_parts(text, absolute=True) for text in texts]
        by_file: dict[str, list[int]] = {}
        by_stem: dict[str, list[int]] = {}
        for place, part in enumerate(parts):
            file = part[-1] if part else ""
            by_file.setdefault(file, []).append(place)
            by_stem.setdefault(PurePosixPath(file).stem, []).append(place)
        return cls(parts, {text: place for place, text in enumerate(texts)}, by_file, by_stem)

    def places(self, name: str) -> list[int]:
        """Return the places of the images that a name fits."""
        if name in self.exact:
            return [self.exact[name]]
        *folders, file = _parts(name) or ("",)
        fitting = self.by_file.get(file, ())
        if not fitting and PurePosixPath(file).suffix.lower() not in IMAGE_SUFFIXES:
            fitting = self.by_stem.get(file, ())
        before = len(folders) + 1
        return [place for place in fitting if [*self.parts[place][-before:-1]] == folders]


def _parts(name: str, absolute: bool = False) -> tuple[str, ...]:
    """Return the folders and the file of a path or an address, whichever slashes it has.

    What leads upwards at the start is left out, as it says nothing of the file's own path.
    """
    address = _ADDRESS.match(name)
    if address:
        name = re.split("[?#]", name[address.end() :], maxsplit=1)[0]
    elif absolute:
        name = os.path.abspath(name)  # noqa: PTH100 - folds "..", and follows no link
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    while parts and parts[0] == "..":
        parts.pop(0)
    return tuple(parts)
