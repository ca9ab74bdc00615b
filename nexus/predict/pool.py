"""Many items in parallel: in this process, in several of this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from nexus.core.errors import InputError, NexusWarning
from nexus.predict.jobs import Job, Outcome, Work, do_job
from nexus.predict.processes import run_in_processes
from nexus.predict.ray_cluster import run_on_ray
from nexus.predict.threads import available_cores, pinned


@dataclass(frozen=True)
class Pool:
    """Who does the jobs of a run.

    With the same number of threads results are equal to the last bit for any number of workers;
    with another, sums are added up in another order.

    Attributes:
        workers: Processes; 1 is this one.
        threads: Of PyTorch in each. None shares the cores out evenly: one process then uses what
            PyTorch would.
        ray: Address of a Ray cluster whose actors are the workers, or "local" for one of this
            machine; None for processes of this machine.

    Raises:
        InputError: A number below 1.
    """

    workers: int = 1
    threads: int | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        for name, count in (("workers", self.workers), ("threads", self.threads)):
            is_count = isinstance(count, int) and not isinstance(count, bool) and count >= 1
            if not (is_count or (name == "threads" and count is None)):
                raise InputError(f"expected a number of {name} of 1 or more, got {count!r}")

    @property
    def threads_each(self) -> int | None:
        """Threads in each process; None leaves this one to PyTorch."""
        if self.threads is not None or self.ray is not None:
            return self.threads or 1
        # Of all workers, not of those that are needed for the jobs left: a resumed run comes to
        # the same results.
        return max(1, available_cores() // self.workers) if self.workers > 1 else None

    def run(self, jobs: Sequence[Job], work: Work) -> Generator[Outcome, None, None]:
        """Do the jobs, and yield what came of each as it comes; close it to stop all workers.

        What workers warn of is warned of here.

        Args:
            jobs: What to do.
            work: Called with the item of each job; for several processes it must be a function or
                object of the top of a module. What is wrong with one item (a `NexusError`, an
                `OSError`, want of memory) is its outcome; anything else ends the run.

        Raises:
            InputError: The work cannot be sent to another process.
            NexusError: A worker process died, or there is not enough shared memory.
            MissingDependencyError: Ray is wanted and not installed.
        """
        threads = self.threads_each
        if self.ray is not None:
            outcomes = run_on_ray(jobs, work, self.ray, self.workers, threads or 1)
        elif self.workers > 1:
            outcomes = run_in_processes(jobs, work, self.workers, threads or 1)
        else:
            here = pinned(threads)(do_job)
            outcomes = (here(job, work) for job in jobs)
        said: set[str] = set()
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                for note in sorted({*outcome.notes} - said):  # once of each
                    warnings.warn(note, NexusWarning, stacklevel=3)
                said.update(outcome.notes)
                yield outcome
