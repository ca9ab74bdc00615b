"""Write COCO instance files, which pycocotools and labelling tools read."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus.core.errors import InputError
from nexus.core.files import replacing

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
        images: In the order of the image ids, which count from 1, as annotation ids do.
        categories: Names of the categories; category_id 1 is the first.
        description: What the file is, for its `info`.

    Raises:
        InputError: An annotation lacks a key, names a category there is not, or holds what JSON
            cannot; or two images have one name.
        OSError: The file cannot be written.
    """
    records = list(images)
    twice = [name for name, count in Counter(r.file_name for r in records).items() if count > 1]
    if twice:
        raise InputError(f"expected images of different names, got {twice[0]!r} more than once")
    document = {
        "info": {"description": description},
        "licenses": [],
        "images": [
            {
                "id": image_id,
                "file_name": record.file_name,
                "height": int(record.size_hw[0]),
                "width": int(record.size_hw[1]),
            }
            for image_id, record in enumerate(records, 1)
        ],
        "annotations": _annotations(records, len(categories)),
        "categories": [
            {"id": index, "name": name, "supercategory": ""}
            for index, name in enumerate(categories, 1)
        ],
    }
    try:
        text = json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"expected annotations of plain finite JSON values, got one that is not: {error}",
            hint="float(...) and .tolist() make plain values of NumPy's",
        ) from error
    target = Path(path)
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _annotations(records: Sequence[CocoImage], categories: int) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, 1):
        for annotation in record.annotations:
            missing = [key for key in _NEEDED if key not in annotation]
            if missing:
                raise InputError(
                    f"expected an annotation of {record.file_name!r} to have "
                    f"{', '.join(_NEEDED)}, got one without {', '.join(missing)}",
                    hint="Masks.to_coco() makes whole annotations",
                )
            category = annotation.get("category_id", 1)
            if category not in range(1, categories + 1):
                raise InputError(
                    f"expected category_id from 1 to {categories}, got {category!r} "
                    f"in an annotation of {record.file_name!r}",
                    hint="pass categories=[...] with a name for each",
                )
            numbered = {"id": len(annotations) + 1, "image_id": image_id}
            defaults = {"category_id": category, "iscrowd": 0}
            annotations.append({**defaults, **annotation, **numbered})
    return annotations
