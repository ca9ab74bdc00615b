"""Which objects a step learns from, and how they are first pointed at.

The rows of a decoder call have prompts of one kind, so that they have equally many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nexus.data.clicks.game import Kind
from nexus.train.config import PromptSettings
from nexus.train.images.sets import ObjectView, TrainingObject
from nexus.train.plan import Plan

# Consecutive multiples of it fill [0, 1) evenly, so that every stretch of a run has its shares.
_GOLDEN = 0.6180339887498949
_ORDER, _ROW, _KIND, _MASK = range(4)


@dataclass(frozen=True)
class Call:
    """One decoder call.

    Attributes:
        kind: How its rows are first pointed at.
        mask_prompts: For each later round, whether the mask of the one before comes along.
        views: One for each row.
        generators: One for each row.
    """

    kind: Kind
    mask_prompts: tuple[bool, ...]
    views: tuple[ObjectView, ...]
    generators: tuple[np.random.Generator, ...]


class ObjectPlan(Plan):
    """Which objects come when, and by which kinds of prompts.

    Args:
        objects: What is learnt from.
        prompts: The kinds of prompts and their shares.
        balance: As in `DataSettings`.
        numbers: As in `Plan`; calls are those of the decoder.
    """

    def __init__(
        self,
        objects: Sequence[TrainingObject],
        prompts: PromptSettings,
        balance: float = 0.0,
        **numbers: int,
    ) -> None:
        super().__init__(**numbers)
        self.objects = objects
        self.prompts = prompts
        titles = [taught[0].view.image.set_title for taught in objects]
        # How often each object is to come, relative to the others.
        self._counts = np.array([titles.count(title) ** -balance for title in titles])
        self._ordered = lru_cache(maxsize=3)(self._order)
        shares = np.array(list(prompts.first.values()), np.float64)
        self._kinds = list(prompts.first)
        self._limits = np.cumsum(shares / shares.sum())
        self._offset = float(self.generator(_KIND).random())

    def calls(self, step: int, process: int = 0, processes: int = 1) -> list[Call]:
        """Return the decoder calls of a step that fall to one process."""
        return [
            self._call(step * self.accumulation + index, rows)
            for index, rows in enumerate(self.numbers(step, process, processes))
        ]

    def _call(self, number: int, rows: Sequence[int]) -> Call:
        kind = self._kind(number)
        rounds = self.prompts.rounds_of(kind)
        chance = self.generator(_MASK, number).random(max(rounds - 1, 0))
        generators = [self.generator(_ROW, row) for row in rows]
        views = []
        for row, rng in zip(rows, generators, strict=True):
            seen = self._object(row)
            views.append(seen[int(rng.integers(len(seen)))])
        masks = tuple(bool(value < self.prompts.mask_prompt) for value in chance)
        return Call(kind, masks, tuple(views), tuple(generators))

    def _kind(self, number: int) -> Kind:
        place = (self._offset + number * _GOLDEN) % 1.0
        index = int(np.searchsorted(self._limits, place, side="right"))
        return self._kinds[min(index, len(self._kinds) - 1)]

    def _object(self, position: int) -> TrainingObject:
        """Return the object at a place in the endless order of all epochs."""
        epoch, place = divmod(position, len(self.objects))
        return self.objects[int(self._ordered(epoch)[place])]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return as many indices as there are objects, each about as often as wanted."""
        rng = self.generator(_ORDER, epoch)
        edges = np.cumsum(self._counts)
        marks = (np.arange(len(self.objects)) + rng.random()) * (edges[-1] / len(self.objects))
        return rng.permutation(np.searchsorted(edges, marks, side="right").clip(max=len(edges) - 1))
