"""Videos with label maps: DAVIS, YouTube-VOS and MOSE.

DAVIS 2017: https://davischallenge.org/davis2017/code.html (`JPEGImages/480p`, `Annotations/480p`,
`ImageSets/2017/val.txt` with names of sequences); 2016 of the same site, with one object and
`ImageSets/480p/val.txt` naming pairs of frame and mask. YouTube-VOS: https://youtube-vos.org/dataset/vos
(`valid/meta.json` gives the frames of each object, which need not begin with the video). MOSE:
https://github.com/henghuiding/MOSE-api (`valid/JPEGImages`, `valid/Annotations`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError, VideoError
from nexus.core.json_text import read_document, require
from nexus.data.truth.labelled import LabelledVideo
from nexus.data.truth.layout import (
    inside,
    labels_of,
    object_of,
    pictures_in,
    present,
    read_names,
    some,
)

_DAVIS_HINT = (
    "the root has JPEGImages/480p, Annotations/480p and ImageSets/YEAR/SPLIT.txt; "
    "splits are train and val"
)
_YOUTUBE_HINT = "the root has SPLIT/JPEGImages, SPLIT/Annotations and SPLIT/meta.json"
_MOSE_HINT = "the root has SPLIT/JPEGImages and SPLIT/Annotations; splits are train and valid"
_VOID = 255
_Sequence: TypeAlias = tuple[str, tuple[Path, ...], dict[int, Path]]


def open_davis2017(root: Path, split: str) -> list[LabelledVideo]:
    """Return the sequences of DAVIS 2017, in the order of the list; all objects of the first mask.

    Splits are train, val and test-dev.
    """
    listed = present(root, _DAVIS_HINT) / "ImageSets" / "2017" / f"{split}.txt"
    return [_video(*sequence, _without_void) for sequence in _davis_sequences(root, listed)]


def open_davis2016(root: Path, split: str) -> list[LabelledVideo]:
    """Return the sequences of DAVIS 2016, in the order of the list; one object, with the id 1.

    Where `ImageSets/480p` is missing, `ImageSets/2016` of the 2017 package is read, whose masks
    tell objects apart: they are taken as one, as in 2016. Splits are train and val.
    """
    pairs = present(root, _DAVIS_HINT) / "ImageSets" / "480p" / f"{split}.txt"
    names = root / "ImageSets" / "2016" / f"{split}.txt"
    if not pairs.is_file() and names.is_file():
        return [_one_object(*sequence) for sequence in _davis_sequences(root, names)]
    videos: dict[str, tuple[list[Path], dict[int, Path]]] = {}
    text = present(pairs, _DAVIS_HINT, "file").read_text("utf-8")
    for line in filter(str.strip, text.splitlines()):
        columns = line.split()
        if len(columns) < 2:
            raise InputError(
                f"expected a frame and a mask on each line of {str(pairs)!r}, got {line!r}",
                hint=_DAVIS_HINT,
            )
        # The lists write a slash first, though they mean the root of the data set.
        frame, mask = (inside(root, column.lstrip("/"), pairs) for column in columns[:2])
        frames, masks = videos.setdefault(frame.parent.name, ([], {}))
        masks[len(frames)] = present(mask, _DAVIS_HINT, "file")
        frames.append(present(frame, _DAVIS_HINT, "file"))
    return [
        _one_object(name, tuple(frames), masks)
        for name, (frames, masks) in some(list(videos.items()), "frames", pairs, _DAVIS_HINT)
    ]


def open_youtube_vos(root: Path, split: str | None) -> list[LabelledVideo]:
    """Return the videos of YouTube-VOS, in the order of their names.

    An object is given on the first of the frames that `meta.json` lists for it. Of the validation
    set, masks are there for such frames alone. Splits are train and valid; None is valid, or the
    root itself where it is the folder of `JPEGImages`.
    """
    top = _top(root, split, _YOUTUBE_HINT)
    about = present(top / "meta.json", _YOUTUBE_HINT, "file")
    listed = read_document(about, videos=dict)["videos"]
    videos = []
    for name in sorted(listed):
        require(listed[name], about, objects=dict)
        _, frames, masks = _sequence(top, "", name, about, _YOUTUBE_HINT)
        numbers = {frame.stem: number for number, frame in enumerate(frames)}
        first = {}
        for key, value in listed[name]["objects"].items():
            require(value, about, frames=list)
            stem = min(map(str, value["frames"]), default="")
            if not key.isdigit() or numbers.get(stem) not in masks:
                raise VideoError(
                    f"expected {str(about)!r} to list frames with a mask for object {key!r} of "
                    f"{name!r}, got {stem!r} first",
                    hint=_YOUTUBE_HINT,
                )
            first[int(key)] = numbers[stem]
        videos.append(_video(name, frames, masks, first=first))
    return videos


def open_mose(root: Path, split: str | None) -> list[LabelledVideo]:
    """Return the videos of MOSE, in the order of their names; all objects of the first mask.

    Splits as in `open_youtube_vos`.
    """
    top = _top(root, split, _MOSE_HINT)
    pictures = present(top / "JPEGImages", _MOSE_HINT)
    videos = []
    for folder in sorted(path for path in pictures.iterdir() if path.is_dir()):
        videos.append(_video(*_sequence(top, "", folder.name, pictures, _MOSE_HINT)))
    return some(videos, "videos", pictures, _MOSE_HINT)


def frames_of(folder: Path, hint: str) -> tuple[Path, ...]:
    """Return the frames of a folder in the order of their numbers.

    Raises:
        InputError: There is no such folder.
        VideoError: There are no frames in it.
    """
    frames = pictures_in(present(folder, hint))
    if not frames:
        raise VideoError(f"expected frames in {str(folder)!r}, got none", hint=hint)
    numbers = {stem: int(stem) if stem.isdecimal() else math.inf for stem in frames}
    return tuple(frames[stem] for stem in sorted(frames, key=numbers.__getitem__))


def masks_of(folder: Path, frames: tuple[Path, ...], hint: str) -> dict[int, Path]:
    """Return the masks of a folder by the number of their frame, ascending.

    Raises:
        InputError: There is no such folder.
        VideoError: There are no masks in it, or one has no frame of its name.
    """
    numbers = {frame.stem: number for number, frame in enumerate(frames)}
    masks = pictures_in(present(folder, hint))
    strays = [path for stem, path in masks.items() if stem not in numbers]
    if strays or not masks:
        raise VideoError(
            f"expected masks in {str(folder)!r} for frames of {str(frames[0].parent)!r}, "
            f"got {repr(strays[0].name) + ', which has none' if strays else 'none'}",
            hint="a mask has the name of its frame",
        )
    return dict(sorted((numbers[stem], path) for stem, path in masks.items()))


def _top(root: Path, split: str | None, hint: str) -> Path:
    if split is None and (root / "JPEGImages").is_dir():
        return root
    return present(root / ("valid" if split is None else split), hint)


def _sequence(top: Path, inner: str, name: str, source: Path, hint: str) -> _Sequence:
    """Return a sequence that `source` names: its name, its frames, and its masks by frame."""
    frames = frames_of(inside(top / "JPEGImages" / inner, name, source), hint)
    return name, frames, masks_of(inside(top / "Annotations" / inner, name, source), frames, hint)


def _davis_sequences(root: Path, listed: Path) -> list[_Sequence]:
    names = read_names(listed, _DAVIS_HINT)
    return [_sequence(root, "480p", name, listed, _DAVIS_HINT) for name in names]


def _one_object(name: str, frames: tuple[Path, ...], masks: dict[int, Path]) -> LabelledVideo:
    return _video(name, frames, masks, object_of, {1: min(masks)})  # some masks are in colour


def _video(
    name: str,
    frames: tuple[Path, ...],
    masks: dict[int, Path],
    read: Callable[[Path, Path], NDArray[np.int32]] = labels_of,
    first: dict[int, int] | None = None,
) -> LabelledVideo:
    """Return a video; its objects are those of its first mask where `first` does not say."""
    load = partial(_labels_at, frames, masks, read)
    if first is None:
        start = min(masks)
        first = {int(value): start for value in np.unique(load(start)) if value > 0}
    return LabelledVideo(name, frames, tuple(masks), first, load)


def _labels_at(
    frames: tuple[Path, ...],
    masks: dict[int, Path],
    read: Callable[[Path, Path], NDArray[np.int32]],
    index: int,
) -> NDArray[np.int32]:
    return read(frames[index], masks[index])


def _without_void(image: Path, mask: Path) -> NDArray[np.int32]:
    labels = labels_of(image, mask)
    return np.where(labels == _VOID, -1, labels)
