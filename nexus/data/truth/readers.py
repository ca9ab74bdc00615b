"""The datasets that can be read by name."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from nexus.core.choices import entry
from nexus.core.errors import InputError, NexusError
from nexus.core.files import as_path
from nexus.data.truth import instances, label_images, medical, sa_v, video_labels
from nexus.data.truth.labelled import LabelledImage, LabelledVideo
from nexus.data.truth.layout import object_of


@dataclass(frozen=True)
class Reader:
    """One dataset.

    Attributes:
        kind: What it holds.
        note: What its objects are.
        open: Takes the root and a split, and returns the images or videos.
        page: Where its authors describe the layout; empty for our own.
        split: The one to open where none is asked for; None where that is not by its name.
    """

    kind: Literal["images", "videos"]
    note: str
    open: Callable[[Path, Any], Sequence[LabelledImage] | Sequence[LabelledVideo]]
    page: str = ""
    split: str | None = None


# Where the authors describe their layouts.
_COCO = "https://cocodataset.org/#format-data"
_LVIS = "https://www.lvisdataset.org/dataset"
_ADE = "https://github.com/CSAILVision/ADE20K"
_CITY = "https://github.com/mcordts/cityscapesScripts"
_SA1B = "https://github.com/facebookresearch/segment-anything#dataset"
_RITM = "https://github.com/SamsungLabs/ritm_interactive_segmentation#datasets"
_MEDSAM = "https://github.com/bowang-lab/MedSAM"
_DECATHLON = "http://medicaldecathlon.com"
_DAVIS = "https://davischallenge.org/davis2017/code.html"
_YOUTUBE = "https://youtube-vos.org/dataset/vos"
_MOSE = "https://github.com/henghuiding/MOSE-api"
_SA_V = "https://github.com/facebookresearch/sam2/tree/main/sav_dataset"

_interactive, _bordered = label_images.open_interactive, label_images.bordered_object
_grabcut = partial(_interactive, ("data_GT", "boundary_GT"), _bordered)
_berkeley = partial(_interactive, ("images", "masks"), _bordered)
_davis = partial(_interactive, ("img", "gt"), object_of)
_ONE, _FIRST = "one object an image", "objects of the first frame"
_ENTERING, _ANY = "objects from their first frame", "instances; classes of scene parsing"

_FOLDERS_TRIED, _FOLDERS_NAMED = 50, 3
_SLOW = (medical.open_medsam_npz, medical.open_nifti)  # they read all masks to find slices

READERS: dict[str, Reader] = {
    "folder": Reader("images", "images and label maps of the same names", label_images.open_folder),
    "coco": Reader("images", "instances", instances.open_coco, _COCO),
    "lvis": Reader("images", "instances", instances.open_lvis, _LVIS),
    "ade20k": Reader("images", _ANY, label_images.open_ade20k, _ADE, "validation"),
    "cityscapes": Reader("images", "instances", label_images.open_cityscapes, _CITY, "val"),
    "sa1b": Reader("images", "automatic masks", instances.open_sa1b, _SA1B),
    "grabcut": Reader("images", _ONE, _grabcut, _RITM),
    "berkeley": Reader("images", _ONE, _berkeley, _RITM),
    "davis_interactive": Reader("images", _ONE, _davis, _RITM),
    "medsam_npz": Reader("images", "labels of slices", medical.open_medsam_npz, _MEDSAM),
    "nifti": Reader("images", "labels of slices", medical.open_nifti, _DECATHLON, "Tr"),
    "davis2016": Reader("videos", "one object a video", video_labels.open_davis2016, _DAVIS, "val"),
    "davis2017": Reader("videos", _FIRST, video_labels.open_davis2017, _DAVIS, "val"),
    "youtube_vos": Reader("videos", _ENTERING, video_labels.open_youtube_vos, _YOUTUBE),
    "mose": Reader("videos", _FIRST, video_labels.open_mose, _MOSE),
    "sa_v": Reader("videos", f"{_ENTERING}; may overlap", sa_v.open_sa_v, _SA_V, "val"),
}
"""The datasets by name."""


def open_images(
    name: str, root: str | os.PathLike[str], *, split: str | None = None
) -> list[LabelledImage]:
    """Return the images of a dataset; pixels and masks are read when asked for.

    Args:
        name: One of `READERS` that holds images.
        root: Its folder, laid out as its authors publish it.
        split: As its authors call it; None for the usual one.

    Raises:
        InputError: No such dataset, or one of videos; or the folder is not as published: a file,
            folder or split is missing, an image has no mask, or there is nothing in it.
        MissingDependencyError: A package that reads it is not installed.
    """
    return _opened(name, "images", root, split)


def open_videos(
    name: str, root: str | os.PathLike[str], *, split: str | None = None
) -> list[LabelledVideo]:
    """Return the videos of a dataset; frames and masks are read when asked for.

    Arguments and errors are those of `open_images`, with videos for images.
    """
    return _opened(name, "videos", root, split)


def _opened(name: str, kind: str, root: str | os.PathLike[str], split: str | None) -> list[Any]:
    reader = entry(READERS, name, "a dataset")
    if reader.kind != kind:
        raise InputError(
            f"expected a dataset of {kind}, got {name!r}, which holds {reader.kind}",
            hint=f"open_{reader.kind}({name!r}, ...) opens it",
        )
    chosen, folder = reader.split if split is None else split, as_path(root, "a dataset")
    try:
        return list(reader.open(folder, chosen))
    except InputError as error:
        below = _sets_below(reader, folder, chosen)
        if not below:
            raise
        raise InputError(
            f"{error.message}; a level below there are {', '.join(map(str, below))}",
            hint=f"each of these is a set of its own: give {str(below[0])!r}",
        ) from error


def _sets_below(reader: Reader, root: Path, split: str | None) -> list[Path]:
    """Return the first folders in a folder that a reader can open."""
    found: list[Path] = []
    if reader.open in _SLOW or not root.is_dir():
        return found
    for folder in sorted(path for path in root.iterdir() if path.is_dir())[:_FOLDERS_TRIED]:
        with contextlib.suppress(NexusError, OSError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if reader.open(folder, split):
                found.append(folder)
        if len(found) == _FOLDERS_NAMED:
            break
    return found
