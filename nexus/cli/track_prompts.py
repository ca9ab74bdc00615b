"""What `nexus track` is told about objects: numbered boxes, points and masks, each on a frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError, PromptError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nexus.data.video.opening import VideoSource

_FRAME = re.compile(r"(.*)@(\d+)", re.DOTALL)
_FORMS = {
    "--box": "ID:x0,y0,x1,y1 or ID:x0,y0,x1,y1@FRAME",
    "--point": "ID:x,y or ID:x,y,0 or ID:x,y,1, each also with @FRAME",
    "--mask": "ID:FILE or ID:FILE@FRAME",
}


@dataclass
class ObjectPrompt:
    """One object on one frame.

    Attributes:
        frame_index: The frame.
        object_id: The caller's number of the object.
        points: XY in pixels of the clip.
        labels: One per point, 1 on the object and 0 beside it.
        box: x0, y0, x1, y1, or None.
        mask_file: A picture of the object's mask, or None.
    """

    frame_index: int
    object_id: int
    points: list[list[float]] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    box: list[float] | None = None
    mask_file: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values, without what it does not have."""
        parts: dict[str, Any] = {"points": self.points, "labels": self.labels, "box": self.box}
        record: dict[str, Any] = {"frame": self.frame_index, "object": self.object_id}
        record |= {name: part for name, part in parts.items() if part}
        return record | ({"mask": str(self.mask_file)} if self.mask_file else {})

    def arguments(self) -> dict[str, Any]:
        """Return it as the arguments of a session's `add`, with the mask read.

        Raises:
            InputError: The mask cannot be read, or shows no such object.
        """
        if self.mask_file is not None:
            prompt: dict[str, Any] = {"mask": read_object_mask(self.mask_file, self.object_id)}
        else:
            given = {"points": self.points, "labels": self.labels, "box": self.box}
            prompt = {name: part for name, part in given.items() if part}
        return {"frame_index": self.frame_index, "object_id": self.object_id, **prompt}


def parse_prompts(
    boxes: Sequence[str], points: Sequence[str], masks: Sequence[str]
) -> list[ObjectPrompt]:
    """Return what was said of each object on each frame, in the order of frames.

    A box and points of one object on one frame are one prompt.

    Raises:
        InputError: No prompt, one of another form, or two that exclude each other.
    """
    prompts: dict[tuple[int, int], ObjectPrompt] = {}

    def of(object_id: int, frame: int) -> ObjectPrompt:
        return prompts.setdefault((frame, object_id), ObjectPrompt(frame, object_id))

    for text in boxes:
        object_id, rest, frame = _split(text, "--box")
        prompt = of(object_id, frame)
        if prompt.box is not None:
            raise InputError(f"expected one --box for object {object_id} on frame {frame}, got two")
        prompt.box = _numbers(rest, (4,), text, "--box")
    for text in points:
        object_id, rest, frame = _split(text, "--point")
        prompt, click = of(object_id, frame), _numbers(rest, (2, 3), text, "--point")
        prompt.points.append(click[:2])
        prompt.labels.append(click[2] if len(click) == 3 else 1)
    for text in masks:
        object_id, rest, frame = _split(text, "--mask")
        prompt = of(object_id, frame)
        if prompt.box is not None or prompt.points or prompt.mask_file is not None:
            raise InputError(
                f"expected --mask alone for object {object_id} on frame {frame}, got it with "
                f"another prompt for them",
                hint="a mask says all; give the box or the points on another frame",
            )
        prompt.mask_file = Path(rest)
    if not prompts:
        raise InputError("expected at least one --box, --point or --mask, got none")
    return [prompts[key] for key in sorted(prompts)]


def check_prompts(prompts: Sequence[ObjectPrompt], source: VideoSource) -> None:
    """Refuse prompts that do not fit a clip, before a model is loaded for them.

    Raises:
        InputError: A frame that the clip does not have, a prompt outside its pixels, or a mask
            that cannot be used.
    """
    from nexus.core.types import Prompt

    for prompt in prompts:
        source.checked(prompt.frame_index)
        if prompt.mask_file is None:
            Prompt(prompt.points or None, prompt.labels or None, prompt.box).check_within(
                source.size_hw
            )
            continue
        mask = read_object_mask(prompt.mask_file, prompt.object_id)
        if mask.shape != source.size_hw:
            (height, width), (clip_height, clip_width) = mask.shape, source.size_hw
            raise PromptError(
                f"expected a mask of {clip_width} x {clip_height} pixels as the clip has, "
                f"got {str(prompt.mask_file)!r} with {width} x {height}"
            )


def read_object_mask(path: Path, object_id: int) -> NDArray[np.bool_]:
    """Read the mask of one object.

    A picture with one value besides 0 is the object's mask, whatever that value. One with more is
    a label map, in which the object has its own number.

    Returns:
        (H, W) bool.

    Raises:
        ImageError: There is no such picture, or it has several channels.
        PromptError: A label map without that object, or a mask without a pixel.
    """
    import numpy as np

    from nexus.data.images.loading import read_mask

    labels = read_mask(path)
    values = np.unique(labels[labels > 0])
    if len(values) == 0:
        raise PromptError(f"expected a mask with pixels above 0, got {str(path)!r} with none")
    if len(values) == 1:
        return np.asarray(labels > 0)
    if object_id not in values:
        shown = ", ".join(f"{value:g}" for value in values[:8])
        raise PromptError(
            f"expected a label map with object {object_id}, got {str(path)!r} with objects "
            f"{shown}{', ...' if len(values) > 8 else ''}",
            hint="a picture of one object's mask has one value besides 0",
        )
    return np.asarray(labels == object_id)


def _split(text: str, option: str) -> tuple[int, str, int]:
    """Return the object's number, what is said of it, and the frame."""
    number, colon, rest = text.partition(":")
    matched = _FRAME.fullmatch(rest)
    rest, frame = (matched[1], int(matched[2])) if matched else (rest, 0)
    if not colon or not rest or not number.isdecimal() or int(number) < 1:
        raise InputError(
            f"expected {option} {_FORMS[option]}, got {text!r}",
            hint="ID is your number for the object, 1 or more; without @FRAME it is frame 0",
        )
    return int(number), rest, frame


def _numbers(rest: str, counts: tuple[int, ...], text: str, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in rest.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts:
        raise InputError(
            f"expected {option} {_FORMS[option]}, got {text!r}", hint="commas, without spaces"
        )
    return numbers
