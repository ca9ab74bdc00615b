"""One image of a dataset after another: in this process, or in several that share the weights."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import multiprocessing
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from nexus.core.errors import ImageError, InputError, NexusError, NexusWarning
from nexus.data.formats.dataset import mask_record
from nexus.data.images.loading import load_image


class MaskGenerator(Protocol):
    """Whatever makes classic mask records of an image."""

    @property
    def generate(self) -> Callable[..., Sequence[Mapping[str, Any]]]:
        """Take an (H, W, 3) RGB image and return the records of its masks.

        A limit of its own on pixels, if it has one, is an argument `max_pixels`.
        """
        ...


@dataclass(frozen=True)
class Job:
    """One image to do: its place among the inputs, its file, and the largest it may be."""

    index: int
    path: Path
    max_pixels: int | None


@dataclass(frozen=True)
class Outcome:
    """What came of a job: a record for the journal, or what is wrong with the image."""

    index: int
    record: dict[str, Any] | None
    message: str = ""
    hint: str | None = None
    notes: tuple[str, ...] = ()


def stamp_of(path: Path) -> list[int]:
    """Return bytes and time of change of a file, which tell whether it is still the same.

    Raises:
        OSError: There is no such file.
    """
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def run_job(job: Job, generator: MaskGenerator) -> Outcome:
    """Read one image and generate its masks; an image that fails is told, not raised.

    A RuntimeError counts as the image's failure, since that is what PyTorch raises where memory
    does not suffice for this one.
    """
    try:
        _check_name(job.path)
        stamp = stamp_of(job.path)
        image = load_image(job.path, max_pixels=job.max_pixels)
        size_hw = (image.shape[0], image.shape[1])
        records = generator.generate(image, **_no_limit(generator))
        masks = [mask_record(record, size_hw) for record in records]
    except NexusError as error:
        return Outcome(job.index, None, error.message, error.hint)
    except (OSError, MemoryError, RuntimeError) as error:
        return Outcome(job.index, None, f"{type(error).__name__}: {error}")
    seen = [mask for mask in masks if mask["area"]]
    return Outcome(job.index, {"stamp": stamp, "size_hw": list(size_hw), "masks": seen})


def run_job_elsewhere(job: Job, generator: MaskGenerator) -> Outcome:
    """Do a job in another process than the caller's: what it warns of travels on the outcome."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NexusWarning)
        outcome = run_job(job, generator)
    return dataclasses.replace(outcome, notes=tuple(str(each.message) for each in caught))


def run_serial(
    jobs: Sequence[Job], generator: MaskGenerator, threads: int = 1
) -> Generator[Outcome, None, None]:
    """Do the jobs one after the other in this process, with PyTorch held to `threads`."""
    with _pinned(threads):
        for job in jobs:
            yield run_job(job, generator)


def run_parallel(
    jobs: Sequence[Job], generator: MaskGenerator, workers: int, threads: int = 1
) -> Generator[Outcome, None, None]:
    """Do the jobs in worker processes, and yield outcomes as they come.

    The workers share the memory of the weights, and each uses `threads` of its own: the sums a
    model adds up differ in their last bits with the number of threads, and are the same for any
    number of workers. They write nothing, and end with this process however it ends.

    Raises:
        InputError: The generator cannot be sent to another process.
        NexusError: A worker process died.
    """
    context = multiprocessing.get_context("spawn")
    team: dict[Connection, Any] = {}
    busy: dict[Connection, Job] = {}
    waiting = iter(jobs)
    try:
        for _ in range(min(workers, len(jobs))):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, generator, threads), daemon=True)
            try:
                process.start()
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise InputError(
                    f"expected a generator that can be sent to a worker process, got {error}",
                    hint="define its class and functions at the top of a module, or use workers=1",
                ) from error
            finally:
                there.close()
            team[here] = process
            _give(here, next(waiting), busy)
        while busy:
            for connection in wait(list(busy)):
                outcome = _take(connection, busy)  # type: ignore[arg-type]
                following = next(waiting, None)
                if following is not None:
                    _give(connection, following, busy)  # type: ignore[arg-type]
                yield outcome
    finally:
        for connection, process in team.items():
            connection.close()
            process.terminate()
        for process in team.values():
            process.join()


def _give(connection: Connection, job: Job, busy: dict[Connection, Job]) -> None:
    busy[connection] = job
    try:
        connection.send(job)
    except OSError as error:
        raise _died(job) from error


def _take(connection: Connection, busy: dict[Connection, Job]) -> Outcome:
    job = busy.pop(connection)
    try:
        outcome = connection.recv()
    except (EOFError, OSError) as error:
        raise _died(job) from error
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome  # type: ignore[no-any-return]


def _died(job: Job) -> NexusError:
    return NexusError(
        f"expected worker processes to live until the last image, got one that died at "
        f"{str(job.path)!r}",
        hint="often memory: try fewer workers. A script that starts workers needs its calls under "
        "`if __name__ == '__main__':`. What was done is kept; the same call goes on from there",
    )


def _work(connection: Connection, generator: MaskGenerator, threads: int) -> None:
    """Do jobs until the other end closes: the life of a worker process."""
    # Ctrl-C reaches every process of the terminal; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with _pinned(threads):
        while _serve(connection, generator):
            pass


def _serve(connection: Connection, generator: MaskGenerator) -> bool:
    """Do one job; False when there will be no other."""
    try:
        job = connection.recv()
    except (EOFError, OSError):
        return False
    try:
        answer: Outcome | Exception = run_job_elsewhere(job, generator)
    except Exception as error:  # a mistake in the generator, which the parent raises
        answer = error
    try:
        connection.send(answer)
    except OSError:
        return False
    except (pickle.PicklingError, AttributeError, TypeError):
        connection.send(NexusError(f"a worker failed: {type(answer).__name__}: {answer}"))
    return True


@contextlib.contextmanager
def _pinned(threads: int) -> Iterator[None]:
    """Hold PyTorch, where it is loaded, to a number of threads for the block."""
    if "torch" not in sys.modules:
        yield
        return
    import torch

    former = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _no_limit(generator: MaskGenerator) -> dict[str, Any]:
    """Return arguments that switch off a generator's own limit; the image passed the run's."""
    known = inspect.signature(generator.generate).parameters
    return {"max_pixels": None} if "max_pixels" in known else {}


def _check_name(path: Path) -> None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ImageError(
            f"expected a file name in UTF-8, got {str(path)!a}", hint="rename the file"
        ) from error
