"""Jobs done by worker processes of this machine, which share the memory of the weights."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError, NexusError
from nexus.core.log import log_as_asked
from nexus.predict.jobs import Job, Outcome, Work, do_job_elsewhere
from nexus.predict.threads import pinned

if TYPE_CHECKING:
    from torch import Tensor, nn

_ALIGNMENT = 64
_SHARED_FOLDER = Path("/dev/shm")
_CANNOT_TRAVEL = (pickle.PicklingError, AttributeError, TypeError)
_TRAVEL_HINT = "define classes and functions at the top of a module, or use `workers=1`"


def run_in_processes(
    jobs: Sequence[Job], work: Work, workers: int, threads: int, ahead: int | None = None
) -> Generator[Outcome, None, None]:
    """Do jobs in worker processes, and yield outcomes as they come; errors as in `Pool.run`.

    The workers, no more than there are jobs, are started afresh, so that a script must guard its
    own start with `if __name__ == "__main__":`. They write nothing, and end with this process
    however it ends. The work is sent to each once; where it has a `model` on the CPU, the weights
    of that are moved to shared memory, and all processes read the same.
    """
    model: Any = getattr(work, "model", None)
    if "torch" in sys.modules:
        from torch import nn

        if isinstance(model, nn.Module) and {t.device.type for t in _tensors(model)} == {"cpu"}:
            share_weights(model)
    team: dict[Any, Any] = {}
    busy: dict[Any, int] = {}  # the place of the job that each worker does
    begun = 0
    try:
        for _ in range(min(workers, len(jobs))):
            here, process = _start(work, threads)
            team[here] = process
        # Not while they are being started: a large item waits until its worker can read it.
        idle, done = list(team), None
        while True:
            while idle and begun < len(jobs):
                if ahead is not None and begun >= min(busy.values(), default=begun) + ahead:
                    break
                busy[idle[0]] = begun
                _give(idle.pop(0), jobs[begun])
                begun += 1
            if done is not None:  # after the workers have work: the caller may take its time
                yield done
            if not busy:
                return
            connection: Any = wait(list(busy))[0]
            job = jobs[busy.pop(connection)]
            try:
                done = connection.recv()
            except (EOFError, OSError) as error:
                raise _died(job) from error
            if isinstance(done, BaseException):
                raise done
            idle.append(connection)
    finally:
        for here, process in team.items():
            here.close()
            process.terminate()
        for process in team.values():
            process.join()


def share_weights(model: nn.Module) -> None:
    """Move the weights of a model on the CPU to one piece of shared memory, in place.

    One piece, because each would take a file descriptor in every process.

    Raises:
        InputError: The model is on an accelerator.
        NexusError: There is not enough shared memory.
    """
    import torch

    tensors = _tensors(model)
    for tensor in tensors:
        if tensor.device.type != "cpu":
            raise InputError(
                f"expected a model on the CPU, got one on {tensor.device}",
                hint="on an accelerator one process serves best: `workers=1`, or generate_batch",
            )
    if all(tensor.untyped_storage().is_shared() for tensor in tensors):
        return
    sizes = [-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors]
    needed = sum(sizes)
    free = shutil.disk_usage(_SHARED_FOLDER).free if _SHARED_FOLDER.is_dir() else needed
    if free < needed:  # it would end in a bus error while the weights are copied
        raise NexusError(
            f"expected {needed / 2**20:.0f} MiB of shared memory for the weights, "
            f"got {free / 2**20:.0f} MiB",
            hint="in a container raise it, as with docker run --shm-size=4g; or use one process",
        )
    with torch.no_grad():
        pool = torch.empty(needed, dtype=torch.uint8)
        pool.untyped_storage().share_memory_()
        start = 0
        for tensor, size in zip(tensors, sizes, strict=True):
            place = pool[start : start + tensor.nbytes].view(tensor.dtype)
            # Weights in another memory format keep it: their products round otherwise.
            dense = tensor.is_contiguous(memory_format=torch.channels_last)
            strides = tensor.stride() if dense else tensor.contiguous().stride()
            tensor.data = place.as_strided(tensor.shape, strides).copy_(tensor)
            start += size


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _start(work: Work, threads: int) -> tuple[Connection, Any]:
    """Start a worker; return this end of its pipe, and the process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, work, threads), daemon=True)
    try:
        process.start()
    except _CANNOT_TRAVEL as error:
        raise InputError(
            f"expected work that can be sent to a worker process, got {error}", _TRAVEL_HINT
        ) from error
    finally:
        there.close()
    return here, process


def _give(connection: Connection, job: Job) -> None:
    try:
        connection.send(job)
    except OSError as error:
        raise _died(job) from error
    except _CANNOT_TRAVEL as error:
        raise InputError(
            f"expected functions of {job.title!r} that can be sent to a worker process, "
            f"got {error}",
            _TRAVEL_HINT,
        ) from error


def _died(job: Job) -> NexusError:
    return NexusError(
        f"expected worker processes to live until the last job, got one that died at {job.title!r}",
        hint="often memory: try fewer workers. A script that starts workers needs its calls under "
        "`if __name__ == '__main__':`. What is done is kept where there is an output folder; the "
        "same call goes on from there",
    )


def _serve(connection: Connection, work: Work, threads: int) -> None:
    """Do jobs until the other end closes: the life of a worker process."""
    log_as_asked()
    # Ctrl-C reaches every process of the terminal; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # For work that loads PyTorch by itself, later on.
    os.environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))
    answer: Outcome | Exception
    with pinned(threads), contextlib.suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            try:
                answer = do_job_elsewhere(job, work)
            except Exception as error:  # a mistake in the work, which the parent raises
                answer = error
            try:
                connection.send(answer)
            except _CANNOT_TRAVEL:
                connection.send(NexusError(f"a worker failed: {type(answer).__name__}: {answer}"))
