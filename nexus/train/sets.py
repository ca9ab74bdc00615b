"""The datasets of a run: what it learns from, and what is held out to be measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TextIO, TypeAlias, TypeVar

from nexus.core.errors import InputError
from nexus.core.words import counted
from nexus.data.formats.dataset import is_picture
from nexus.data.truth import open_images
from nexus.data.truth.labelled import LabelledImage, LabelledVideo, held_out_split
from nexus.train.config import DataSettings, RunSettings, SetSettings, SetsSettings
from nexus.train.groups import group_split

_Labelled = TypeVar("_Labelled", LabelledImage, LabelledVideo)
Given: TypeAlias = "tuple[Sequence[Any], Sequence[Any]]"
"""Images or videos that a caller brings: to learn from, and held out."""


@dataclass(frozen=True)
class SetItem(Generic[_Labelled]):
    """An image or a video of one of the run's sets.

    Attributes:
        set_title: The set it is of.
        labelled: How to read it.
    """

    set_title: str
    labelled: _Labelled

    @property
    def name(self) -> str:
        """Set and name, unique in the run."""
        return f"{self.set_title}/{self.labelled.name}"


_Items: TypeAlias = "list[SetItem[_Labelled]]"
_Run = TypeVar("_Run", bound=RunSettings)
_PARTS = ("images", "masks")
_LAYOUT = (
    "a set is a folder with images and masks in it, which have the same names; "
    "--set data.root=DIR names one, or a folder of several"
)


def with_found_sets(settings: _Run, messages: TextIO) -> _Run:
    """Return settings of a run whose sets are named, found in its root if the settings name none.

    What was found is told on `messages`, so that a wrong folder is noticed before it is learnt.

    Raises:
        InputError: There are none, see `found_sets`.
    """
    data = settings.data
    if not isinstance(data, DataSettings) or data.sets:
        return settings
    sets = found_sets(data.root)
    names = ", ".join(each.title for each in sets)
    print(f"train: {counted(len(sets), 'set')} in {data.root!r}: {names}", file=messages)
    return replace(settings, data=replace(data, sets=sets))


def found_sets(root: str) -> tuple[SetSettings, ...]:
    """Return the sets in a folder: itself, if it has `images` and `masks`, or its folders that do.

    They are in the order of their names, to be read by the reader 'folder'.

    Raises:
        InputError: No such folder, or no set there; what is there is said.
    """
    top = Path(root)
    if not top.is_dir():
        raise InputError(f"expected a folder of images and masks, got {root!r}, which is no folder")
    if _is_set(top):
        return (SetSettings(".", name=top.resolve().name or "images"),)
    below = [path for path in sorted(top.iterdir(), key=lambda p: p.name) if path.is_dir()]
    sets = tuple(SetSettings(path.name) for path in below if _is_set(path))
    if not sets:
        raise InputError(
            f"expected images and masks in {root!r}, or folders with both, got {_seen(top, below)}",
            hint=_LAYOUT,
        )
    return sets


def _is_set(folder: Path) -> bool:
    return all((folder / part).is_dir() for part in _PARTS)


def _seen(top: Path, folders: Sequence[Path]) -> str:
    """Say what is in a folder without a set."""
    pictures = sum(is_picture(path) for path in top.iterdir() if path.is_file())
    half = [f for f in (top, *folders) for part in _PARTS if (f / part).is_dir()]
    if half:
        (missing,) = (part for part in _PARTS if not (half[0] / part).is_dir())
        return f"{str(half[0])!r} without the folder {missing!r}"
    shown = ", ".join(repr(path.name) for path in folders[:4]) + (", ..." if folders[4:] else "")
    parts = [f"the folders {shown}"] if len(folders) > 1 else [f"the folder {shown}"] * len(folders)
    if pictures:
        parts.append(f"{pictures} picture{'s' if pictures > 1 else ''}")
    return " and ".join(parts) or "an empty folder"


def split_sets(
    opened: Callable[..., Sequence[_Labelled]],
    settings: SetsSettings | None,
    given: Given | None = None,
) -> tuple[_Items[_Labelled], _Items[_Labelled]]:
    """Return the images or videos to learn from and those held out, each set by name.

    `opened` is `nexus.data.truth.open_images` or `open_videos`; `given` are taken instead.

    Raises:
        InputError: An unknown reader, a folder of another layout, a set without images, or neither
            sets nor images.
    """
    noun = "images" if opened is open_images else "videos"

    def read(entry: SetSettings, root: str, split: str | None) -> Sequence[_Labelled]:
        folder = Path(root) / entry.folder
        items = opened(entry.reader, folder, split=split)
        if not items:
            raise InputError(
                f"expected {noun} in the set {entry.title!r}, got none in {str(folder)!r}"
            )
        return sorted(items, key=lambda item: item.name)

    if given is not None:
        title = "given" if settings is None else settings.sets[0].title
        parts = [(title, given)]
    elif settings is not None:
        parts = []
        for entry in settings.sets:
            items = read(entry, settings.root, entry.split)
            if entry.held_out_split is None and settings.groups is not None:
                split = group_split(items, settings.held_out, settings.groups, entry.title)
                parts.append((entry.title, split))
            elif entry.held_out_split is None:
                parts.append((entry.title, held_out_split(items, settings.held_out)))
            else:
                held_out = read(entry, settings.root, entry.held_out_split)
                parts.append((entry.title, (items, held_out)))
    else:
        raise InputError(
            f"expected data.sets of {noun}, or {noun} of your own, got neither",
            hint=f"fine_tune(settings, out, data=(learnt, held_out)) takes lists of {noun}",
        )
    learnt, held = (
        [SetItem(title, item) for title, pair in parts for item in pair[which]] for which in (0, 1)
    )
    if given is None and settings is not None and settings.held_out and not held:
        raise InputError(
            f"expected enough {noun} to hold some out, got {len(learnt)} in all, of which "
            f"data.held_out {settings.held_out:g} is none in any set",
            hint=f"give more {noun} or a larger data.held_out; with 0 nothing is measured",
        )
    return learnt, held
