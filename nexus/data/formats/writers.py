"""The formats a dataset can be written in, and the one function that writes them."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nexus.core.errors import InputError
from nexus.core.files import replacing
from nexus.data.formats.dataset import Dataset, InputImage


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        module: Name of its module in `nexus.data.formats`; its `write(dataset, folder)` yields
            every file it has written.
        shown: What a person opens: names in the folder, each of a file or folder.
        summary: What reads it.
        pictures: Folder below the dataset's where its readers look for the images themselves,
            "." for the same one; None if they are found by name wherever they are.
    """

    module: str
    shown: tuple[str, ...]
    summary: str
    pictures: str | None = None


FORMATS = {
    "records": Format(
        "records", ("annotations.json",), "one JSON list of masks with their scores, for programs"
    ),
    "coco": Format("coco", ("instances.json",), "COCO instances with RLE, for pycocotools"),
    "yolo": Format("yolo", ("data.yaml",), "polygons for YOLO segmentation training", "images"),
    "sa1b": Format("sa1b", (".",), "one JSON file beside each image, as SA-1B has them", "."),
    "voc": Format(
        "voc",
        ("Annotations", "SegmentationClass", "SegmentationObject"),
        "Pascal VOC boxes in XML and palette PNG masks",
        "JPEGImages",
    ),
    "labelstudio": Format(
        "label_studio",
        ("tasks.json", "label_config.xml"),
        "Label Studio tasks with brush masks as predictions",
    ),
    "cvat": Format("cvat", ("annotations.xml",), "CVAT for images 1.1 with masks"),
    "png": Format(
        "png", ("instances", "masks", "masks.csv"), "a label map per image and a PNG per mask"
    ),
}
"""Name on the command line -> what it is."""

PICTURES = ("copy", "link", "none")
"""What to do with the images where a format's readers want them beside the masks."""

_Write = Callable[[Dataset, Path], Iterator[Path]]


def check_format(name: str) -> Format:
    """Return a format by its name.

    Raises:
        InputError: There is none of that name.
    """
    if name not in FORMATS:
        near = difflib.get_close_matches(str(name), FORMATS, n=1)
        raise InputError(
            f"expected a format among {', '.join(FORMATS)}, got {name!r}",
            hint=f"did you mean {near[0]!r}?" if near else None,
        )
    return FORMATS[name]


def write_dataset(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    format: str,
    *,
    pictures: str = "copy",
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
    spec = check_format(format)
    if pictures not in PICTURES:
        raise InputError(f"expected pictures to be one of {', '.join(PICTURES)}, got {pictures!r}")
    root = Path(folder)
    write: _Write = importlib.import_module(f"nexus.data.formats.{spec.module}").write
    written = [path.relative_to(root).as_posix() for path in write(dataset, root)]
    if spec.pictures is not None and pictures != "none":
        for image in dataset.images:
            target = root / spec.pictures / picture_name(image.source)
            _bring(image.source.path, target, link=pictures == "link")
            written.append(target.relative_to(root).as_posix())
    _forget_the_rest(root, format, written)
    return [root / name if name != "." else root for name in spec.shown]


def picture_name(image: InputImage) -> str:
    """Return the name of an image's file in the dataset: its own name with its own ending."""
    return image.name + image.path.suffix.lower()


def _bring(source: Path, target: Path, *, link: bool) -> None:
    """Put a file where the readers look for it, unless it is there already."""
    there = source.stat()
    if target.exists():
        if target.samefile(source):
            return
        here = target.stat()
        if (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return
    with replacing(target) as temporary:
        if link:
            try:
                os.link(source.resolve(), temporary)
                return
            except OSError:  # another file system, or one without hard links
                shutil.copy2(source, temporary)
        else:
            shutil.copy2(source, temporary)


def _forget_the_rest(root: Path, format: str, written: list[str]) -> None:
    """Remove what the list of the last call has and `written` has not; keep the new list."""
    path = root / ".nexus" / f"{format}.files.json"
    former = json.loads(path.read_text("utf-8")) if path.exists() else []
    for name in sorted(set(former) - set(written)):
        (root / name).unlink(missing_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(sorted(set(written)), indent=0), encoding="utf-8")
