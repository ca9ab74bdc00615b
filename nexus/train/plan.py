"""Which rows of a run fall to a process at a step, and where their chance comes from.

All of it is a function of the seed, the step and the row alone: a run that is taken up again goes
on as if it had not stopped, and any number of processes share the rows of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Plan:
    """Which rows come when, numbered from 0 through the whole run.

    Attributes:
        seed: Everything follows from it.
        rows: Of one call of one process.
        accumulation: Calls of a step.
    """

    seed: int
    rows: int
    accumulation: int = 1

    def numbers(self, step: int, process: int = 0, processes: int = 1) -> list[range]:
        """Return the numbers of the rows that fall to one process, for each call of a step."""
        first = (
            (number * processes + process) * self.rows
            for number in range(step * self.accumulation, (step + 1) * self.accumulation)
        )
        return [range(row, row + self.rows) for row in first]

    def generator(self, *key: int) -> np.random.Generator:
        """Return a source of chance that follows from the seed and a key."""
        return np.random.default_rng([self.seed, *key])
