"""The datasets that can be read by name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from nexus.core.errors import InputError
from nexus.data.truth.coco_lvis import open_coco, open_lvis
from nexus.data.truth.folders import (
    open_berkeley,
    open_davis_interactive,
    open_folder,
    open_grabcut,
)
from nexus.data.truth.labelled import LabelledImage, LabelledVideo
from nexus.data.truth.medical import open_medsam_npz, open_nifti
from nexus.data.truth.sa_1b import open_sa1b
from nexus.data.truth.sa_v import open_sa_v
from nexus.data.truth.semantic import open_ade20k, open_cityscapes
from nexus.data.truth.vos import open_davis2016, open_davis2017, open_mose, open_youtube_vos


@dataclass(frozen=True)
class Reader:
    """One dataset.

    Attributes:
        kind: What it holds.
        note: What its objects are.
        open: Takes the root and a split or None, and returns the images or videos.
        page: Where its authors describe the layout; empty for our own.
    """

    kind: Literal["images", "videos"]
    note: str
    open: Callable[[Path, str | None], Sequence[LabelledImage] | Sequence[LabelledVideo]]
    page: str = ""


_RITM = "https://github.com/SamsungLabs/ritm_interactive_segmentation#datasets"
_DAVIS = "https://davischallenge.org/davis2017/code.html"

READERS: dict[str, Reader] = {
    "folder": Reader("images", "images and label maps of the same names", open_folder),
    "coco": Reader("images", "instances", open_coco, "https://cocodataset.org/#format-data"),
    "lvis": Reader("images", "instances", open_lvis, "https://www.lvisdataset.org/dataset"),
    "ade20k": Reader(
        "images",
        "instances; classes of scene parsing",
        open_ade20k,
        "https://github.com/CSAILVision/ADE20K",
    ),
    "cityscapes": Reader(
        "images", "instances", open_cityscapes, "https://github.com/mcordts/cityscapesScripts"
    ),
    "sa1b": Reader(
        "images",
        "automatic masks",
        open_sa1b,
        "https://github.com/facebookresearch/segment-anything#dataset",
    ),
    "grabcut": Reader("images", "one object an image", open_grabcut, _RITM),
    "berkeley": Reader("images", "one object an image", open_berkeley, _RITM),
    "davis_interactive": Reader("images", "one object an image", open_davis_interactive, _RITM),
    "medsam_npz": Reader(
        "images",
        "labels of slices",
        open_medsam_npz,
        "https://github.com/bowang-lab/MedSAM",
    ),
    "nifti": Reader("images", "labels of slices", open_nifti, "http://medicaldecathlon.com"),
    "davis2016": Reader("videos", "one object a video", open_davis2016, _DAVIS),
    "davis2017": Reader("videos", "objects of the first frame", open_davis2017, _DAVIS),
    "youtube_vos": Reader(
        "videos",
        "objects from their first frame",
        open_youtube_vos,
        "https://youtube-vos.org/dataset/vos",
    ),
    "mose": Reader(
        "videos",
        "objects of the first frame",
        open_mose,
        "https://github.com/henghuiding/MOSE-api",
    ),
    "sa_v": Reader(
        "videos",
        "objects from their first frame; may overlap",
        open_sa_v,
        "https://github.com/facebookresearch/sam2/tree/main/sav_dataset",
    ),
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
        InputError: No such dataset, or one of videos; or the folder is not as published.
        MissingDependencyError: A package that reads it is not installed.
    """
    return cast("list[LabelledImage]", list(_reader(name, "images").open(Path(root), split)))


def open_videos(
    name: str, root: str | os.PathLike[str], *, split: str | None = None
) -> list[LabelledVideo]:
    """Return the videos of a dataset; frames and masks are read when asked for.

    Args:
        name: One of `READERS` that holds videos.
        root: Its folder, laid out as its authors publish it.
        split: As its authors call it; None for the usual one.

    Raises:
        InputError: No such dataset, or one of images; or the folder is not as published.
    """
    return cast("list[LabelledVideo]", list(_reader(name, "videos").open(Path(root), split)))


def _reader(name: str, kind: str) -> Reader:
    reader = READERS.get(name)
    if reader is None:
        close = difflib.get_close_matches(name, READERS, n=1)
        raise InputError(
            f"expected a dataset among {', '.join(READERS)}, got {name!r}",
            hint=f"did you mean {close[0]!r}?" if close else None,
        )
    if reader.kind != kind:
        raise InputError(
            f"expected a dataset of {kind}, got {name!r}, which holds {reader.kind}",
            hint=f"open_{reader.kind}({name!r}, ...) opens it",
        )
    return reader
