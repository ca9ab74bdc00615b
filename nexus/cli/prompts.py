"""Prompts as people type them: numbers with commas; for `nexus track` `ID:...` with `@FRAME`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nexus.core.errors import InputError

if TYPE_CHECKING:
    from nexus.core.types import Prompt
    from nexus.predict.tracking import ObjectPrompt

_OBJECT = re.compile(r"0*([1-9]\d*):(.*?)(?:@(\d+))?", re.DOTALL | re.ASCII)
_FORMS = {
    "--box": "ID:x0,y0,x1,y1 or ID:x0,y0,x1,y1@FRAME",
    "--point": "ID:x,y or ID:x,y,0 or ID:x,y,1, each also with @FRAME",
    "--mask": "ID:FILE or ID:FILE@FRAME",
}


def image_prompts(boxes: Sequence[str], points: Sequence[str]) -> list[Prompt]:
    """Return the objects asked for: one per box, then one of all points unless they refine a box.

    Raises:
        InputError: No prompt, or one that makes no sense.
    """
    from nexus.core.types import Prompt

    corners = [_numbers(text, (4,), "--box x0,y0,x1,y1", text) for text in boxes]
    form = "--point x,y or x,y,0 or x,y,1"
    clicks = [_numbers(text, (2, 3), form, text) for text in points]
    points_xy = [click[:2] for click in clicks]
    labels = [click[2] if len(click) == 3 else 1 for click in clicks]
    if not corners and not clicks:
        raise InputError(
            "expected at least one --box or --point, got none",
            hint="--prompts FILE gives each image its own",
        )
    if len(corners) == 1 and clicks:
        return [Prompt(points_xy, labels, corners[0])]
    prompts = [Prompt(box=box) for box in corners]
    return [*prompts, Prompt(points_xy, labels)] if clicks else prompts


def track_prompts(
    boxes: Sequence[str], points: Sequence[str], masks: Sequence[str]
) -> Iterator[ObjectPrompt]:
    """Yield what was said of objects in clips, one thing after the other.

    Raises:
        InputError: A prompt of another form.
    """
    from nexus.predict.tracking import ObjectPrompt

    for option, texts in zip(_FORMS, (boxes, points, masks), strict=True):
        form = f"{option} {_FORMS[option]}"
        for text in texts:
            found = _OBJECT.fullmatch(text)
            if found is None or not found[2]:
                raise InputError(
                    f"expected {form}, got {text!r}",
                    hint="ID is your number for the object, 1 or more; without @FRAME it is "
                    "frame 0",
                )
            object_id, rest, frame = int(found[1]), found[2], int(found[3] or 0)
            if option == "--mask":
                yield ObjectPrompt(frame, object_id, mask_file=Path(rest))
            elif option == "--box":
                yield ObjectPrompt(frame, object_id, box=_numbers(rest, (4,), form, text))
            else:
                click = _numbers(rest, (2, 3), form, text)
                yield ObjectPrompt(frame, object_id, [click[:2]], click[2:])


def _numbers(numbers: str, counts: tuple[int, ...], form: str, text: str) -> list[float]:
    """Return numbers with commas between them; an error shows the whole text."""
    try:
        found = [float(part) for part in numbers.split(",")]
    except ValueError:
        found = []
    if len(found) not in counts:
        raise InputError(f"expected {form}, got {text!r}", hint="commas, without spaces")
    return found
