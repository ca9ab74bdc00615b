"""One piece of work among many, and what came of it: the same in any process and on any machine."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nexus.core.errors import NexusError, NexusWarning

Work = Callable[[Any], Any]
"""What is done with the item of each job. Its `model`, if it has one, has its weights shared
between processes, and says whether a Ray actor takes a GPU."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        key: Its name, which no other job of the run has.
        item: What the work is called with.
        title: What messages call it, if not by its key.
        stamp: What tells whether it is still the same, as a JSON value: a record made under another
            stamp does not count.
    """

    key: str
    item: Any
    title: str = ""
    stamp: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.key)


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        key: Of the job.
        result: What the work returned; None if it failed.
        error: Why it failed; None if it did not.
        notes: What was warned of in another process; the pool warns of it here.
    """

    key: str
    result: Any = None
    error: NexusError | None = None
    notes: tuple[str, ...] = ()


def do_job(job: Job, work: Work) -> Outcome:
    """Do a job; what can be its own fault is told, not raised.

    A RuntimeError counts as the item's failure, since that is what PyTorch raises where memory
    does not suffice for this one.
    """
    try:
        return Outcome(job.key, work(job.item))
    except NexusError as error:
        # A copy has no traceback, which would keep the images of every failure in memory.
        return Outcome(job.key, error=copy.copy(error))
    except (OSError, MemoryError, RuntimeError) as error:
        return Outcome(job.key, error=NexusError(f"{type(error).__name__}: {error}"))


def do_job_elsewhere(job: Job, work: Work) -> Outcome:
    """Do a job in another process than the caller's: what it warns of travels on the outcome."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NexusWarning)
        outcome = do_job(job, work)
    notes = (str(each.message) for each in caught if issubclass(each.category, NexusWarning))
    return dataclasses.replace(outcome, notes=tuple(notes))
