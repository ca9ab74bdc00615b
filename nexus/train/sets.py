"""The datasets of a run: what it learns from, and what is held out to be measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from nexus.core.errors import InputError
from nexus.data.truth import open_images
from nexus.data.truth.labelled import LabelledImage, LabelledVideo, held_out_split
from nexus.train.config import SetSettings, SetsSettings

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
            if entry.held_out_split is None:
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
    return learnt, held
