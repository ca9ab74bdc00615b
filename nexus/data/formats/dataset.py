"""What a dataset of generated masks is: images with their masks, categories, and where from.

A mask is a record with the classic keys of automatic masks, as plain JSON values:
`segmentation` (compressed COCO RLE), `area` (pixels), `bbox` (x, y, width, height as the generator
gave it, from inclusive pixels), `predicted_iou`, `stability_score`, `point_coords`, `crop_box`; and
`box_xyxy`, the tight box in pixels with exclusive right and bottom edges.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nexus.core.errors import ImageNotFoundError, InputError
from nexus.ops.boxes import mask_to_box_xyxy
from nexus.ops.rle import decode_rle, encode_rle

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".webp")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".qoi")
)
"""Endings, in small letters, of the files that are taken from a folder as images."""

_NEEDED = ("segmentation", "bbox", "predicted_iou", "stability_score")
_BOXES = ("point_coords", "crop_box")


@dataclass(frozen=True)
class InputImage:
    """An image file and what it is called.

    Attributes:
        path: The file.
        file_name: Its path below the folder all images have in common, with forward slashes.
        name: A name of its own for what is written about it, without an ending.
    """

    path: Path
    file_name: str
    name: str


@dataclass(frozen=True)
class DatasetImage:
    """An image and its masks.

    Attributes:
        source: Which file it is and what it is called.
        size_hw: Height and width, pixels, upright.
        masks: Records as the module describes them, each with `category_id` (from 1).
    """

    source: InputImage
    size_hw: tuple[int, int]
    masks: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Dataset:
    """Images with masks, in order.

    Attributes:
        images: Can be gone over more than once, and need not all be in memory.
        categories: Names; `category_id` 1 is the first.
        description: What made it.
    """

    images: Iterable[DatasetImage]
    categories: tuple[str, ...] = ("object",)
    description: str = ""


def find_images(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    leave_out: str | os.PathLike[str] | None = None,
) -> list[InputImage]:
    """Return the images of a folder and the folders in it, or of several files and folders.

    Args:
        sources: A folder, or files and folders. Of a folder those files are taken that end like
            an image, in the order of their names; files are taken whatever their ending.
        leave_out: A folder whose files are not looked at, such as the one written into.

    Raises:
        ImageNotFoundError: There is no such file or folder.
        InputError: A folder without images.
    """
    alone = isinstance(sources, (str, os.PathLike))
    given = [Path(sources)] if isinstance(sources, (str, os.PathLike)) else list(map(Path, sources))
    barred = None if leave_out is None else Path(leave_out).resolve()
    paths: dict[Path, None] = {}
    for source in given:
        found = list(_images_below(source, barred)) if source.is_dir() else [source]
        if not found:
            raise InputError(
                f"expected a folder with images in it, got {str(source)!r} without any",
                hint="PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 and AVIF files are images",
            )
        if not source.exists():
            raise ImageNotFoundError(
                f"expected an image or a folder of images, got {str(source)!r}, "
                "which does not exist"
            )
        paths.update(dict.fromkeys(found))
    if not paths:
        raise InputError("expected at least one image or folder of images, got none")
    ordered = list(paths)
    if alone and given[0].is_dir():
        files = [path.relative_to(given[0]).as_posix() for path in ordered]
    else:
        root = os.path.commonpath([path.absolute().parent for path in ordered])
        files = [path.absolute().relative_to(root).as_posix() for path in ordered]
    stems = [Path(file).stem for file in files]
    names = own_names(stems, ["-".join(Path(file).with_suffix("").parts) for file in files])
    return [InputImage(*each) for each in zip(ordered, files, names, strict=True)]


def mask_record(record: Mapping[str, Any], size_hw: tuple[int, int]) -> dict[str, Any]:
    """Return a classic automatic-mask record as plain JSON values, checked.

    Args:
        record: With `segmentation` as an (H, W) bool array or COCO RLE of either kind.
        size_hw: Height and width of the image.

    Raises:
        InputError: A key is missing, the mask is of another size, or a number is not finite.
    """
    missing = [key for key in _NEEDED if key not in record]
    if missing:
        raise InputError(
            f"expected mask records with {', '.join(_NEEDED)}, got one without "
            f"{', '.join(missing)}",
            hint="SAMAutomaticMaskGenerator(...).generate(image) makes them",
        )
    given = record["segmentation"]
    mask = decode_rle(given) if isinstance(given, Mapping) else np.asarray(given)
    if mask.shape != tuple(size_hw):
        raise InputError(f"expected masks of the image's size {tuple(size_hw)}, got {mask.shape}")
    plain: dict[str, Any] = {
        "segmentation": encode_rle(mask),
        "area": int(np.count_nonzero(mask)),
        "bbox": _numbers(record["bbox"], "bbox"),
        "predicted_iou": _numbers([record["predicted_iou"]], "predicted_iou")[0],
        "stability_score": _numbers([record["stability_score"]], "stability_score")[0],
    }
    for key in _BOXES:
        if record.get(key) is not None:
            rows = np.asarray(record[key], np.float64)
            plain[key] = _numbers(rows, key) if rows.ndim < 2 else [_numbers(r, key) for r in rows]
    plain["box_xyxy"] = [int(edge) for edge in mask_to_box_xyxy(mask)]
    for key in ("category", "category_id"):
        if key in record:
            plain[key] = record[key]
    return plain


def with_category(mask: Mapping[str, Any], categories: Sequence[str]) -> dict[str, Any]:
    """Return a record with `category_id`, from its own `category` or `category_id`, or 1.

    Raises:
        InputError: It names a category there is not.
    """
    record = dict(mask)
    category = record.pop("category", None)
    if category is None:
        number = record.get("category_id", 1)
        known = isinstance(number, int) and 1 <= number <= len(categories)
    else:
        known = category in categories
        number = categories.index(category) + 1 if known else category
    if not known:
        raise InputError(
            f"expected a category among {', '.join(categories)} or a number from 1 to "
            f"{len(categories)}, got {number!r}",
            hint="pass categories=[...] with every name the mask records use",
        )
    return {**record, "category_id": number}


def _images_below(folder: Path, barred: Path | None) -> Iterator[Path]:
    """Yield the images of a folder, its own first and then those of its folders, by name."""
    if barred is not None and folder.resolve() == barred:
        return
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
    for entry in entries:
        hidden = entry.name.startswith(".")
        if not hidden and entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file():
            yield entry
    for entry in entries:
        if not entry.name.startswith(".") and entry.is_dir() and not entry.is_symlink():
            yield from _images_below(entry, barred)


def own_names(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """Return each name; where names are alike, the longer one; where those are, a number too.

    Names that differ in nothing but case are alike, as they are to some file systems.
    """
    own = list(names)
    for index in _alike(own):
        own[index] = longer[index]
    taken = {name.casefold() for name in own}
    for index in _alike(own):
        number = 1
        while f"{own[index]}-{number}".casefold() in taken:
            number += 1
        own[index] = f"{own[index]}-{number}"
        taken.add(own[index].casefold())
    return own


def _alike(names: Sequence[str]) -> list[int]:
    counts = Counter(name.casefold() for name in names)
    return [index for index, name in enumerate(names) if counts[name.casefold()] > 1]


def _numbers(values: Any, key: str) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"expected finite numbers as {key} of a mask record, got {numbers}")
    return [int(number) if number.is_integer() and key == "bbox" else number for number in numbers]
