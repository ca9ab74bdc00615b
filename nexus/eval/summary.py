"""Rows of objects into figures: means over sets, categories and all objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

METRICS = (
    "iou",
    "dice",
    "boundary_f",
    "nsd",
    "hd95",
    "noc85",
    "noc90",
    "j",
    "f",
    "j_and_f",
    "score",
)
"""Columns of rows that are averaged, in the order they are reported."""


def summarise_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of each protocol.

    Returns:
        By protocol: `pooled`, all objects weighing the same; `sets` and `categories`, the same of
        the objects of each. Each holds `objects`, `images` and the mean of every metric the
        protocol gives; a value that is not defined, as HD95 of an empty mask, is left out of the
        mean and counted in `undefined`.
    """
    summary = {}
    for protocol, members in _grouped(rows, lambda row: row["protocol"]).items():
        named = [row for row in members if row["category"] is not None]
        summary[protocol] = {
            "pooled": _figures(members),
            "sets": _each(members, lambda row: row["set"]),
            "categories": _each(named, lambda row: row["category"]),
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
    if undefined:
        figures["undefined"] = undefined
    return figures


def _each(
    rows: Sequence[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], str]
) -> dict[str, Any]:
    groups = _grouped(rows, key)
    return {name: _figures(groups[name]) for name in sorted(groups)}


def _grouped(
    rows: Iterable[Mapping[str, Any]], key: Callable[[Mapping[str, Any]], str]
) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
