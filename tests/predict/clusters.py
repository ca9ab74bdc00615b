"""A stand-in for Ray, which is too large to be installed for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Cluster:
    """As much of Ray as is used: actors of this process, whose rows come back last first."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        self.rows: list[dict[str, Any]] = []

    def is_initialized(self) -> bool:
        return bool(self.started)

    def init(self, **options: Any) -> None:
        self.started = options

    def shutdown(self) -> None:
        self.started = {}

    def from_items(self, rows: list[dict[str, Any]], *, override_num_blocks: int) -> Cluster:
        assert override_num_blocks == len(rows)
        self.rows = rows
        return self

    def map(self, actor: Any, *, fn_constructor_args: tuple[Any, ...], **options: Any) -> Cluster:
        self.asked = {**options, "started": self.started}
        one = actor(*fn_constructor_args)
        self.rows = [one(row) for row in reversed(self.rows)]
        return self

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)
