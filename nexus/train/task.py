"""What a run teaches: all that is not alike for images and videos, and nothing else.

The trainer, `nexus.train.loop`, asks a task what a step learns from, what that costs the model, and
how good the model is; it learns, averages, shares, keeps and writes by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

from torch import Tensor

from nexus.train.figures import ObjectFigure
from nexus.train.processes import Processes

Losses: TypeAlias = "Iterable[tuple[Tensor, Mapping[str, float]]]"
"""What is learnt from, with its gradient, and its summands before their weights, one by one."""


class Task(ABC):
    """A kind of data, what is asked of a model on it, and what its answers are worth.

    Attributes:
        noun: What sets have many of.
        parts: The summands of the loss, columns of `steps.csv`.
        measures: How the card calls each measure.
        figures_are: What the card says of the figures.
        rule: What the card says of what counts, after the split.
        held_out: What is measured, each by `measure`; known once prepared.
        counts: What is learnt from, the smaller things before those that hold them.
        digest: Of what is learnt from and what is held out.
        masks: What was noticed about the masks of each set, as `counted_masks` gives it.
    """

    noun: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    measures: Mapping[str, str]
    figures_are: ClassVar[str]
    rule: str = ""
    held_out: Sequence[Any] = ()
    counts: Mapping[str, int]
    digest: str
    masks: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    @abstractmethod
    def prepare(self, processes: Processes) -> None:
        """Read what there is to learn from and to measure; several processes may share the work.

        Raises:
            InputError: A set cannot be opened, or has nothing to learn from.
            ImageError: An image cannot be used.
        """

    @abstractmethod
    def calls(self, step: int, process: int, processes: int) -> Sequence[Any]:
        """Return what a step learns from that falls to one process, in parts that weigh alike."""

    @abstractmethod
    def losses(self, call: Any) -> tuple[str, Losses]:
        """Ask the model; return what the log calls the question, and the losses of the answers.

        The next loss needs no gradient of the last, so that one may be let go of when it was had.
        """

    def as_it_came(self) -> AbstractContextManager[None]:
        """Let the model answer as it did before it was to learn, for the length of a block."""
        return nullcontext()

    @abstractmethod
    def measure(self, item: Any) -> list[ObjectFigure]:
        """Measure the objects of one thing that is held out."""
