"""What went on the way to a dataset, by the setting or the option that removed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

CANDIDATES = "candidates"
_LIMITS = (
    ("min_predicted_iou", "predicted_iou"),
    ("min_stability_score", "stability_score"),
)
_WORDS = {
    "crop_edge": "the edges of crops",
    "without_pixels": "masks without a pixel",
}


class Limits(Protocol):
    """What masks have to clear; see `DatasetOptions`."""

    @property
    def min_predicted_iou(self) -> float | None:
        """Predicted IoU that a mask is to be above."""

    @property
    def min_stability_score(self) -> float | None:
        """Stability score that a mask is to be above."""

    @property
    def min_area(self) -> int:
        """Pixels that a mask is to have at least."""


def left_out_by(mask: Mapping[str, Any], limits: Limits) -> str | None:
    """Return the first limit that a mask record does not clear, by its name, or None."""
    for name, key in _LIMITS:
        limit = getattr(limits, name)
        if limit is not None and not mask[key] > limit:
            return name
    return "min_area" if mask["area"] < limits.min_area else None


def why_empty(tally: Mapping[str, int], report: Mapping[str, Any]) -> str:
    """Say why a dataset has no mask.

    Args:
        tally: What went, by setting or option, beside the number of `candidates`.
        report: What stands in report.json: its values of the settings and the options are named.
    """
    images, skipped = report["statistics"]["images"], len(report["skipped"])
    start = f"expected at least one mask, got an empty dataset of {_count(images, 'image')}"
    if skipped:
        start += f", with {skipped} more that could not be used"
    values = {**(report["settings"].get("settings") or {}), **report["options"]}
    went = sorted(
        ((count, name) for name, count in tally.items() if name != CANDIDATES and count),
        reverse=True,
    )
    if not went:
        return f"{start}: no masks were found"
    # A generator of the caller's own may not count; what it gave is then all that is known.
    total = max(tally.get(CANDIDATES, 0), sum(count for count, _ in went))
    parts = [f"{_named(name, values)} removed {count}" for count, name in went]
    return f"{start}: of {_count(total, 'candidate')} {', '.join(parts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _named(name: str, values: Mapping[str, Any]) -> str:
    return f"{name} {values[name]:g}" if name in values else _WORDS.get(name, name)
