"""Which objects a step learns from, and how they are first pointed at.

All of it is a function of the seed, the step and the row alone: a run that is taken up again goes
on as if it had not stopped, and any number of processes share the rows of one. The rows of a
decoder call have prompts of one kind, so that they have equally many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nexus.train.config import Kind, PromptSettings
from nexus.train.images.sets import ObjectView, TrainingObject

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


class Plan:
    """Which rows come when.

    Args:
        objects: What is learnt from.
        prompts: The kinds of prompts and their shares.
        seed: Everything follows from it.
        rows: Of one decoder call of one process.
        accumulation: Decoder calls of a step.
        balance: As in `DataSettings`.
    """

    def __init__(
        self,
        objects: Sequence[TrainingObject],
        prompts: PromptSettings,
        *,
        seed: int,
        rows: int,
        accumulation: int = 1,
        balance: float = 0.0,
    ) -> None:
        self.objects = objects
        self.prompts = prompts
        self.seed = seed
        self.rows = rows
        self.accumulation = accumulation
        self._counts = _wanted_counts(objects, balance)
        self._epochs: dict[int, NDArray[np.int64]] = {}
        shares = np.array(list(prompts.first.values()), np.float64)
        self._kinds = list(prompts.first)
        self._limits = np.cumsum(shares / shares.sum())
        self._offset = float(self._generator(_KIND).random())

    def calls(self, step: int, process: int = 0, processes: int = 1) -> list[Call]:
        """Return the decoder calls of a step that fall to one process."""
        return [self._call(step, call, process, processes) for call in range(self.accumulation)]

    def _call(self, step: int, call: int, process: int, processes: int) -> Call:
        number = step * self.accumulation + call
        kind = self._kind(number)
        rounds = self.prompts.rounds_of(kind)
        chance = self._generator(_MASK, number).random(max(rounds - 1, 0))
        first = (number * processes + process) * self.rows
        generators = [self._generator(_ROW, first + row) for row in range(self.rows)]
        objects = [self._object(first + row) for row in range(self.rows)]
        views = [
            one.views[int(rng.integers(len(one.views)))]
            for one, rng in zip(objects, generators, strict=True)
        ]
        masks = tuple(bool(value < self.prompts.mask_prompt) for value in chance)
        return Call(kind, masks, tuple(views), tuple(generators))

    def _kind(self, number: int) -> Kind:
        place = (self._offset + number * _GOLDEN) % 1.0
        index = int(np.searchsorted(self._limits, place, side="right"))
        return self._kinds[min(index, len(self._kinds) - 1)]

    def _object(self, position: int) -> TrainingObject:
        """Return the object at a place in the endless order of all epochs."""
        epoch, place = divmod(position, len(self.objects))
        if epoch not in self._epochs:
            if len(self._epochs) > 2:
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = self._order(epoch)
        return self.objects[int(self._epochs[epoch][place])]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return as many indices as there are objects, each about as often as wanted."""
        rng = self._generator(_ORDER, epoch)
        edges = np.cumsum(self._counts)
        marks = (np.arange(len(self.objects)) + rng.random()) * (edges[-1] / len(self.objects))
        return rng.permutation(np.searchsorted(edges, marks, side="right").clip(max=len(edges) - 1))

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])


def _wanted_counts(objects: Sequence[TrainingObject], balance: float) -> NDArray[np.float64]:
    """Return how often each object is to come, relative to the others."""
    titles = [one.image.set_title for one in objects]
    return np.array([titles.count(title) ** -balance for title in titles])
