"""Evaluate a model over sets of images or videos; a killed run goes on where it was.

What is found in an image is a record of the run's ledger; when all are done the report is written
from the ledger, in the order of the images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from nexus.core.errors import InputError
from nexus.core.outputs import output_folder
from nexus.core.steps import ProgressLike
from nexus.data.truth.labelled import LabelledImage, LabelledVideo
from nexus.data.truth.notes import counted_masks, warn_of_masks
from nexus.eval.detections import Detections, score_detections
from nexus.eval.efficiency import describe_machine, summarise_costs, versions
from nexus.eval.evaluator import Evaluator, Item
from nexus.eval.report import report_names, write_report
from nexus.eval.settings import EvaluationSettings, settings_of
from nexus.eval.summary import EvaluationResult, summarise_rows
from nexus.eval.vos import Tracker
from nexus.models.promptable import PromptableModel
from nexus.predict.dataset.settings import describe_generator
from nexus.predict.jobs import Job
from nexus.predict.ledger import Ledger, open_ledger
from nexus.predict.pool import Pool
from nexus.predict.processes import share_weights

Sources = Sequence[LabelledImage] | Sequence[LabelledVideo]


def evaluate(
    model: PromptableModel | Tracker,
    images: Sources | Mapping[str, Sources],
    protocol: str | Sequence[str] = "box",
    *,
    out: str | os.PathLike[str] | None = None,
    detections: Detections | None = None,
    workers: int = 1,
    threads: int | None = None,
    ray: str | None = None,
    progress: ProgressLike = False,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
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
        workers: Processes, sharing the memory of the weights.
        threads: Threads of PyTorch in each; None shares the cores out evenly. The figures are the
            same for any number of workers with the same number of threads; with another, scores
            differ in their last digits and masks in a pixel now and then.
        ray: Evaluate on a Ray cluster: its address, or "local" for one of this machine.
        progress: Show images done and the time that is left on stderr; or a function of images done
            and images in all.
        about: Put into the summary; `dataset` and `split` are also held against an earlier run.
        overwrite: Remove what Nexus made in the folder and begin anew, and replace files of others.
        options: Fields of `EvaluationSettings`.

    Raises:
        InputError: No images, two of one name, wrong options, or a folder begun under others or
            with files of others that would be replaced.
        NexusError: Another run is using the folder, or a worker process died.
        MissingDependencyError: Ray is wanted and not installed.
        OSError: A file cannot be written.
    """
    settings = settings_of(protocol, options)
    evaluator = Evaluator(model, settings)
    items = _items(images, settings, detections)
    pool, unit = Pool(workers, threads, ray), "videos" if settings.is_video else "images"
    if workers > 1 and ray is None and isinstance(model, PromptableModel):
        share_weights(model)
    described, about = describe_generator(evaluator), dict(about or {})
    asked = (f"{name} {item.image_id} {item.detections!r}" for name, item in items.items())
    stamp = described | {key: about.get(key) for key in ("dataset", "split")}
    stamp["detections"] = None if detections is None else _digest(asked)
    with (
        nullcontext()
        if out is None
        else output_folder(out, verb="evaluate", overwrite=overwrite) as outputs,
        open_ledger(outputs, stamp) as ledger,
    ):
        if outputs is not None:
            outputs.reserve(report_names(settings.protocols))
        jobs = [Job(name, item) for name, item in items.items()]
        ledger.fill(jobs, evaluator, pool, unit=unit, progress=progress)
        result = _result(items, ledger, detections, settings)
        result.summary.update(
            model=described["model"],
            machine=describe_machine(evaluator.device, pool.threads_each),
            versions=versions(),
            **about,
        )
        if outputs is not None:
            sources = {(item.set_name, item.source.name): item.source for item in items.values()}
            result.files.extend(write_report(outputs.folder, result, sources))
            outputs.remove_stale(result.files)
        warn_of_masks(result.summary["data"]["sets"])
        if progress is not True:
            ledger.warn_of_failures(len(items), unit)
        return result


def _result(
    items: Mapping[str, Item],
    ledger: Ledger,
    detections: Detections | None,
    settings: EvaluationSettings,
) -> EvaluationResult:
    """Return the rows of the items that are done, and what they come to."""
    records = [ledger.read(name) for name in items if name in ledger]
    rows = [row for record in records for row in record["rows"]]
    found = [each for record in records for each in record["detections"]]
    results = summarise_rows(rows)
    if detections is not None:
        ids = [item.image_id for name, item in items.items() if name in ledger]
        results["detections"] = score_detections(detections, ids, found)
    failures = ledger.failures_as_json()
    summary = {
        "results": results,
        "efficiency": summarise_costs([record["costs"] for record in records]),
        "settings": dataclasses.asdict(settings),
        "data": {
            "images": len(items),
            "evaluated": len(records),
            "failed": len(failures),
            "names_sha256": _digest(items),
            "sets": counted_masks(
                (item.set_name, item.source, ledger.read(name).get("masks"))
                for name, item in items.items()
                if name in ledger
            ),
        },
        "failures": failures,
    }
    return EvaluationResult(rows, summary, failures, detections=found)


def _items(
    images: Sources | Mapping[str, Sources],
    settings: EvaluationSettings,
    detections: Detections | None,
) -> dict[str, Item]:
    """Return all items by name, with their boxes of a detector."""
    if ("detections" in settings.protocols) != (detections is not None):
        raise InputError(
            "expected detections together with the protocol detections, got one without the other"
        )
    sets = images if isinstance(images, Mapping) else {"all": images}
    kind: type = LabelledVideo if settings.is_video else LabelledImage
    items: dict[str, Item] = {}
    for set_name, source in ((name, source) for name in sets for source in sets[name]):
        if not isinstance(source, kind):
            raise InputError(
                f"expected {kind.__name__}s for the protocol {settings.protocols[0]}, "
                f"got a {type(source).__name__}",
                hint="videos take the protocol vos, images all others",
            )
        item = Item(set_name, source, *(detections.of(source.name) if detections else ()))
        if item.name in items:
            raise InputError(
                f"expected images of different names in a set, got {item.name!r} twice"
            )
        items[item.name] = item
    if not items:
        raise InputError("expected at least one image or video, got none")
    return items


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
