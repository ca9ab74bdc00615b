"""SA-V: videos at 24 frames a second with masks of every fourth frame, which may overlap.

The layout: https://github.com/facebookresearch/sam2/tree/main/sav_dataset. `sav_val` and `sav_test`
have frames and a PNG for each object and frame; of `sav_train` there are JSON files of RLE, made by
people (`*_manual.json`) or a model (`*_auto.json`), beside the videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError, VideoError
from nexus.data.images.loading import read_mask
from nexus.data.truth.labelled import LabelledVideo
from nexus.data.truth.layout import (
    check_size,
    folder_at,
    image_size_hw,
    inside,
    read_document,
    read_names,
)
from nexus.data.truth.vos import frames_of, masks_of
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
_KINDS = {"train": "manual", "train_manual": "manual", "train_auto": "auto"}


def open_sa_v(root: Path, split: str | None = None) -> list[LabelledVideo]:
    """Return the videos of SA-V, in the order of the list or of their names.

    The first object is called 000 there and has the id 1 here, since 0 is the background of a label
    map. An object is given on the first annotated frame it is seen on; one never seen is left out.

    Args:
        root: The folder of the split, or of `sav_val`, `sav_test` and `sav_train`.
        split: val, test, train (made by people) or train_auto (by a model); None is val.

    Raises:
        InputError: The folders are not as published, or another split.
    """
    chosen = "val" if split is None else split
    if chosen not in ("val", "test", *_KINDS):
        raise InputError(
            f"expected a split among val, test, train and train_auto, got {chosen!r}", hint=_HINT
        )
    folder_at(root, _HINT)
    inner = root / f"sav_{chosen.partition('_')[0]}"
    top = inner if inner.is_dir() else root
    return _open_train(top, _KINDS[chosen]) if chosen in _KINDS else _open_pngs(top, chosen)


def _open_pngs(top: Path, split: str) -> list[LabelledVideo]:
    listed = top / f"sav_{split}.txt"
    videos = []
    for name in read_names(listed, _HINT):
        frames = frames_of(inside(top / _FRAMES, name, listed), _HINT)
        folder = folder_at(inside(top / "Annotations_6fps", name, listed), _HINT)
        objects = {
            int(path.name) + 1: masks_of(path, frames, _HINT)
            for path in sorted(folder.iterdir())
            if path.is_dir() and path.name.isdecimal()
        }
        if not objects:
            raise VideoError(f"expected objects in {str(folder)!r}, got none", hint=_HINT)
        first = {}
        for number, masks in objects.items():
            seen = next((index for index, path in masks.items() if read_mask(path).any()), None)
            if seen is not None:
                first[number] = seen
        annotated = tuple(sorted({index for masks in objects.values() for index in masks}))
        read = partial(_png_masks, frames, objects)
        videos.append(_video(name, frames, annotated, first, read))
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
        first: dict[int, int] = {}
        for index, row in annotated.items():
            for number, rle in enumerate(rows[row], 1):
                if rle is not None and number not in first and rle_area(rle):
                    first[number] = index
        if not annotated:
            raise VideoError(
                f"expected frames of the numbers 0, 4, 8, ... for {str(path)!r}, got none",
                hint=_TRAIN_HINT,
            )
        read = partial(_rle_masks, frames, annotated, path)
        videos.append(_video(name, frames, tuple(annotated), first, read))
    if not videos:
        raise InputError(
            f"expected *_{kind}.json files in {str(top)!r}, got none", hint=_TRAIN_HINT
        )
    return videos


def _video(
    name: str,
    frames: tuple[Path, ...],
    annotated: tuple[int, ...],
    first: dict[int, int],
    read: partial[dict[int, NDArray[np.bool_]]],
) -> LabelledVideo:
    labels = partial(_flattened, frames, read)
    return LabelledVideo(name, frames, annotated, first, labels, read)


def _flattened(
    frames: tuple[Path, ...], read: partial[dict[int, NDArray[np.bool_]]], index: int
) -> NDArray[np.int32]:
    """Draw the masks of a frame into one label map, the smaller on top."""
    masks = read(index)
    labels = np.zeros(image_size_hw(frames[index]), np.int32)
    for number in sorted(masks, key=lambda number: -np.count_nonzero(masks[number])):
        labels[masks[number]] = number
    return labels


def _png_masks(
    frames: tuple[Path, ...], objects: Mapping[int, dict[int, Path]], index: int
) -> dict[int, NDArray[np.bool_]]:
    masks = {}
    for number, paths in objects.items():
        if index in paths:
            mask = read_mask(paths[index]) > 0
            check_size(mask.shape, frames[index], paths[index])
            masks[number] = mask
    return masks


def _rle_masks(
    frames: tuple[Path, ...], annotated: Mapping[int, int], path: Path, index: int
) -> dict[int, NDArray[np.bool_]]:
    masks = {}
    for number, rle in enumerate(_masklet(path)[annotated[index]], 1):
        if rle is not None:
            mask = decode_rle(rle)
            check_size(mask.shape, frames[index], path)
            masks[number] = mask
    return masks


def _masklet(path: Path) -> list[list[dict[str, Any] | None]]:
    return _kept_masklet(path, path.stat().st_mtime_ns)


# The frames of a video are asked for one after the other, and its file holds them all.
@lru_cache(maxsize=2)
def _kept_masklet(path: Path, stamp: int) -> list[list[dict[str, Any] | None]]:
    rows: list[list[dict[str, Any] | None]] = read_document(path, masklet=list)["masklet"]
    if not all(isinstance(row, list) for row in rows):
        raise InputError(
            f"expected masklet of {str(path)!r} to be a list of frames, each a list of RLE",
            hint="the file is of another format, or damaged",
        )
    return rows
