"""Automatic masks of many images in several processes that share one copy of the weights."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from nexus.core.steps import ProgressLike, steps_of
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.models.cv import load_model
from nexus.models.promptable import PromptableModel
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.automatic.settings import segmentation_of
from nexus.predict.jobs import Job, Outcome
from nexus.predict.pool import Pool
from nexus.predict.processes import share_weights


def generate_masks_parallel(
    images: Sequence[ImageLike],
    num_workers: int = 4,
    model: str | PromptableModel = "sam_vit_b",
    *,
    progress: ProgressLike = False,
    **settings: Any,
) -> list[list[dict[str, Any]]]:
    """Return the records of each image, in order; all as in `iterate_masks_parallel`."""
    return list(iterate_masks_parallel(images, num_workers, model, progress=progress, **settings))


def iterate_masks_parallel(
    images: Sequence[ImageLike],
    num_workers: int = 4,
    model: str | PromptableModel = "sam_vit_b",
    *,
    threads_per_worker: int | None = None,
    ray: str | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    progress: ProgressLike = False,
    **settings: Any,
) -> Iterator[list[dict[str, Any]]]:
    """Find the masks of several images in worker processes.

    The workers are started afresh, so that a script must guard its own start with
    `if __name__ == "__main__":`. They read the same weights in shared memory, each has its share
    of the processor's cores, and masks come back as run lengths.

    Args:
        images: Paths are cheapest, as each worker then reads its own.
        num_workers: Processes; no more are started than there are images, and for one this
            process does.
        model: A name of `nexus models`, or a loaded model on the CPU, whose weights are moved to
            shared memory and stay usable there.
        threads_per_worker: None shares the cores out evenly.
        ray: Do it on a Ray cluster: its address, or "local" for one of this machine.
        max_pixels: Refuse larger images before decoding them; None accepts any.
        progress: Show images done on stderr, or a function of images done and images in all.
        settings: Of `SAMAutomaticMaskGenerator`.

    Yields:
        The records of each image, in order; equal to those of `generate` under the same number of
        threads.

    Raises:
        InputError: An unknown setting, a number of workers or threads below 1, or a model on an
            accelerator.
        NexusError: A worker died, or there is not enough memory.
        ImageError: An image cannot be read or used; which one is said.
        MissingDependencyError: Ray is wanted and not installed.
    """
    pool = Pool(num_workers, threads_per_worker, ray)
    if not images:
        return
    loaded = load_model(model, device="cpu") if isinstance(model, str) else model
    generator = SAMAutomaticMaskGenerator(loaded, **settings)
    output_mode = generator.settings.output_mode
    generator.settings = dataclasses.replace(generator.settings, output_mode="coco_rle")
    share_weights(loaded)
    pool = dataclasses.replace(pool, workers=min(num_workers, len(images)))
    jobs = [Job(f"image {index}", image) for index, image in enumerate(images)]
    work = functools.partial(generator.generate, max_pixels=max_pixels)
    outcomes = pool.run(jobs, work, ahead=2 * pool.workers)
    early: dict[str, Outcome] = {}
    steps = steps_of(progress, len(jobs), label="generate")
    with contextlib.closing(outcomes), steps:
        for job in jobs:
            while job.key not in early:
                outcome = next(outcomes)
                early[outcome.key] = outcome
                steps.advance()
            outcome = early.pop(job.key)
            if outcome.error is not None:
                message, hint = outcome.error.message, outcome.error.hint
                raise type(outcome.error)(f"{job.key}: {message}", hint)
            yield [
                {**record, "segmentation": segmentation_of(record["segmentation"], output_mode)}
                for record in outcome.result
            ]
