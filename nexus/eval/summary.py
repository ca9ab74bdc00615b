"""What an evaluation found: rows of objects, and their means over sets, categories and all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nexus.core.errors import InputError

METRICS = (
    *("iou", "dice", "boundary_f", "nsd", "hd95", "noc85", "noc90"),
    *("j", "j_recall", "j_decay", "f", "f_recall", "f_decay", "j_and_f", "score"),
)
"""Columns of rows that are averaged, in the order they are reported."""


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        rows: One for each object and protocol, in the order of the images.
        summary: What stands in summary.json.
        failures: The images that could not be used: `image`, `message`, `hint`.
        files: What was written; empty without an output folder.
        detections: COCO results with masks, of the protocol detections.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    failures: list[dict[str, str | None]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    detections: list[dict[str, Any]] = field(default_factory=list)

    def mean(self, metric: str, protocol: str | None = None, set_name: str | None = None) -> float:
        """Return the mean of a metric over all objects, or over those of one set.

        Args:
            metric: A column, such as "dice".
            protocol: Need not be given where there is one only.
            set_name: None for the objects of all sets.

        Raises:
            InputError: There is no such figure.
        """
        figures = self.summary["results"]
        if protocol is None and len(figures) != 1:
            raise InputError(
                f"expected one protocol, got {', '.join(figures) or 'none'}",
                hint="say which: result.mean(metric, protocol=...)",
            )
        try:
            chosen = figures[next(iter(figures)) if protocol is None else protocol]
            value = (chosen["pooled"] if set_name is None else chosen["sets"][set_name])[metric]
        except KeyError as error:
            raise InputError(
                f"expected a figure of the evaluation, got {error.args[0]!r}",
                hint="result.summary['results'] holds them all",
            ) from error
        if value is None:
            raise InputError(f"expected a figure of the evaluation, got {metric!r}, not defined")
        return float(value)


def summarise_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of each protocol.

    Returns:
        By protocol: `pooled`, all objects weighing the same; `sets` and `categories`, the same of
        the objects of each. Each holds `objects`, `images` and the mean of every metric the
        protocol gives; a value that is not defined, as HD95 of an empty mask, is left out of the
        mean and counted in `undefined`.
    """
    summary = {}
    for protocol, members in _grouped(rows, "protocol").items():
        named = [row for row in members if row["category"] is not None]
        summary[protocol] = {
            "pooled": _figures(members),
            "sets": _each(members, "set"),
            "categories": _each(named, "category"),
        }
    return summary


def metrics_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the metrics that occur in some rows."""
    present = {name for row in rows for name in row}
    return [name for name in METRICS if name in present]


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "objects": len(rows),
        "images": len({(row["set"], row["image"]) for row in rows}),
    }
    undefined = {}
    for name in metrics_of(rows):
        values = [row[name] for row in rows if row.get(name) is not None]
        figures[name] = float(np.mean(values)) if values else None
        if len(values) < len(rows):
            undefined[name] = len(rows) - len(values)
    curves = [row["iou_per_click"] for row in rows if "iou_per_click" in row]
    if curves:
        figures["iou_per_click"] = np.mean(curves, axis=0).tolist()
    return figures | ({"undefined": undefined} if undefined else {})


def _each(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any]:
    return {name: _figures(group) for name, group in sorted(_grouped(rows, key).items())}


def _grouped(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups
