"""The formats a dataset can be written in, and the one function that writes them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nexus.core.choices import entry
from nexus.core.errors import InputError
from nexus.core.files import STATE_FOLDER, replacing, write_text
from nexus.data.formats import coco, per_dataset, per_image
from nexus.data.formats.dataset import Dataset


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: Writes a dataset into a folder, and yields every file written.
        shown: What a person opens: names in the folder, each of a file or folder.
        summary: What reads it.
        pictures: Folder below the dataset's where its readers look for the images themselves,
            "." for the same one; None if they are found by name wherever they are.
    """

    write: Callable[[Dataset, Path], Iterator[Path]]
    shown: tuple[str, ...]
    summary: str
    pictures: str | None = None


_VOC = ("Annotations", "SegmentationClass", "SegmentationObject")
FORMATS = {
    "records": Format(
        per_dataset.write_records,
        ("annotations.json",),
        "one JSON list of masks with their scores, for programs",
    ),
    "coco": Format(coco.write, ("instances.json",), "COCO instances with RLE, for pycocotools"),
    "yolo": Format(
        per_image.write_yolo, ("data.yaml",), "polygons for YOLO segmentation training", "images"
    ),
    "sa1b": Format(
        per_image.write_sa1b, (".",), "one JSON file beside each image, as SA-1B has them", "."
    ),
    "voc": Format(
        per_image.write_voc, _VOC, "Pascal VOC boxes in XML and palette PNG masks", "JPEGImages"
    ),
    "labelstudio": Format(
        per_dataset.write_labelstudio,
        ("tasks.json", "label_config.xml"),
        "Label Studio tasks with brush masks as predictions",
    ),
    "cvat": Format(per_dataset.write_cvat, ("annotations.xml",), "CVAT for images 1.1 with masks"),
    "png": Format(
        per_image.write_pngs,
        ("instances", "masks", "masks.csv"),
        "a label map per image and a PNG per mask",
    ),
}
"""Name on the command line -> what it is."""

PICTURES = ("copy", "link", "none")
"""What to do with the images where a format's readers want them beside the masks."""


def write_dataset(
    dataset: Dataset, folder: str | os.PathLike[str], format: str, *, pictures: str = "copy"
) -> list[Path]:
    """Write a dataset in one format; each file whole or not at all.

    What an earlier call wrote into the folder in the same format, and this one does not, is
    removed, so that the folder holds this dataset and no other. Equal datasets give equal bytes.

    Args:
        dataset: Images with masks.
        folder: Made if it is not there.
        format: A name in `FORMATS`.
        pictures: For the formats whose readers want the images in the same folder (yolo, sa1b,
            voc): "copy", "link" (a hard link, which takes no room; a copy where the file system
            cannot) or "none".

    Returns:
        The files and folders to open.

    Raises:
        InputError: An unknown format or value, or a dataset the format cannot hold.
        OSError: A file cannot be written.
    """
    spec = entry(FORMATS, format, "a format")
    if pictures not in PICTURES:
        raise InputError(f"expected pictures to be one of {', '.join(PICTURES)}, got {pictures!r}")
    root = Path(folder)
    written = [path.relative_to(root).as_posix() for path in spec.write(dataset, root)]
    if spec.pictures is not None and pictures != "none":
        for image in dataset.images:
            target = root / spec.pictures / image.source.picture_name
            _bring(image.source.path, target, link=pictures == "link")
            written.append(target.relative_to(root).as_posix())
    _forget_the_rest(root, format, written)
    return [root / name if name != "." else root for name in spec.shown]


def _bring(source: Path, target: Path, *, link: bool) -> None:
    """Put a file where the readers look for it, unless it is there already."""
    there = source.stat()
    if target.exists():
        here = target.stat()
        if (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return  # the file itself, or a copy
    with replacing(target) as temporary:
        if link:
            with contextlib.suppress(OSError):  # another file system, or one without hard links
                os.link(source.resolve(), temporary)
                return
        shutil.copy2(source, temporary)


def _forget_the_rest(root: Path, format: str, written: list[str]) -> None:
    """Remove what the list of the last call has and `written` has not; keep the new list."""
    path = root / STATE_FOLDER / f"{format}.files.json"
    former = json.loads(path.read_text("utf-8")) if path.exists() else []
    for name in sorted(set(former) - set(written)):
        (root / name).unlink(missing_ok=True)
    write_text(path, json.dumps(sorted(set(written)), indent=0))
