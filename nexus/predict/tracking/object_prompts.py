"""What a run over clips is told about objects: numbered boxes, points and masks, each on a frame.

In a JSON file a prompt is `{"object": 1, "frame": 0, "box": [x0, y0, x1, y1]}`, or has `points`
with `labels`, or `mask`, a path beside the file. The file holds a list of them for every clip, or
an object with such a list by the name of each clip. In a CSV file a row is a prompt, under the
names `clip`, `object`, `frame`, `x0`, `y0`, `x1`, `y1` (a box), `x`, `y`, `label` (a point) and
`mask`; columns and cells that say nothing are left out. Frames count from 0, the default.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import InputError, NexusWarning, PromptError, shown
from nexus.core.types import Prompt
from nexus.data.images.masks import read_label_map
from nexus.data.video.source import VideoSource

PromptsLike: TypeAlias = (
    "str | os.PathLike[str] | Iterable[ObjectPrompt] | Mapping[str, Iterable[ObjectPrompt]]"
)
"""Prompts for every clip, or by the name of a clip, or a file of either."""

_KEYS = ("frame", "object", "points", "labels", "box", "mask")
_COLUMNS = ("clip", "object", "frame", "x0", "y0", "x1", "y1", "x", "y", "label", "mask")


@dataclass(frozen=True)
class ObjectPrompt:
    """One object on one frame.

    Attributes:
        frame_index: The frame.
        object_id: The caller's number of the object, 1 or more.
        points: (N, 2) XY in pixels of the clip.
        labels: (N,), 1 on the object and 0 beside it; all 1 if not given.
        box: x0, y0, x1, y1 in pixels of the clip, right and bottom edge exclusive; or None.
        mask_file: A picture of the object's mask, or None.

    Raises:
        PromptError: Numbers that form no rows.
    """

    frame_index: int
    object_id: int
    points: Sequence[Sequence[float]] = ()
    labels: Sequence[float] = ()
    box: Sequence[float] | None = None
    mask_file: Path | None = None

    def __post_init__(self) -> None:
        labels = self.labels if len(self.labels) else [1] * len(self.points)
        shapes = {"points": self.points, "labels": labels, "box": self.box}
        for name, shape in shapes.items():  # plain lists, which a file gives back as they are
            try:
                object.__setattr__(self, name, np.asarray(shape).tolist())
            except ValueError as error:
                raise PromptError(f"expected {name} as numbers in rows, got {shape!r}") from error

    @classmethod
    def from_json(cls, record: Mapping[str, Any], folder: Path = Path()) -> ObjectPrompt:
        """Return what `as_json` wrote, or a person.

        Args:
            record: `object`; `frame` if it is not 0; `box`, `points` with or without `labels`, or
                `mask`.
            folder: What the path of a mask starts from.

        Raises:
            InputError: Other keys, a number that is none, or nothing said of the object.
        """
        frame, number = record.get("frame", 0), record.get("object", 0)
        points, box, mask = (record.get(key) or None for key in ("points", "box", "mask"))
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (frame, number))
        known = all(key in _KEYS for key in record)
        if not (known and whole and frame >= 0 and number >= 1 and (points or box or mask)):
            raise InputError(
                f"expected a prompt with object (1 or more), frame (0 or more) and a box, points "
                f"or a mask, got {dict(record)!r:.200}",
                hint=f"the keys are {', '.join(_KEYS)}",
            )
        labels = record.get("labels") or ()
        return cls(frame, number, points or (), labels, box, folder / mask if mask else None)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, without what it does not have."""
        mask = {"mask": str(self.mask_file)} if self.mask_file else {}
        return {"frame": self.frame_index, "object": self.object_id, **self._shapes(), **mask}

    def arguments(self) -> dict[str, Any]:
        """Return it as the arguments of a session's `add`, with the mask read.

        Raises:
            InputError: The mask cannot be read, or shows no such object.
        """
        prompt = self._shapes()
        if self.mask_file is not None:
            prompt = {"mask": read_object_mask(self.mask_file, self.object_id)}
        return {"frame_index": self.frame_index, "object_id": self.object_id, **prompt}

    def check(self, source: VideoSource) -> None:
        """Refuse a prompt that does not fit a clip, before a model is loaded for it.

        Raises:
            InputError: A frame that the clip does not have, a prompt outside its pixels, or a
                mask that cannot be used.
        """
        source.checked(self.frame_index)
        if self.mask_file is None:
            Prompt(**self._shapes()).check_within(source.size_hw)
            return
        mask = read_object_mask(self.mask_file, self.object_id)
        if mask.shape != source.size_hw:
            (height, width), (clip_height, clip_width) = mask.shape, source.size_hw
            raise PromptError(
                f"expected a mask of {clip_width} x {clip_height} pixels as the clip has, "
                f"got {str(self.mask_file)!r} with {width} x {height}"
            )

    def _shapes(self) -> dict[str, Any]:
        shapes = {"points": self.points, "labels": self.labels, "box": self.box}
        return {name: shape for name, shape in shapes.items() if shape}


def join_prompts(prompts: Iterable[ObjectPrompt]) -> list[ObjectPrompt]:
    """Return prompts in the order of frames, each object with one on a frame.

    Points of an object on a frame go together, and with its box there.

    Raises:
        InputError: Two boxes, or a mask with anything else, for an object on a frame.
    """
    joined: dict[tuple[int, int], ObjectPrompt] = {}
    for prompt in prompts:
        key = prompt.frame_index, prompt.object_id
        former = joined.get(key)
        if former is not None:
            where = f"for object {prompt.object_id} on frame {prompt.frame_index}"
            if former.mask_file is not None or prompt.mask_file is not None:
                raise InputError(
                    f"expected a mask alone {where}, got it with another prompt for them",
                    hint="a mask says all; give the box or the points on another frame",
                )
            if former.box and prompt.box:
                raise InputError(f"expected one box {where}, got two")
            prompt = dataclasses.replace(
                former,
                points=[*former.points, *prompt.points],
                labels=[*former.labels, *prompt.labels],
                box=former.box or prompt.box,
            )
        joined[key] = prompt
    return [joined[key] for key in sorted(joined)]


def prompts_of_clips(
    prompts: PromptsLike, clips: Sequence[tuple[str, str]]
) -> list[list[ObjectPrompt]]:
    """Return the prompts of each clip, joined.

    Args:
        prompts: The same for every clip, or by the name of a clip; or a file.
        clips: Both names of each clip: its file, and without the ending. Prompts may be under
            either, and those of other clips are passed over.

    Raises:
        InputError: A clip without prompts, or a file that does not hold any.
    """
    given = read_prompts(prompts) if isinstance(prompts, (str, os.PathLike)) else prompts
    several = given.values() if isinstance(given, Mapping) else (given,)
    for these in several:
        if not isinstance(these, Sequence) or not all(isinstance(p, ObjectPrompt) for p in these):
            raise InputError(
                f"expected prompts as a list of ObjectPrompt, or by clip, got {shown(these)}"
            )
    by_name = given if isinstance(given, Mapping) else {}
    everywhere = [] if isinstance(given, Mapping) else [*given]
    found = []
    for names in clips:
        own = [prompt for name in dict.fromkeys(names) for prompt in by_name.get(name, ())]
        if not (own or everywhere):
            there = ", ".join(map(repr, [*by_name][:8]))
            raise InputError(
                f"expected at least one prompt for every clip, got none for {names[0]!r}",
                hint=f"there are prompts for {there}" if there else None,
            )
        found.append(join_prompts(own or everywhere))
    return found


def read_prompts(
    path: str | os.PathLike[str],
) -> list[ObjectPrompt] | dict[str, list[ObjectPrompt]]:
    """Read a JSON or CSV file of prompts, as the module describes them.

    Returns:
        Prompts for every clip, or by the name of a clip.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8-sig")
        content = _csv_records(text) if file.suffix.lower() == ".csv" else json.loads(text)
        by_clip = content if isinstance(content, Mapping) else {"": content}
        read = {
            name: [ObjectPrompt.from_json(record, file.parent) for record in records]
            for name, records in by_clip.items()
        }
        return read if by_clip is content else read[""]
    except InputError as error:
        raise InputError(f"{str(file)!r}: {error.message}", hint=error.hint) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"expected a JSON or CSV file of prompts, got {str(file)!r}: {error}",
            hint='[{"object": 1, "frame": 0, "box": [80, 50, 240, 190]}] is one, for all clips; '
            '{"a.mp4": [...], "b.mp4": [...]} has others for each',
        ) from error


def _csv_records(text: str) -> Any:
    """Return the rows of a table as records, by clip if it has that column."""
    rows = csv.DictReader(text.splitlines(), skipinitialspace=True)
    unknown = [name for name in rows.fieldnames or [] if name not in _COLUMNS]
    if unknown or "object" not in (rows.fieldnames or []):
        raise InputError(
            f"expected a table with the column object, and others of {', '.join(_COLUMNS)}, got "
            f"{', '.join(rows.fieldnames or [])}"
        )
    by_clip: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(rows, 2):
        cells = {name: cell.strip() for name, cell in row.items() if name and cell and cell.strip()}
        try:
            record: dict[str, Any] = {"object": int(cells["object"]), "mask": cells.get("mask")}
            record["frame"] = int(cells.get("frame", 0))
            if {"x0", "y0", "x1", "y1"} & set(cells):
                record["box"] = [float(cells[name]) for name in ("x0", "y0", "x1", "y1")]
            if {"x", "y"} & set(cells):
                record["points"] = [[float(cells["x"]), float(cells["y"])]]
                record["labels"] = [float(cells.get("label", 1))]
        except (KeyError, ValueError) as error:
            raise InputError(f"expected a row of numbers in line {number}, got {cells}") from error
        by_clip.setdefault(cells.get("clip", ""), []).append(record)
    if "clip" not in (rows.fieldnames or []):
        return by_clip.get("", [])
    if "" in by_clip:
        raise InputError(f"expected a clip in every row, got {by_clip[''][0]} without one")
    return by_clip


def read_object_mask(path: Path, object_id: int) -> NDArray[np.bool_]:
    """Read the mask of one object.

    A picture with one value besides 0 is the object's mask, whatever that value. One with more is
    a label map, in which the object has its own number. Grey levels of JPEG and of smooth edges are
    cut half-way, as `nexus.data.images.masks` describes.

    Returns:
        (H, W) bool.

    Raises:
        ImageError: There is no such picture, or its levels mean nothing.
        PromptError: A label map without that object, or a mask without a pixel.
    """
    read = read_label_map(path)
    labels = read.labels
    if read.notes:
        warnings.warn(f"{str(path)!r}: {'; '.join(read.notes)}", NexusWarning, stacklevel=2)
    values = np.unique(labels[labels > 0])
    if len(values) == 0:
        raise PromptError(f"expected a mask with pixels above 0, got {str(path)!r} with none")
    if len(values) == 1:
        object_id = values[0]
    if object_id not in values:
        shown = ", ".join(f"{value:g}" for value in values[:8])
        raise PromptError(
            f"expected a label map with object {object_id}, got {str(path)!r} with objects "
            f"{shown}{', ...' if len(values) > 8 else ''}",
            hint="a picture of one object's mask has one value besides 0",
        )
    return np.asarray(labels == object_id)
