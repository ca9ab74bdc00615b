"""Many items in parallel: in this process, in several of this machine, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import pickle
import warnings
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus.core.errors import InputError, NexusWarning, shown
from nexus.core.packages import optional_module
from nexus.predict.jobs import Job, Outcome, Work, do_job, do_job_elsewhere
from nexus.predict.processes import run_in_processes
from nexus.predict.threads import available_cores, pinned

_MOST = 4096  # workers or threads
_MOST_BLOCKS = 10_000


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
        threads = 1 if self.threads is None else self.threads
        for name, count in (("workers", self.workers), ("threads", threads)):
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise InputError(f"expected a number of {name} of 1 or more, got {shown(count)}")
            if count > _MOST:
                raise InputError(f"expected at most {_MOST} {name}, got {count}")

    @property
    def threads_each(self) -> int | None:
        """Threads in each process; None leaves this one to PyTorch."""
        if self.threads is not None or self.ray is not None:
            return self.threads or 1
        # Of all workers, not of those that are needed for the jobs left: a resumed run comes to
        # the same results.
        return max(1, available_cores() // self.workers) if self.workers > 1 else None

    def run(
        self, jobs: Sequence[Job], work: Work, ahead: int | None = None
    ) -> Generator[Outcome, None, None]:
        """Do the jobs, and yield what came of each as it comes; close it to stop all workers.

        What workers warn of is warned of here.

        Args:
            jobs: What to do.
            work: Called with the item of each job; for several processes it must be a function or
                object of the top of a module. What is wrong with one item (a `NexusError`, an
                `OSError`, want of memory) is its outcome; anything else ends the run.
            ahead: Begin no job this many places after the first that is not done, so that what a
                caller keeps until its turn is bounded. None begins any; Ray has limits of its own.

        Raises:
            InputError: The work cannot be sent to another process.
            NexusError: A worker process died, or there is not enough shared memory.
            MissingDependencyError: Ray is wanted and not installed.
            ConnectionError: There is no Ray cluster at the address.
        """
        threads = self.threads_each
        if self.ray is not None:
            outcomes = _run_on_ray(jobs, work, self.ray, self.workers, threads or 1)
        elif self.workers > 1:
            outcomes = run_in_processes(jobs, work, self.workers, threads or 1, ahead)
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


def _run_on_ray(
    jobs: Sequence[Job], work: Work, address: str, workers: int, threads: int
) -> Generator[Outcome, None, None]:
    """Do the jobs on a Ray cluster, and yield outcomes as they come.

    Ray Data hands the jobs to actors, each with the work
    (https://docs.ray.io/en/latest/data/api/doc/ray.data.Dataset.map.html), and streams what came
    of them back to this process. With a model on a GPU each actor takes one GPU. The cluster's
    machines must see the same files under the same paths, and have Nexus installed.
    """
    optional_module("ray.data", "with Ray Data", "'nexus-segmentation[ray]'")
    import ray

    started = not ray.is_initialized()
    if started:
        local = {"num_cpus": workers * threads, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, **(local if address == "local" else {}))
    try:
        rows = [{"job": pickle.dumps(job)} for job in jobs]
        # A block is what comes back at once, so that small ones lose little to a kill.
        blocks = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        device = str(getattr(getattr(work, "model", None), "device", "cpu"))
        done = blocks.map(
            _JobActor,
            fn_constructor_args=(work, threads, str(Path.cwd())),
            concurrency=min(workers, len(rows)),
            num_cpus=threads,
            num_gpus=1 if device.startswith("cuda") else 0,
        )
        for row in done.iter_rows():
            yield pickle.loads(row["outcome"])
    finally:
        if started:
            ray.shutdown()


class _JobActor:
    """An actor: it keeps the work and does one row after the other."""

    def __init__(self, work: Work, threads: int, folder: str) -> None:
        import torch

        torch.set_num_threads(threads)
        with contextlib.suppress(OSError):  # so that relative paths mean what they mean here
            os.chdir(folder)
        self._work = work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the job of a row; jobs and outcomes are bytes, which Arrow need not take apart."""
        return {"outcome": pickle.dumps(do_job_elsewhere(pickle.loads(row["job"]), self._work))}
