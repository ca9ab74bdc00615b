"""Evaluate a model over sets of images or videos; a killed run goes on where it was.

Each finished image is a line of `OUT/.nexus/journal.jsonl`, on the disk before the next is begun;
when all are done the report is written from the journal, in the order of the images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexus.core.errors import InputError, NexusWarning
from nexus.core.files import claimed
from nexus.core.journal import Journal
from nexus.core.progress import Progress
from nexus.data.truth.labelled import LabelledImage, LabelledVideo
from nexus.eval.detections import Detections, score_detections
from nexus.eval.efficiency import describe_machine, summarise_costs, versions
from nexus.eval.jobs import Evaluator, Item, Outcome, run_here, run_in_workers
from nexus.eval.settings import EvaluationSettings, settings_of
from nexus.eval.summary import summarise_rows
from nexus.eval.vos import Tracker
from nexus.models.promptable import PromptableModel
from nexus.predict.dataset.settings import describe_generator

Sources = Sequence[LabelledImage] | Sequence[LabelledVideo]


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        rows: One for each object and protocol, in the order of the images.
        summary: What stands in summary.json.
        failures: The images that could not be used: `image`, `message`, `hint`.
        files: What was written; empty without an output folder.
        detections: COCO results with masks, of the protocol detections.
    """

    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    failures: list[dict[str, str | None]] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    detections: list[dict[str, Any]] = field(default_factory=list)

    def mean(self, metric: str, protocol: str | None = None, set_name: str | None = None) -> float:
        """Return the mean of a metric over all objects, or over those of one set.

        Args:
            metric: A column, such as "dice".
            protocol: Need not be given where there is one only.
            set_name: None for the objects of all sets.

        Raises:
            InputError: There is no such figure.
        """
        figures = self.summary["results"]
        try:
            chosen = figures[protocol] if protocol is not None else _only(figures)
            value = (chosen["pooled"] if set_name is None else chosen["sets"][set_name])[metric]
        except KeyError as error:
            raise InputError(
                f"expected a figure of the evaluation, got {error.args[0]!r}",
                hint="result.summary['results'] holds them all",
            ) from error
        if value is None:
            raise InputError(f"expected a figure of the evaluation, got {metric!r}, not defined")
        return float(value)


def evaluate(
    model: PromptableModel | Tracker,
    images: Sources | Mapping[str, Sources],
    protocol: str | Sequence[str] = "box",
    *,
    out: str | os.PathLike[str] | None = None,
    detections: Detections | None = None,
    workers: int = 1,
    progress: bool = False,
    about: Mapping[str, Any] | None = None,
    **options: Any,
) -> EvaluationResult:
    """Evaluate a model over labelled images or videos.

    Each image is encoded once for all its objects and protocols. With `out` the run can be killed
    and called again, and goes on with the images that are left. An image that cannot be used is
    told in a warning (with `progress`, on stderr), listed in the summary and passed over.

    Args:
        model: A promptable model; for the protocol vos, one for videos or any `Tracker`.
        images: From `nexus.data.truth.open_images` or `open_videos`; or several sets by name.
        protocol: One or several names in `nexus.eval.settings.PROTOCOLS`.
        out: Folder for objects.csv, summary.json, report.md and the plots.
        detections: For the protocol detections, from `read_detections`.
        workers: Processes, sharing the memory of the weights and the cores. With another number
            of threads in each, scores differ in their last digits and masks in a pixel now and
            then.
        progress: Show images done and the time that is left on stderr.
        about: Put into the summary; `dataset` and `split` are also held against an earlier run.
        options: Fields of `EvaluationSettings`.

    Raises:
        InputError: No images, two of one name, wrong options, or a folder begun under others.
        NexusError: Another run is using the folder, or a worker process died.
        OSError: A file cannot be written.
    """
    settings = settings_of(protocol, options)
    evaluator = Evaluator(model, settings)
    items = _items(images, settings, detections)
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"expected a number of workers of 1 or more, got {workers!r}")
    run = _Run(items, evaluator, dict(about or {}), detections)
    with run.records(out):
        run.fill(workers, progress)
        result = run.result()
        if result.failures and not progress:
            first = result.failures[0]
            warnings.warn(
                f"{len(result.failures)} of {len(items)} images could not be used; the first: "
                f"{first['image']}: {first['message']}",
                NexusWarning,
                stacklevel=2,
            )
        if out is None:
            return result
        from nexus.eval.report import write_report

        sources = {(item.set_name, item.source.name): item.source for item in items}
        return dataclasses.replace(result, files=write_report(Path(out), result, sources))


class _Memory:
    """What a `Journal` does, for runs without an output folder."""

    def __init__(self) -> None:
        self._records: dict[str, Mapping[str, Any]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        self._records[name] = record

    def read(self, name: str) -> Mapping[str, Any]:
        return self._records[name]


class _Run:
    """One run: the items, what came of them, and the summary."""

    def __init__(
        self,
        items: Sequence[Item],
        evaluator: Evaluator,
        about: dict[str, Any],
        detections: Detections | None,
    ) -> None:
        self.items = items
        self.evaluator = evaluator
        self.about = about
        self.detections = detections
        self.described = describe_generator(evaluator)
        self.failed: dict[int, Outcome] = {}
        self._records: Journal | _Memory = _Memory()

    @contextlib.contextmanager
    def records(self, out: str | os.PathLike[str] | None) -> Iterator[None]:
        """Hold the output folder's lock and journal for the block."""
        if out is None:
            yield
            return
        settings = {
            **self.described,
            **{key: self.about.get(key) for key in ("dataset", "split")},
            "detections": None if self.detections is None else _digest_of(self.items),
        }
        with (
            claimed(out) as state,
            Journal(state / "journal.jsonl", settings) as self._records,
        ):
            yield

    def fill(self, workers: int, progress: bool) -> None:
        """Evaluate the items that are left."""
        left = [item for item in self.items if item.name not in self._records]
        if not left:
            return
        unit = "videos" if self.evaluator.settings.is_video else "images"
        bar = Progress(len(self.items), unit=unit, done=len(self.items) - len(left))
        outcomes: Generator[Outcome, None, None]
        if workers > 1:
            outcomes = run_in_workers(left, self.evaluator, workers)
        else:
            outcomes = run_here(left, self.evaluator)
        said: set[str] = set()
        with contextlib.closing(outcomes), bar if progress else contextlib.nullcontext():
            try:
                for outcome in outcomes:
                    for note in outcome.notes:
                        if note not in said:
                            said.add(note)
                            warnings.warn(note, NexusWarning, stacklevel=4)
                    self._settle(outcome, bar if progress else None)
            except KeyboardInterrupt:
                if progress and isinstance(self._records, Journal):
                    bar.say(
                        f"{len(self._records)} {unit} are done and kept; the same command goes on "
                        "with the others"
                    )
                raise

    def _settle(self, outcome: Outcome, bar: Progress | None) -> None:
        name = self.items[outcome.index].name
        if outcome.record is not None:
            self._records.append(name, outcome.record)
        else:  # not journaled: the next run tries again, since the file may have been mended
            self.failed[outcome.index] = outcome
            if bar is not None:
                hint = f"\nhint: {outcome.hint}" if outcome.hint else ""
                bar.say(f"error: {name}: {outcome.message}{hint}")
        if bar is not None:
            bar.advance()

    def result(self) -> EvaluationResult:
        """Return rows and summary of all items that are done."""
        rows: list[dict[str, Any]] = []
        costs, found, done = [], [], []
        for item in self.items:
            if item.name in self._records:
                record = self._records.read(item.name)
                rows += record["rows"]
                found += record["detections"]
                costs.append(record["costs"])
                done.append(item)
        results = summarise_rows(rows)
        if self.detections is not None:
            ids = [item.image_id for item in done]
            results["detections"] = score_detections(self.detections, ids, found)
        failures: list[dict[str, str | None]] = [
            {"image": self.items[i].name, "message": each.message, "hint": each.hint}
            for i, each in sorted(self.failed.items())
        ]
        settings = self.evaluator.settings
        summary = {
            "results": results,
            "efficiency": summarise_costs(costs),
            "settings": dataclasses.asdict(settings),
            "model": self.described["model"],
            "data": {
                "images": len(self.items),
                "evaluated": len(done),
                "failed": len(failures),
                "names_sha256": _digest([item.name for item in self.items]),
            },
            "failures": failures,
            "machine": describe_machine(self.evaluator.device),
            "versions": versions(),
            **self.about,
        }
        return EvaluationResult(rows, summary, failures, detections=found)


def _items(
    images: Sources | Mapping[str, Sources],
    settings: EvaluationSettings,
    detections: Detections | None,
) -> list[Item]:
    """Return all items, with their boxes of a detector.

    Raises:
        InputError: There are none, two have one name, or videos and images are mixed up.
    """
    if ("detections" in settings.protocols) != (detections is not None):
        raise InputError(
            "expected detections together with the protocol detections, got one without the other"
        )
    sets = images if isinstance(images, Mapping) else {"all": images}
    kind: type = LabelledVideo if settings.is_video else LabelledImage
    items: list[Item] = []
    for set_name, sources in sets.items():
        for source in sources:
            if not isinstance(source, kind):
                raise InputError(
                    f"expected {kind.__name__}s for the protocol {settings.protocols[0]}, "
                    f"got a {type(source).__name__}",
                    hint="videos take the protocol vos, images all others",
                )
            item = Item(len(items), set_name, source)
            if detections is not None:
                image_id = detections.image_id(source.name)
                boxes = detections.of(source.name)
                item = dataclasses.replace(item, image_id=image_id, detections=boxes)
            items.append(item)
    if not items:
        raise InputError("expected at least one image or video, got none")
    names = [item.name for item in items]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"expected images of different names in a set, got {twice!r} twice")
    return items


def _only(figures: Mapping[str, Any]) -> Any:
    if len(figures) != 1:
        raise InputError(
            f"expected one protocol, got {', '.join(figures) or 'none'}",
            hint="say which: result.mean(metric, protocol=...)",
        )
    return next(iter(figures.values()))


def _digest_of(items: Sequence[Item]) -> str:
    return _digest([f"{item.name} {item.image_id} {item.detections!r}" for item in items])


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
