"""`nexus evaluate`: a model and a dataset with ground truth in, figures out."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from nexus.cli import options as shared
from nexus.core.choices import entry
from nexus.core.errors import InputError

if TYPE_CHECKING:
    from nexus.eval.detections import Detections

_HELP_DATASET = (
    "Its layout: folder (images and masks of the same names), coco, lvis, ade20k, cityscapes, "
    "sa1b, medsam_npz, nifti, grabcut, berkeley, davis_interactive; of videos davis2016, "
    "davis2017, youtube_vos, mose, sa_v."
)
_HELP_ROOT = (
    "Folder of the dataset, or NAME=DIR. May be repeated: each is a set, called NAME or as its "
    "folder, and reported by itself and pooled."
)
_HELP_PROTOCOL = (
    "box, click, clicks, medical-box, detections; vos for videos. May be repeated: an image is "
    "encoded once for all. If not given, box; vos for a dataset of videos."
)
_HELP_OUT = "Folder for what is written; made if it is not there. Run again to go on."
_HELP_MULTIMASK = (
    "auto: the best of three masks for a single click, else one; single: always one; best: always "
    "the best of three by predicted score."
)
_HELP_JITTER = "Noise on the edges of ground-truth boxes, as a share of the box's side."
_HELP_DETECTIONS = "COCO results file of boxes, for the protocol detections."
_HELP_ANNOTATIONS = "COCO annotation file that those boxes are scored against."
_HELP_SPLIT = "As the dataset's authors call it; if not given, the usual one."
_HELP_WORKERS = "Processes, which share the weights."
_HELP_LIMIT = "The first N images of each set alone."
_HELP_OBJECTS = "The largest N objects of an image."
_HELP_AREA = "Leave out objects of fewer pixels."
_HELP_CLICKS = "Clicks on an object in the protocol clicks."
_HELP_SIDE = "Side of the model frame, pixels."
_HELP_TOLERANCE = "Tolerance of the normalised surface Dice, mm."
_HELP_COMPARED = "Write compare.json and compare.md there."
_HELP_RESAMPLES = "How often units are drawn anew."
_HELP_WORST = "Name the N objects that lost most under each protocol; 0 for none."
_HELP_BY = "image, object or group (a volume, a patient): what is drawn anew as a whole."

_SETTINGS = (
    *("clicks", "jitter", "max_objects", "min_area", "multimask", "input_side", "tolerance_mm"),
    "seed",
)

evaluate = typer.Typer(
    add_completion=False, rich_markup_mode=None, invoke_without_command=True, no_args_is_help=True
)


@evaluate.callback()
def _evaluate(
    context: typer.Context,
    dataset: Annotated[str, Option(metavar="NAME", help=_HELP_DATASET)] = "",
    root: Annotated[list[Path] | None, Option(metavar="DIR", help=_HELP_ROOT)] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help=_HELP_OUT)] = None,
    model: shared.Model = "lite_medsam",
    protocol: Annotated[list[str] | None, Option(metavar="NAME", help=_HELP_PROTOCOL)] = None,
    split: Annotated[str | None, Option(metavar="NAME", help=_HELP_SPLIT)] = None,
    limit: Annotated[int | None, Option(metavar="N", min=1, help=_HELP_LIMIT)] = None,
    max_objects: Annotated[int | None, Option(metavar="N", min=1, help=_HELP_OBJECTS)] = None,
    min_area: Annotated[int, Option(metavar="N", min=1, help=_HELP_AREA)] = 1,
    clicks: Annotated[int, Option(metavar="N", min=1, help=_HELP_CLICKS)] = 20,
    jitter: Annotated[float, Option(metavar="SHARE", help=_HELP_JITTER)] = 0.0,
    multimask: Annotated[str, Option(metavar="HOW", help=_HELP_MULTIMASK)] = "auto",
    tolerance_mm: Annotated[float, Option(metavar="MM", help=_HELP_TOLERANCE)] = 2.0,
    detections: Annotated[Path | None, Option(metavar="FILE", help=_HELP_DETECTIONS)] = None,
    annotations: Annotated[Path | None, Option(metavar="FILE", help=_HELP_ANNOTATIONS)] = None,
    input_side: Annotated[int | None, Option(metavar="N", help=_HELP_SIDE)] = None,
    checkpoint: shared.Checkpoint = None,
    device: shared.Device = None,
    dtype: shared.Dtype = None,
    seed: Annotated[int, Option(metavar="N", min=0, help="Of the noise on boxes.")] = 0,
    workers: Annotated[int, Option(metavar="N", min=1, help=_HELP_WORKERS)] = 1,
    threads: shared.Threads = None,
    ray: shared.Ray = None,
    overwrite: shared.Overwrite = False,
    as_json: Annotated[
        bool, Option("--json", help="Print summary.json, not tables and paths.")
    ] = False,
) -> None:
    """Evaluate a model on a dataset with ground truth.

    Into the folder of --out goes objects.csv with a row for each object, summary.json with the
    means, seeds, versions and hardware, report.md, and pictures: histogram.png, worst.png,
    clicks.png. A run that was interrupted or killed goes on when it is started again.

    The tables go to stdout, then after an empty line the paths of what was written, one a line. An
    image that cannot be used is reported on stderr and in the summary, the others are done, and the
    exit code is 1. An option that no protocol looks at is refused.

    `nexus evaluate compare A B` compares two such folders object by object.
    """
    given = _given(context)
    if context.invoked_subcommand is not None:
        return _nothing_before(context.invoked_subcommand, given)
    if not dataset or not root or out is None:
        raise _incomplete(dataset, root, out)
    from nexus.data.truth import READERS
    from nexus.eval.report import report_head, result_lines
    from nexus.eval.run import evaluate as run
    from nexus.eval.settings import settings_of
    from nexus.models.registry import model_spec

    kind = entry(READERS, dataset, "a dataset").kind
    protocols = _protocols(dataset, kind, protocol)
    options = _options(context, given, dataset)
    sets = _sets(dataset, kind, root, split, limit)
    boxes = _boxes(protocols, detections, annotations)
    settings_of(protocols, options)  # what is wrong is said before weights are fetched
    model_spec(model)
    result = run(
        shared.loaded(model, checkpoint, device, dtype),
        sets,
        protocols,
        out=out,
        detections=boxes,
        workers=workers,
        threads=threads,
        ray=ray,
        progress=True,
        overwrite=overwrite,
        about={"dataset": dataset, "split": split, "command": shlex.join(["nexus", *sys.argv[1:]])},
        **options,
    )
    if not as_json:
        typer.echo("\n".join([*report_head(result.summary), *result_lines(result.summary), ""]))
    shared.print_results(result.files, result.summary if as_json else None)
    if result.failures:
        raise typer.Exit(1)


def _incomplete(dataset: str, root: list[Path] | None, out: Path | None) -> InputError:
    shown = " ".join(map(str, root or ())) or "none"
    return InputError(
        "expected --dataset NAME, --root DIR and --out DIR, got "
        f"--dataset {dataset or 'none'}, --root {shown}, --out {out or 'none'}",
        hint="nexus evaluate --dataset folder --root DIR --model lite_medsam --out DIR; "
        "or nexus evaluate compare A B",
    )


def _given(context: typer.Context) -> list[str]:
    """Return the options of the command line, as they are written there."""
    return [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if (source := context.get_parameter_source(parameter.name or "")) is not None
        and source.name != "DEFAULT"
    ]


def _options(context: typer.Context, given: list[str], dataset: str) -> dict[str, Any]:
    """Return the settings that were given: those by default are held against no protocol."""
    named = (name for name in _SETTINGS if f"--{name.replace('_', '-')}" in given)
    last = {"leave_out_last": True} if dataset in ("davis2016", "davis2017") else {}
    return {name: context.params[name] for name in named} | last


def _nothing_before(verb: str, given: list[str]) -> None:
    """Refuse options before the name of another verb, to which they would be lost."""
    if given:
        raise InputError(
            f"expected options of {verb} behind its name, got {', '.join(given)} before it",
            hint=f"nexus evaluate {verb} A B --out DIR",
        )


def _boxes(
    protocols: tuple[str, ...], detections: Path | None, annotations: Path | None
) -> Detections | None:
    """Read the boxes of a detector, if they are asked for."""
    from nexus.eval.detections import read_detections

    if ("detections" in protocols) != (detections is not None):
        raise InputError(
            "expected --detections together with --protocol detections, got one without the other"
        )
    if (detections is None) != (annotations is None):
        raise InputError("expected --detections together with --annotations, got one alone")
    return read_detections(detections, annotations) if detections and annotations else None


def _protocols(dataset: str, kind: str, given: list[str] | None) -> tuple[str, ...]:
    """Return the protocols for a dataset of images or videos."""
    is_video = kind == "videos"
    protocols = tuple(given or (("vos",) if is_video else ("box",)))
    if is_video != (protocols == ("vos",)):
        raise InputError(
            f"expected {'the protocol vos' if is_video else 'a protocol of images'} for "
            f"{dataset}, which has {kind}, got {', '.join(protocols)}"
        )
    return protocols


def _sets(
    dataset: str, kind: str, root: list[Path], split: str | None, limit: int | None
) -> dict[str, Any]:
    """Open the sets of the roots, by the names given to them or those of their folders."""
    from nexus.data.truth import open_images, open_videos

    read: Any = open_videos if kind == "videos" else open_images
    sets: dict[str, Any] = {}
    for given in root:
        name, _, folder = str(given).rpartition("=")
        if given.exists() or "/" in name:
            name, folder = "", str(given)
        place = Path(folder)
        if not name:  # a link is shown under its own name
            name = (place.resolve() if place.name in ("", "..") else place.absolute()).name
        if name in sets:
            raise InputError(
                f"expected --root folders of different names, got {name!r} twice",
                hint="--root NAME=DIR names a set: --root first=a/set --root second=b/set",
            )
        sets[name] = read(dataset, place, split=split)[:limit]
    return sets


@evaluate.command("compare")
def compare_runs(
    run_a: Annotated[Path, Argument(metavar="A", help="The --out folder of a run.")],
    run_b: Annotated[Path, Argument(metavar="B", help="That of another.")],
    out: Annotated[Path | None, Option(metavar="DIR", help=_HELP_COMPARED)] = None,
    by: Annotated[str, Option(metavar="UNIT", help=_HELP_BY)] = "image",
    confidence: Annotated[float, Option(metavar="SHARE", help="Of the intervals.")] = 0.95,
    resamples: Annotated[int, Option(metavar="N", min=1, help=_HELP_RESAMPLES)] = 9999,
    seed: Annotated[int, Option(metavar="N", min=0, help="Of the drawing.")] = 0,
    method: Annotated[str, Option(metavar="NAME", help="percentile, basic or BCa.")] = "percentile",
    worst: Annotated[int, Option(metavar="N", min=0, help=_HELP_WORST)] = 10,
    overwrite: shared.Overwrite = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare two evaluations object by object, with bootstrap confidence intervals.

    Tables go to stdout as Markdown: all objects; each set and category, those that are worse named
    above; the objects that lost most. Differences are B minus A. Objects that one run alone has are
    counted and left out.
    """
    from nexus.eval.compare import compare, write_comparison

    how: dict[str, Any] = {"unit": by, "confidence": confidence, "method": method}
    how["worst"] = worst
    found = compare(run_a, run_b, resamples=resamples, seed=seed, **how)
    if out is not None:
        for path in write_comparison(out, found, overwrite=overwrite):
            shared.note(str(path))
    typer.echo(json.dumps(found.as_json(), indent=2) if as_json else found.table().rstrip())
