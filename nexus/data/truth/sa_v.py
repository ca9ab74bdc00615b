"""SA-V: videos at 24 frames a second with masks of every fourth frame, which may overlap.

The layout: https://github.com/facebookresearch/sam2/tree/main/sav_dataset. `sav_val` and `sav_test`
have frames and a PNG for each object and frame; of `sav_train` there are JSON files of RLE, made by
people (`*_manual.json`) or a model (`*_auto.json`), beside the videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError, VideoError
from nexus.core.json_text import read_document
from nexus.data.images.masks import read_label_map
from nexus.data.truth.labelled import LabelledVideo
from nexus.data.truth.layout import (
    check_size,
    image_size_hw,
    inside,
    kept,
    present,
    read_names,
    some,
)
from nexus.data.truth.video_labels import frames_of, masks_of
from nexus.ops.labels import largest_first, paint_labels
from nexus.ops.rle import decode_rle, rle_area

_HINT = (
    "sav_val and sav_test have sav_SPLIT.txt, JPEGImages_24fps/VIDEO/00000.jpg and "
    "Annotations_6fps/VIDEO/000/00000.png"
)
_TRAIN_HINT = (
    "sav_train has VIDEO_manual.json or VIDEO_auto.json; put the frames of each VIDEO.mp4 beside "
    "them: ffmpeg -i VIDEO.mp4 -start_number 0 -q:v 2 JPEGImages_24fps/VIDEO/%05d.jpg"
)
_FRAMES = "JPEGImages_24fps"
_EVERY = 4
_Mask: TypeAlias = tuple[int, NDArray[np.bool_], Path]  # with its object and its file
_Read: TypeAlias = Callable[[int], Iterator[_Mask]]
_KINDS = {"train": "manual", "train_manual": "manual", "train_auto": "auto"}


def open_sa_v(root: Path, split: str) -> list[LabelledVideo]:
    """Return the videos of SA-V, in the order of the list or of their names.

    The first object is called 000 there and has the id 1 here, since 0 is the background of a label
    map. An object is given on the first annotated frame it is seen on; one never seen is left out.
    The root is the folder of the split, or of `sav_val`, `sav_test` and `sav_train`; splits are
    val, test, train (made by people) and train_auto (by a model).
    """
    if split not in ("val", "test", *_KINDS):
        raise InputError(
            f"expected a split among val, test, train and train_auto, got {split!r}", hint=_HINT
        )
    inner = present(root, _HINT) / f"sav_{split.partition('_')[0]}"
    top = inner if inner.is_dir() else root
    return _open_train(top, _KINDS[split]) if split in _KINDS else _open_pngs(top, split)


def _open_pngs(top: Path, split: str) -> list[LabelledVideo]:
    listed = top / f"sav_{split}.txt"
    videos = []
    for name in read_names(listed, _HINT):
        frames = frames_of(inside(top / _FRAMES, name, listed), _HINT)
        folder = present(inside(top / "Annotations_6fps", name, listed), _HINT)
        objects = {
            int(path.name) + 1: masks_of(path, frames, _HINT)
            for path in sorted(folder.iterdir())
            if path.is_dir() and path.name.isdecimal()
        }
        if not objects:
            raise VideoError(f"expected objects in {str(folder)!r}, got none", hint=_HINT)
        first: dict[int, int] = {}
        for number, masks in objects.items():
            seen = (index for index, path in masks.items() if read_label_map(path).labels.any())
            first.update((number, index) for index in islice(seen, 1))
        annotated = sorted({index for masks in objects.values() for index in masks})
        videos.append(_video(name, frames, annotated, first, partial(_png_masks, objects)))
    return videos


def _open_train(top: Path, kind: str) -> list[LabelledVideo]:
    videos = []
    for path in sorted(top.rglob(f"*_{kind}.json")):
        name = path.name.removesuffix(f"_{kind}.json")
        places = [place / _FRAMES / name for place in (path.parent, top)]
        frames = frames_of(next((p for p in places if p.is_dir()), places[0]), _TRAIN_HINT)
        numbers = {int(f.stem): i for i, f in enumerate(frames) if f.stem.isdecimal()}
        rows = _masklet(path)
        # Row k is of frame 4 k of the video; frames may be all of these or the annotated alone.
        annotated = {numbers[_EVERY * k]: k for k in range(len(rows)) if _EVERY * k in numbers}
        if not annotated:
            raise VideoError(
                f"expected frames of the numbers 0, 4, 8, ... for {str(path)!r}, got none",
                hint=_TRAIN_HINT,
            )
        first: dict[int, int] = {}
        for index, row in annotated.items():
            for number, rle in enumerate(rows[row], 1):
                if rle is not None and number not in first and rle_area(rle):
                    first[number] = index
        videos.append(_video(name, frames, annotated, first, partial(_rle_masks, annotated, path)))
    return some(videos, f"*_{kind}.json files", top, _TRAIN_HINT)


def _video(
    name: str,
    frames: tuple[Path, ...],
    annotated: Iterable[int],
    first: dict[int, int],
    read: _Read,
) -> LabelledVideo:
    masks = partial(_checked, frames, read)
    labels = partial(_flattened, frames, masks)
    return LabelledVideo(name, frames, tuple(annotated), first, labels, masks)


def _flattened(
    frames: tuple[Path, ...], read: Callable[[int], dict[int, NDArray[np.bool_]]], index: int
) -> NDArray[np.int32]:
    """Draw the masks of a frame into one label map, the smaller on top."""
    layers = list(read(index).items())
    order = largest_first([int(np.count_nonzero(mask)) for _, mask in layers])
    return paint_labels((layers[place] for place in order), image_size_hw(frames[index]))


def _checked(frames: tuple[Path, ...], read: _Read, index: int) -> dict[int, NDArray[np.bool_]]:
    """Read the masks of a frame by object, which have to fit it."""
    masks = {}
    for number, mask, source in read(index):
        check_size(mask.shape, frames[index], source)
        masks[number] = mask
    return masks


def _png_masks(objects: Mapping[int, dict[int, Path]], index: int) -> Iterator[_Mask]:
    for number, paths in objects.items():
        if index in paths:
            yield number, read_label_map(paths[index]).labels > 0, paths[index]


def _rle_masks(annotated: Mapping[int, int], path: Path, index: int) -> Iterator[_Mask]:
    for number, rle in enumerate(_masklet(path)[annotated[index]], 1):
        if rle is not None:
            yield number, decode_rle(rle), path


@kept
def _masklet(path: Path) -> list[list[dict[str, Any] | None]]:
    rows: list[list[dict[str, Any] | None]] = read_document(path, masklet=list)["masklet"]
    if not all(isinstance(row, list) for row in rows):
        raise InputError(
            f"expected masklet of {str(path)!r} to be a list of frames, each a list of RLE",
            hint="the file is of another format, or damaged",
        )
    return rows
