"""The formats a dataset can be written in, and the one function that writes them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexus.core.choices import entry
from nexus.core.errors import InputError
from nexus.core.files import replacing, write_text
from nexus.core.outputs import Outputs, output_folder
from nexus.data.formats import coco, per_dataset, per_image
from nexus.data.formats.dataset import Dataset, InputFile


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: Writes a dataset into a folder, and yields every file written.
        shown: What a person opens: names in the folder, each of a file or folder.
        summary: What reads it.
        files: What is written: names in the folder, "{}" for the name of each image and "#" for
            the number of each of its masks.
        pictures: Folder below the dataset's where its readers look for the images themselves,
            "." for the same one; None if they are found by name wherever they are.
    """

    write: Callable[[Dataset, Path], Iterator[Path]]
    shown: tuple[str, ...]
    summary: str
    files: tuple[str, ...]
    pictures: str | None = None


_VOC = ("Annotations", "SegmentationClass", "SegmentationObject")
_VOC_FILES = (
    *(f"{name}/{{}}.{ending}" for name, ending in zip(_VOC, ("xml", "png", "png"), strict=True)),
    *(f"ImageSets/{kind}/default.txt" for kind in ("Main", "Segmentation")),
)
FORMATS = {
    "records": Format(
        per_dataset.write_records,
        ("annotations.json",),
        "one JSON list of masks with their scores, for programs",
        ("annotations.json",),
    ),
    "coco": Format(
        coco.write,
        ("instances.json",),
        "COCO instances with RLE, for pycocotools",
        ("instances.json",),
    ),
    "yolo": Format(
        per_image.write_yolo,
        ("data.yaml",),
        "polygons for YOLO segmentation training",
        ("labels/{}.txt", "data.yaml"),
        "images",
    ),
    "sa1b": Format(
        per_image.write_sa1b,
        (".",),
        "one JSON file beside each image, as SA-1B has them",
        ("{}.json",),
        ".",
    ),
    "voc": Format(
        per_image.write_voc,
        _VOC,
        "Pascal VOC boxes in XML and palette PNG masks",
        _VOC_FILES,
        "JPEGImages",
    ),
    "labelstudio": Format(
        per_dataset.write_labelstudio,
        ("tasks.json", "label_config.xml"),
        "Label Studio tasks with brush masks as predictions",
        ("tasks.json", "label_config.xml"),
    ),
    "cvat": Format(
        per_dataset.write_cvat,
        ("annotations.xml",),
        "CVAT for images 1.1 with masks",
        ("annotations.xml",),
    ),
    "png": Format(
        per_image.write_pngs,
        ("instances", "masks", "masks.csv"),
        "a label map per image and a PNG per mask",
        ("instances/{}.png", "masks/{}.#.png", "masks.csv"),
    ),
}
"""Name on the command line -> what it is."""

PICTURES = ("copy", "link", "none")
"""What to do with the images where a format's readers want them beside the masks."""


def write_dataset(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    format: str,
    *,
    pictures: str = "copy",
    overwrite: bool = False,
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
        overwrite: Remove what Nexus made in the folder, and replace files of others.

    Returns:
        The files and folders to open.

    Raises:
        InputError: An unknown format or value, a dataset the format cannot hold, or a file that
            would be replaced and was not made by Nexus.
        NexusError: A run is using the folder.
        OSError: A file cannot be written.
    """
    entry(FORMATS, format, "a format")
    if pictures not in PICTURES:
        raise InputError(f"expected pictures to be one of {', '.join(PICTURES)}, got {pictures!r}")
    with output_folder(folder, verb="generate", overwrite=overwrite) as outputs:
        sources = [image.source for image in dataset.images]
        outputs.reserve(files_of(sources, outputs.folder, format, pictures))
        return write_into(outputs, dataset, format, pictures)


def files_of(
    images: Sequence[InputFile],
    folder: Path,
    format: str,
    pictures: str,
    others: Sequence[str] = (),
) -> list[str]:
    """Return what a dataset of images would have for files, by their paths below its folder.

    How many masks an image has is not known before: of files by the number of a mask those are
    named that are there.

    Args:
        images: All of the dataset.
        folder: Where it is to be.
        format: As in `write_dataset`.
        pictures: The same.
        others: Names beside the dataset, which none of its files may have.

    Raises:
        InputError: Two files would have one name.
    """
    spec, names = FORMATS[format], {image.name for image in images}
    found = [*others]
    for pattern in spec.files:
        if "#" in pattern:
            before, _, after = pattern.rpartition("/")[2].partition("{}.#")
            numbered = re.compile(rf"{re.escape(before)}(.+)\.\d+{re.escape(after)}", re.DOTALL)
            place = Path(pattern).parent
            for path in (folder / place).iterdir() if (folder / place).is_dir() else ():
                match = numbered.fullmatch(path.name)
                if match is not None and match[1] in names:
                    found.append((place / path.name).as_posix())
        elif "{}" in pattern:
            found += [pattern.replace("{}", image.name) for image in images]
        else:
            found.append(pattern)
    if spec.pictures is not None and pictures != "none":
        found += [(Path(spec.pictures) / image.picture_name).as_posix() for image in images]
    name, times = Counter(found).most_common(1)[0]
    if times > 1:
        raise InputError(
            f"expected images whose files have names of their own in the format {format}, got two "
            f"of {name!r}",
            hint="rename the image, or take another format",
        )
    return found


def write_into(outputs: Outputs, dataset: Dataset, format: str, pictures: str) -> list[Path]:
    """Write a dataset as `write_dataset` does, into a folder that is held."""
    spec, root = FORMATS[format], outputs.folder
    written = [path.relative_to(root).as_posix() for path in spec.write(dataset, root)]
    if spec.pictures is not None and pictures != "none":
        for image in dataset.images:
            target = root / spec.pictures / image.source.picture_name
            _bring(image.source.path, target, link=pictures == "link")
            if pictures == "link":  # another program may change the image, and so the link
                outputs.made(target, growing=True)
            written.append(target.relative_to(root).as_posix())
    _forget_the_rest(outputs, format, written)
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


def _forget_the_rest(outputs: Outputs, format: str, written: list[str]) -> None:
    """Remove what the list of the last call has and `written` has not; keep the new list."""
    path = outputs.state / f"{format}.files.json"
    former = json.loads(path.read_text("utf-8")) if path.exists() else []
    outputs.remove_stale(set(outputs.names) - (set(former) - set(written)))
    write_text(path, json.dumps(sorted(set(written)), indent=0))
