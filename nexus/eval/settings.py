"""What an evaluation depends on: its protocols and how objects are chosen and prompted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nexus.core.choices import entry
from nexus.core.errors import InputError
from nexus.models.policy import check_input_side

PROTOCOLS: dict[str, str] = {
    "box": "the ground-truth box of each object, moved by jitter if asked for",
    "click": "one click at the centre of each object",
    "clicks": "that click, then clicks where the answer is most wrong",
    "medical-box": "the box, object by object and slice by slice, with NSD and HD95 in mm",
    "detections": "boxes of a detector, scored as average precision",
    "vos": "video objects given by their first mask",
}
"""Protocols by name, with what the model is shown."""

_PROMPTED = ("box", "click", "clicks", "medical-box")
_USED_BY: dict[str, tuple[str, ...]] = {
    "clicks": ("clicks",),
    "jitter": ("box", "medical-box"),
    "seed": ("box", "medical-box"),
    "tolerance_mm": ("medical-box",),
    "max_objects": _PROMPTED,
    "min_area": _PROMPTED,
    "multimask": (*_PROMPTED, "detections"),
    "leave_out_last": ("vos",),
}

MULTIMASK: dict[str, bool | None] = {"auto": None, "single": False, "best": True}
"""Values of `multimask`, with what `predict_batch` is told."""


@dataclass(frozen=True)
class EvaluationSettings:
    """All that the figures of an evaluation depend on beside model and images.

    Attributes:
        protocols: Names in `PROTOCOLS`, in the order they are reported.
        clicks: Clicks on each object in the protocol `clicks`.
        jitter: Standard deviation of the noise on the edges of ground-truth boxes, as a share of
            the box's side; 0 for none. An edge moves by 20 pixels at most.
        max_objects: Take the largest so many objects of an image; None for all.
        min_area: Leave out smaller objects, pixels.
        multimask: "auto" takes the best of three masks for a single click and one mask
            otherwise, "single" always one, "best" always the best of three by predicted score.
        input_side: Side of the model frame, pixels; None takes the model's.
        tolerance_mm: Tolerance of the normalised surface Dice.
        leave_out_last: Do not count the last frame of a video, as DAVIS does not.
        seed: Of the noise on boxes.
    """

    protocols: tuple[str, ...] = ("box",)
    clicks: int = 20
    jitter: float = 0.0
    max_objects: int | None = None
    min_area: int = 1
    multimask: str = "auto"
    input_side: int | None = None
    tolerance_mm: float = 2.0
    leave_out_last: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.protocols or len(set(self.protocols)) < len(self.protocols):
            raise InputError(f"expected protocols of different names, got {self.protocols!r}")
        for name in self.protocols:
            entry(PROTOCOLS, name, "a protocol")
        entry(MULTIMASK, self.multimask, "multimask")
        if "vos" in self.protocols and len(self.protocols) > 1:
            raise InputError(
                f"expected the protocol vos alone, got {', '.join(self.protocols)}",
                hint="videos and images are evaluated in runs of their own",
            )
        most = 1 if self.max_objects is None else self.max_objects
        counts = {"clicks": self.clicks, "min_area": self.min_area, "max_objects": most}
        for name, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InputError(f"expected {name} to be 1 or more, got {count!r}")
        if not 0 <= self.jitter < 1:
            raise InputError(f"expected jitter in [0, 1), got {self.jitter!r}")
        if not 0 < self.tolerance_mm < float("inf"):
            raise InputError(f"expected tolerance_mm above 0, got {self.tolerance_mm!r}")
        if self.input_side is not None:
            check_input_side(self.input_side)

    @property
    def is_video(self) -> bool:
        """Whether videos are evaluated, not images."""
        return self.protocols == ("vos",)


def settings_of(protocol: str | Iterable[str], options: dict[str, Any]) -> EvaluationSettings:
    """Return settings from protocols and the other fields by name.

    Raises:
        InputError: No such field, a value out of range, or a field that no protocol looks at.
    """
    fields = [field.name for field in dataclasses.fields(EvaluationSettings)][1:]
    for name in options:
        entry(dict.fromkeys(fields), name, "an option")
    protocols = (protocol,) if isinstance(protocol, str) else tuple(protocol)
    settings = EvaluationSettings(protocols, **options)
    for name in options:
        users = _USED_BY.get(name, protocols)
        if not set(users) & set(protocols):
            raise InputError(
                f"expected the option {name} with the protocol {' or '.join(users)}, got it with "
                f"{', '.join(protocols)}, which does not look at it",
                hint=f"choose the protocol {users[0]}, or leave the option out",
            )
    if "seed" in options and not settings.jitter:
        raise InputError(
            "expected the option seed with a jitter above 0, got it without: nothing is drawn",
            hint="give a jitter such as 0.1, or leave the option out",
        )
    return settings
