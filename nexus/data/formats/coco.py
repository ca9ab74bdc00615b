"""COCO instances: one JSON file of images, annotations and categories.

Follows https://cocodataset.org/#format-data: ids count from 1, `bbox` is x, y, width, height of the
mask's tight box as pycocotools' `toBbox` gives it, `segmentation` is compressed RLE, `iscrowd` 0.
Of a dataset of generated masks `predicted_iou` and `stability_score` are further keys, and `score`
is the former. The file is streamed, so that a dataset need not fit into memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus.core.errors import InputError
from nexus.core.files import writing
from nexus.core.json_text import dump_json, write_array
from nexus.data.formats.dataset import Dataset, need_keys

_NEEDED = ("segmentation", "area", "bbox")


@dataclass(frozen=True)
class CocoImage:
    """One image of a COCO file.

    Attributes:
        file_name: How the file names the image, with forward slashes.
        size_hw: Height and width, pixels.
        annotations: What `Masks.to_coco` gives: `segmentation`, `area`, `bbox` (x, y, width,
            height), and if wanted `category_id` (1 if left out) and more keys, such as `score`,
            which are kept. `id` and `image_id` are given anew.
    """

    file_name: str
    size_hw: tuple[int, int]
    annotations: Sequence[Mapping[str, Any]] = ()


def write_coco(
    path: str | os.PathLike[str],
    images: Iterable[CocoImage],
    *,
    categories: Sequence[str] = ("object",),
    description: str = "",
) -> Path:
    """Write a COCO instances file, whole or not at all; return its path.

    Args:
        path: The JSON file.
        images: In the order of the image ids, which count from 1, as annotation ids do. They are
            gone over twice; an iterator, which cannot be, is read into memory.
        categories: Names of the categories; category_id 1 is the first.
        description: What the file is, for its `info`.

    Raises:
        InputError: An annotation lacks a key, names a category there is not, or holds what JSON
            cannot; or two images have one name.
        OSError: The file cannot be written.
    """
    target = Path(path)
    records = list(images) if isinstance(images, Iterator) else images
    named = [
        {"id": index, "name": name, "supercategory": ""} for index, name in enumerate(categories, 1)
    ]
    with writing(target) as stream:
        stream.write(f'{{"info": {dump_json({"description": description})},\n')
        stream.write('"licenses": [],\n"categories": ')
        write_array(stream, named)
        stream.write(',\n"images": ')
        write_array(stream, _images(records))
        stream.write(',\n"annotations": ')
        write_array(stream, _annotations(records, len(categories)))
        stream.write("}\n")
    return target


@dataclass(frozen=True)
class _DatasetImages:
    """The images of a dataset as those of a COCO file, made anew each time they are gone over."""

    dataset: Dataset

    def __iter__(self) -> Iterator[CocoImage]:
        for image in self.dataset.images:
            annotations = list(map(_annotation, image.masks))
            yield CocoImage(image.source.file_name, image.size_hw, annotations)


def write(dataset: Dataset, folder: Path) -> Iterator[Path]:
    """Write `instances.json`."""
    yield write_coco(
        folder / "instances.json",
        _DatasetImages(dataset),
        categories=dataset.categories,
        description=dataset.description,
    )


def _annotation(mask: Mapping[str, Any]) -> dict[str, Any]:
    x0, y0, x1, y1 = mask["box_xyxy"]
    return {
        **{key: mask[key] for key in ("category_id", "segmentation", "area")},
        **{"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0, "score": mask["predicted_iou"]},
        **{key: mask[key] for key in ("predicted_iou", "stability_score")},
    }


def _images(records: Iterable[CocoImage]) -> Iterator[dict[str, Any]]:
    names: set[str] = set()
    for image_id, record in enumerate(records, 1):
        name, (height, width) = record.file_name, record.size_hw
        if name in names:
            raise InputError(f"expected images of different names, got {name!r} more than once")
        names.add(name)
        yield {"id": image_id, "file_name": name, "height": int(height), "width": int(width)}


def _annotations(records: Iterable[CocoImage], categories: int) -> Iterator[dict[str, Any]]:
    number = 0
    for image_id, record in enumerate(records, 1):
        for annotation in record.annotations:
            what = f"an annotation of {record.file_name!r} to have"
            need_keys(annotation, _NEEDED, what, "Masks.to_coco() makes whole annotations")
            category = annotation.get("category_id", 1)
            if category not in range(1, categories + 1):
                raise InputError(
                    f"expected category_id from 1 to {categories}, got {category!r} "
                    f"in an annotation of {record.file_name!r}",
                    hint="pass categories=[...] with a name for each",
                )
            number += 1
            ids = {"id": number, "image_id": image_id, "category_id": category}
            yield {**ids, **annotation, "iscrowd": annotation.get("iscrowd", 0), **ids}
