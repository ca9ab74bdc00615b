"""The images of a dataset done by a Ray cluster.

Ray Data hands the images to actors, each with the generator
(https://docs.ray.io/en/latest/data/api/doc/ray.data.Dataset.map.html), and streams what they found
back to this process, which alone writes. The cluster's machines must see the image files under the
same paths, and have Nexus installed.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nexus.core.errors import MissingDependencyError
from nexus.predict.dataset.jobs import Job, MaskGenerator, Outcome, run_job_elsewhere

_MOST_BLOCKS = 10_000


def run_on_ray(
    jobs: Sequence[Job], generator: MaskGenerator, *, address: str, workers: int, threads: int = 1
) -> Generator[Outcome, None, None]:
    """Do the jobs on a Ray cluster, and yield outcomes as they come.

    Args:
        jobs: What to do.
        generator: Sent to every actor. With a model on a GPU each actor takes one GPU.
        address: Of the cluster, as `ray.init` takes it; "local" starts one on this machine.
        workers: Actors.
        threads: CPUs that each takes, and threads it uses.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConnectionError: There is no cluster at the address.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            "expected the package 'ray' with Ray Data, got an ImportError",
            hint="pip install 'nexus-segmentation[ray]'",
        ) from error
    return _run(ray, jobs, generator, address, workers, threads)


class JobActor:
    """An actor: it keeps the generator and does one row after the other."""

    def __init__(self, generator: MaskGenerator, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._generator = generator

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do the job of a row; the answer is JSON, which Arrow need not take apart."""
        job = json.loads(str(row["job"]))
        outcome = run_job_elsewhere(
            Job(job["index"], Path(job["path"]), job["max_pixels"]), self._generator
        )
        return {"outcome": json.dumps(asdict(outcome))}


def _run(
    ray: Any,
    jobs: Sequence[Job],
    generator: MaskGenerator,
    address: str,
    workers: int,
    threads: int,
) -> Generator[Outcome, None, None]:
    started = not ray.is_initialized()
    if started:
        local = (
            {"num_cpus": workers * threads, "include_dashboard": False}
            if address == "local"
            else {}
        )
        ray.init(address=address, log_to_driver=False, **local)
    try:
        rows = [
            {
                "job": json.dumps(
                    {
                        "index": job.index,
                        "path": str(job.path.absolute()),
                        "max_pixels": job.max_pixels,
                    }
                )
            }
            for job in jobs
        ]
        # A block is what comes back at once, so that small ones lose little to a kill.
        blocks = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS))
        done = blocks.map(
            JobActor,
            fn_constructor_args=(generator, threads),
            concurrency=min(workers, len(rows)),
            num_cpus=threads,
            num_gpus=1 if _on_gpu(generator) else 0,
        )
        for row in done.iter_rows():
            answer = json.loads(row["outcome"])
            yield Outcome(**{**answer, "notes": tuple(answer["notes"])})
    finally:
        if started:
            ray.shutdown()


def _on_gpu(generator: MaskGenerator) -> bool:
    device = getattr(getattr(generator, "model", None), "device", "cpu")
    return str(device).startswith("cuda")
