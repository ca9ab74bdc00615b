"""One image or video of an evaluation after another: here, or in several processes."""

from __future__ import annotations

import dataclasses
import pickle
import signal
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from nexus.core.errors import InputError, NexusError, NexusWarning
from nexus.data.truth.labelled import LabelledImage, LabelledVideo, largest_truths
from nexus.eval.detections import Detection, detection_records
from nexus.eval.efficiency import Stopwatch, peak_accelerator_bytes, peak_memory_bytes
from nexus.eval.protocols import Row, Scene, scene_rows
from nexus.eval.settings import EvaluationSettings
from nexus.eval.vos import SessionTracker, Tracker, video_rows
from nexus.models.cv.sam2 import SAM2
from nexus.models.promptable import PromptableModel
from nexus.predict.parallel import available_cores, share_weights


@dataclass(frozen=True)
class Item:
    """One image or video to do.

    Attributes:
        index: Its place in the run.
        set_name: Of its set.
        source: Where image and truth come from.
        image_id: Its id in the annotations, for the protocol `detections`.
        detections: Its boxes of a detector.
    """

    index: int
    set_name: str
    source: LabelledImage | LabelledVideo
    image_id: int = 0
    detections: tuple[Detection, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the run: of the set, then of the image."""
        return f"{self.set_name}/{self.source.name}"


@dataclass(frozen=True)
class Outcome:
    """What came of an item: a record for the journal, or what is wrong with it."""

    index: int
    record: dict[str, Any] | None
    message: str = ""
    hint: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluator:
    """A model, or for videos a tracker, with the settings of a run.

    Attributes:
        model: A promptable model; for videos one with sessions, or any `Tracker`.
        settings: Of the run.

    Raises:
        InputError: The model cannot do what the protocols ask for.
    """

    model: PromptableModel | Tracker
    settings: EvaluationSettings

    def __post_init__(self) -> None:
        if self.settings.is_video:
            fits, wanted = isinstance(self.model, SAM2) or self._is_tracker, "a model for videos"
        else:
            fits, wanted = isinstance(self.model, PromptableModel), "a promptable model"
        if not fits:
            got = getattr(self.model, "variant", type(self.model).__name__)
            raise InputError(
                f"expected {wanted} for the protocol {', '.join(self.settings.protocols)}, "
                f"got {got}",
                hint="`nexus models` says which models track" if self.settings.is_video else None,
            )

    @property
    def device(self) -> torch.device:
        """Where the model is; the CPU for a tracker that does not tell."""
        return torch.device(getattr(self.model, "device", "cpu"))

    @property
    def _is_tracker(self) -> bool:
        return callable(self.model) and not isinstance(self.model, PromptableModel)

    def evaluate(self, item: Item) -> dict[str, Any]:
        """Return the record of one item: `rows`, `detections`, `costs`.

        Raises:
            NexusError: The image or its truth cannot be read or used.
            OSError: The same.
        """
        watch = Stopwatch(self.device)
        if isinstance(item.source, LabelledVideo):
            rows, costs = self._video(item.source, watch)
            found: list[dict[str, Any]] = []
        else:
            rows, found, costs = self._image(item, item.source, watch)
        whose = {
            "set": item.set_name,
            "image": item.source.name,
            "group": getattr(item.source, "group", None),
        }
        costs |= watch.seconds
        costs["peak_rss_bytes"] = peak_memory_bytes()
        costs["peak_accelerator_bytes"] = peak_accelerator_bytes(self.device)
        return {"rows": [{**whose, **row} for row in rows], "detections": found, "costs": costs}

    def _image(
        self, item: Item, source: LabelledImage, watch: Stopwatch
    ) -> tuple[list[Row], list[dict[str, Any]], dict[str, Any]]:
        settings, model = self.settings, self.model
        if not isinstance(model, PromptableModel):
            raise InputError(f"expected a video for a tracker, got the image {source.name!r}")
        image = source.load_image()
        truths = [truth for truth in source.load_truths() if not truth.ignore]
        _check_sizes(source, (image.shape[0], image.shape[1]), [t.mask.shape for t in truths])
        chosen = largest_truths(truths, settings.max_objects, settings.min_area)
        with watch.part("encoder_s"):
            embedding = model.encode_image(image, input_side=settings.input_side, max_pixels=None)
        scene = Scene(
            item.name,
            model,
            embedding,
            chosen,
            source.ignored(),
            source.spacing_hw,
            settings,
            watch,
        )
        rows, prompts = [], 0
        for each, asked in scene_rows(scene):
            rows += each
            prompts += asked
        found = []
        if "detections" in settings.protocols:
            found = detection_records(scene, item.image_id, item.detections)
            prompts += len(found)
        return rows, found, {"prompts": prompts, "embedding_bytes": embedding.nbytes}

    def _video(self, source: LabelledVideo, watch: Stopwatch) -> tuple[list[Row], dict[str, Any]]:
        model = self.model
        tracker: Tracker
        if isinstance(model, SAM2):
            tracker = SessionTracker(model, self.settings.input_side)
        elif isinstance(model, PromptableModel):
            raise InputError(f"expected a model for videos, got {model.variant}")
        else:
            tracker = model
        frames = _timed(tracker(source), watch)
        rows = video_rows(source, frames, leave_out_last=self.settings.leave_out_last)
        return [{"protocol": "vos", **row} for row in rows], {"frames": len(source.frames)}


def run_here(items: Sequence[Item], evaluator: Evaluator) -> Generator[Outcome, None, None]:
    """Do the items one after the other in this process."""
    for item in items:
        yield _outcome(item, evaluator)


def run_in_workers(
    items: Sequence[Item], evaluator: Evaluator, workers: int
) -> Generator[Outcome, None, None]:
    """Do the items in processes that share the weights; yield outcomes as they come.

    Each process has its share of the cores.

    Raises:
        InputError: The model is on an accelerator, or cannot be sent to another process.
        NexusError: A worker process died, or there is not enough shared memory.
    """
    workers = min(workers, len(items))
    if isinstance(evaluator.model, PromptableModel):
        share_weights(evaluator.model)
    else:
        _check_can_be_sent(evaluator.model, "a tracker")
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(evaluator, max(1, available_cores() // workers)),
    )
    try:
        pending: set[Future[Outcome]] = set()
        for item in items:
            _check_can_be_sent(item, f"functions of {item.name!r}")
            pending.add(pool.submit(_work, item))
            if len(pending) < 2 * workers:
                continue
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (each.result() for each in done)
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (each.result() for each in done)
    except BrokenProcessPool as error:
        raise NexusError(
            "expected worker processes to live until the last image, got one that died",
            hint=f"often for want of memory: use fewer than {workers} workers; a script must "
            'start under if __name__ == "__main__":',
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _outcome(item: Item, evaluator: Evaluator) -> Outcome:
    """Do one item; what fails is told, not raised.

    A RuntimeError counts as the image's failure, since that is what PyTorch raises where memory
    does not suffice for this one.
    """
    try:
        return Outcome(item.index, evaluator.evaluate(item))
    except NexusError as error:
        return Outcome(item.index, None, error.message, error.hint)
    except (OSError, MemoryError, RuntimeError) as error:
        return Outcome(item.index, None, f"{type(error).__name__}: {error}")


_evaluators: list[Evaluator] = []


def _start_worker(evaluator: Evaluator, threads: int) -> None:
    """Prepare a worker process: its threads, and the evaluator on the shared weights."""
    # An interrupt from the keyboard reaches all processes; the parent's ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _evaluators[:] = [evaluator]


def _work(item: Item) -> Outcome:
    """Do an item in a worker; what it warns of travels on the outcome."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NexusWarning)
        outcome = _outcome(item, _evaluators[0])
    notes = (str(each.message) for each in caught if issubclass(each.category, NexusWarning))
    return dataclasses.replace(outcome, notes=tuple(notes))


def _check_can_be_sent(value: Any, what: str) -> None:
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise InputError(
            f"expected {what} that can be sent to a worker process, got {error}",
            hint="define classes and functions at the top of a module, or use workers=1",
        ) from error


def _timed(frames: Any, watch: Stopwatch) -> Generator[Any, None, None]:
    """Yield from an iterator, its own time on the clock and not the caller's."""
    while True:
        with watch.part("tracker_s"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _check_sizes(
    source: LabelledImage, size_hw: tuple[int, int], shapes: Sequence[tuple[int, ...]]
) -> None:
    for shape in shapes:
        if shape != size_hw:
            raise InputError(
                f"expected masks of {size_hw[0]} x {size_hw[1]} pixels, as {source.name!r} is, "
                f"got {' x '.join(map(str, shape))}"
            )
