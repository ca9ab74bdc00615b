"""Automatic masks of many images in several processes that share one copy of the weights."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from nexus.core.errors import InputError, NexusError
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.models.cv import load_model
from nexus.models.promptable import PromptableModel
from nexus.ops.rle import decode_rle, rle_counts
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator

_ALIGNMENT = 64
_SHARED_FOLDER = Path("/dev/shm")


def generate_masks_parallel(
    images: Sequence[ImageLike],
    num_workers: int = 4,
    model: str | PromptableModel = "sam_vit_b",
    *,
    threads_per_worker: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    **settings: Any,
) -> list[list[dict[str, Any]]]:
    """Find the masks of several images in worker processes.

    The workers are started afresh, so that a script must guard its own start with
    `if __name__ == "__main__":`. They read the same weights in shared memory, each has its share
    of the processor's cores, and masks come back as run lengths.

    Args:
        images: Paths are cheapest, as each worker then reads its own.
        num_workers: Processes; no more are started than there are images.
        model: A name of `nexus models`, or a loaded model on the CPU, whose weights are moved to
            shared memory and stay usable there.
        threads_per_worker: None shares the cores out evenly.
        max_pixels: Refuse larger images before decoding them; None accepts any.
        settings: Of `SAMAutomaticMaskGenerator`.

    Returns:
        The records of each image, in order; equal to those of `generate`.

    Raises:
        InputError: An unknown setting, a number of workers or threads below 1, or a model on an
            accelerator.
        NexusError: A worker died, or there is not enough shared memory.
        ImageError: An image cannot be read or used; which one is said.
    """
    return list(
        iterate_masks_parallel(
            images,
            num_workers,
            model,
            threads_per_worker=threads_per_worker,
            max_pixels=max_pixels,
            **settings,
        )
    )


def iterate_masks_parallel(
    images: Sequence[ImageLike],
    num_workers: int = 4,
    model: str | PromptableModel = "sam_vit_b",
    *,
    threads_per_worker: int | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    **settings: Any,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of each image in turn; as `generate_masks_parallel`, which keeps them."""
    workers = min(num_workers, len(images))
    threads = threads_per_worker
    if threads is None:
        threads = max(1, available_cores() // max(1, workers))
    if num_workers < 1 or threads < 1:
        raise InputError(
            f"expected at least 1 worker and 1 thread for each, got {num_workers} and {threads}"
        )
    if not images:
        return
    loaded = load_model(model, device="cpu") if isinstance(model, str) else model
    output_mode = SAMAutomaticMaskGenerator(loaded, **settings).settings.output_mode
    share_weights(loaded)
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(loaded, {**settings, "output_mode": "coco_rle"}, threads),
    )
    try:
        # A few images ahead of the one waited for, lest all results pile up behind a slow one.
        waiting: list[Future[list[dict[str, Any]]]] = []
        for index in range(len(images)):
            while len(waiting) < len(images) and len(waiting) < index + 2 * workers:
                waiting.append(pool.submit(_work, images[len(waiting)], max_pixels))
            records = _result(waiting[index], index, workers)
            waiting[index] = Future()  # lets go of the records
            yield [_in_mode(record, output_mode) for record in records]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def share_weights(model: PromptableModel) -> None:
    """Move the weights of a model on the CPU to one piece of shared memory, in place.

    One piece, because each would take a file descriptor in every process.

    Raises:
        InputError: The model is on an accelerator.
        NexusError: There is not enough shared memory.
    """
    if model.device.type != "cpu":
        raise InputError(
            f"expected a model on the CPU, got one on {model.device}",
            hint="on an accelerator one process serves best: generate_batch(images)",
        )
    tensors = [*model.parameters(), *model.buffers()]
    if all(tensor.untyped_storage().is_shared() for tensor in tensors):
        return
    sizes = [-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
    _check_shared_memory(sum(sizes))
    with torch.no_grad():
        pool = torch.empty(sum(sizes), dtype=torch.uint8)
        pool.untyped_storage().share_memory_()
        start = 0
        for tensor, size in zip(tensors, sizes, strict=True):
            place = pool[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            place.copy_(tensor)
            tensor.data = place
            start += size


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_shared_memory(needed: int) -> None:
    """Refuse what would end in a bus error while the weights are copied."""
    if not _SHARED_FOLDER.is_dir():
        return
    free = shutil.disk_usage(_SHARED_FOLDER).free
    if free < needed:
        raise NexusError(
            f"expected {needed / 2**20:.0f} MiB of shared memory for the weights, "
            f"got {free / 2**20:.0f} MiB",
            hint="in a container raise it, as with docker run --shm-size=4g; or use generate_batch",
        )


def _result(future: Future[list[dict[str, Any]]], index: int, workers: int) -> list[dict[str, Any]]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise NexusError(
            f"expected records of image {index}, got a worker process that died",
            hint=f"often for want of memory: use fewer than {workers} workers; a script must "
            'start under if __name__ == "__main__":',
        ) from error
    except NexusError as error:
        raise type(error)(f"image {index}: {error.message}", error.hint) from error


def _in_mode(record: dict[str, Any], output_mode: str) -> dict[str, Any]:
    rle = record["segmentation"]
    if output_mode == "binary_mask":
        return {**record, "segmentation": decode_rle(rle)}
    if output_mode == "uncompressed_rle":
        return {**record, "segmentation": {**rle, "counts": rle_counts(rle).tolist()}}
    return record


_generators: list[SAMAutomaticMaskGenerator] = []


def _start_worker(model: PromptableModel, settings: dict[str, Any], threads: int) -> None:
    """Prepare a worker process: its threads, and its generator on the shared weights."""
    # An interrupt from the keyboard reaches all processes; the parent's ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _generators[:] = [SAMAutomaticMaskGenerator(model, **settings)]


def _work(image: ImageLike, max_pixels: int | None) -> list[dict[str, Any]]:
    return _generators[0].generate(image, max_pixels=max_pixels)
