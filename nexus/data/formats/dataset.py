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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import ImageNotFoundError, InputError, shown
from nexus.core.files import as_path
from nexus.ops.boxes import mask_to_box_xyxy
from nexus.ops.labels import largest_first, paint_labels
from nexus.ops.rle import decode_rle, encode_rle

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".webp")
    + (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".qoi")
)
"""Endings, in small letters, of the files that are taken from a folder as images."""

_NEEDED = ("segmentation", "bbox", "predicted_iou", "stability_score")
_BOXES = ("point_coords", "crop_box")


@dataclass(frozen=True)
class InputFile:
    """A file, or a folder that is taken as one thing, and what it is called.

    Attributes:
        path: Where it is.
        file_name: Its path below the folder all have in common, with forward slashes.
        name: A name of its own for what is written about it, without an ending.
    """

    path: Path
    file_name: str
    name: str

    @property
    def picture_name(self) -> str:
        """What a copy of it beside masks is called: its own name with its own ending."""
        return self.name + self.path.suffix.lower()


@dataclass(frozen=True)
class DatasetImage:
    """An image and its masks.

    Attributes:
        source: Which file it is and what it is called.
        size_hw: Height and width, pixels, upright.
        masks: Records as the module describes them, each with `category_id` (from 1).
    """

    source: InputFile
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
) -> list[InputFile]:
    """Return the images of a folder and the folders in it, or of several files and folders.

    Args:
        sources: A folder, or files and folders. Of a folder those files are taken that end like
            an image, in the order of their names; files are taken whatever their ending.
        leave_out: A folder whose files are not looked at, such as the one written into.

    Raises:
        ImageNotFoundError: There is no such file or folder.
        InputError: A folder without images.
    """
    hint = "PNG, JPEG, TIFF, BMP, GIF, WebP, PPM, JPEG 2000 and AVIF files are images"
    return find_inputs(sources, leave_out, images_below, "an image", hint, ImageNotFoundError)


def find_inputs(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    leave_out: str | os.PathLike[str] | None,
    below: Callable[[Path, Path | None], Iterable[Path]],
    what: str,
    hint: str,
    missing: type[InputError],
) -> list[InputFile]:
    """Return what `below` gives of folders, and files, each with two names of its own.

    They are its path below the one folder given, or else below the nearest that holds them all; and
    its name without an ending, made different where two are alike.

    Raises:
        InputError: A folder without `what`; `hint` says what counts as that. Or no source, or, as
            `missing`, one that does not exist.
    """
    alone = isinstance(sources, (str, os.PathLike))
    several = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    if not isinstance(several, Iterable) or getattr(several, "ndim", 1) == 0:
        raise InputError(f"expected {what} or a folder of them as a path, got {shown(sources)}")
    given = [as_path(source, what) for source in several]
    barred = None if leave_out is None else Path(leave_out).resolve()
    noun = what.partition(" ")[2]
    paths: dict[Path, None] = {}
    for source in given:
        if not source.exists():
            raise missing(
                f"expected {what} or a folder of {noun}s, got {str(source)!r}, which does not exist"
            )
        found = list(below(source, barred)) if source.is_dir() else [source]
        if not found and barred in (source.resolve(), *source.resolve().parents):
            raise InputError(
                f"expected results in a folder without inputs, got {str(source)!r} for both",
                hint="write into another folder",
            )
        if not found:
            raise InputError(
                f"expected a folder with {noun}s in it, got {str(source)!r} without any", hint=hint
            )
        paths.update(dict.fromkeys(found))
    if not paths:
        raise InputError(f"expected at least one {noun} or folder of {noun}s, got none")
    if alone and [*paths] != given:
        files = [path.relative_to(given[0]) for path in paths]
    else:
        whole = [path.absolute() for path in paths]
        root = os.path.commonpath([path.parent for path in whole])
        files = [path.relative_to(root) for path in whole]
    longer = ["-".join(file.with_suffix("").parts) for file in files]
    own = own_names([file.stem for file in files], longer)
    return [InputFile(*each) for each in zip(paths, map(Path.as_posix, files), own, strict=True)]


def is_picture(path: Path) -> bool:
    """Say whether a file is taken from a folder as an image, by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def mask_record(record: Mapping[str, Any], size_hw: tuple[int, int]) -> dict[str, Any]:
    """Return a classic automatic-mask record as plain JSON values, checked.

    Args:
        record: With `segmentation` as an (H, W) bool array or COCO RLE of either kind.
        size_hw: Height and width of the image.

    Raises:
        InputError: A key is missing, the mask is of another size, or a number is not finite.
    """
    hint = "SAMAutomaticMaskGenerator(...).generate(image) makes them"
    need_keys(record, _NEEDED, "mask records with", hint)
    given = record["segmentation"]
    mask = decode_rle(given) if isinstance(given, Mapping) else np.asarray(given)
    if mask.shape != tuple(size_hw):
        raise InputError(f"expected masks of the image's size {tuple(size_hw)}, got {mask.shape}")
    plain: dict[str, Any] = {
        "segmentation": encode_rle(mask),
        "area": int(np.count_nonzero(mask)),
        "bbox": _numbers(record["bbox"], "bbox"),
        **{key: _numbers([record[key]], key)[0] for key in _NEEDED[2:]},
    }
    for key in _BOXES:
        if record.get(key) is not None:
            rows = np.asarray(record[key], np.float64)
            plain[key] = _numbers(rows, key) if rows.ndim < 2 else [_numbers(r, key) for r in rows]
    plain["box_xyxy"] = [int(edge) for edge in mask_to_box_xyxy(mask)]
    return plain | {key: record[key] for key in ("category", "category_id") if key in record}


def need_keys(record: Mapping[str, Any], keys: Sequence[str], what: str, hint: str) -> None:
    """Refuse a record that lacks keys.

    Raises:
        InputError: It does; `what` says who is expected to have them.
    """
    missing = ", ".join(key for key in keys if key not in record)
    if missing:
        raise InputError(f"expected {what} {', '.join(keys)}, got one without {missing}", hint=hint)


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


def object_labels(
    masks: Sequence[Mapping[str, Any]], size_hw: tuple[int, int]
) -> NDArray[np.uint16]:
    """Return one map of all masks of an image, (H, W): the place of each in `masks`, from 1.

    Where masks overlap the smaller one is seen; of equal ones the later. At most 65535 masks.
    """
    order = largest_first([mask["area"] for mask in masks])
    layers = ((place + 1, decode_rle(masks[place]["segmentation"])) for place in order)
    return paint_labels(layers, size_hw, np.uint16)


def images_below(folder: Path, barred: Path | None) -> Iterator[Path]:
    """Yield the images of a folder, its own first and then those of its folders, by name."""
    if folder.resolve() == barred:
        return
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
    yield from (entry for entry in entries if is_picture(entry) and entry.is_file())
    for entry in entries:
        if not entry.name.startswith(".") and entry.is_dir() and not entry.is_symlink():
            yield from images_below(entry, barred)


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
    small = [name.casefold() for name in names]
    counts = Counter(small)
    return [index for index, name in enumerate(small) if counts[name] > 1]


def _numbers(values: Any, key: str) -> list[float]:
    numbers = [float(value) for value in values]
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"expected finite numbers as {key} of a mask record, got {numbers}")
    return [int(number) if number.is_integer() and key == "bbox" else number for number in numbers]
