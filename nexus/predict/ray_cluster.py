"""Jobs done by the actors of a Ray cluster.

Ray Data hands the jobs to actors, each with the work
(https://docs.ray.io/en/latest/data/api/doc/ray.data.Dataset.map.html), and streams what came of
them back to this process. The cluster's machines must see the same files under the same paths, and
have Nexus installed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from nexus.core.packages import optional_module
from nexus.predict.jobs import Job, Outcome, Work, do_job_elsewhere

_MOST_BLOCKS = 10_000


def run_on_ray(
    jobs: Sequence[Job], work: Work, address: str, workers: int, threads: int
) -> Generator[Outcome, None, None]:
    """Do the jobs on a Ray cluster, and yield outcomes as they come.

    Args:
        jobs: What to do.
        work: Sent to every actor. With a model on a GPU each actor takes one GPU.
        address: Of the cluster, as `ray.init` takes it; "local" starts one on this machine.
        workers: Actors.
        threads: CPUs that each takes, and threads it uses.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConnectionError: There is no cluster at the address.
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
            JobActor,
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


class JobActor:
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
