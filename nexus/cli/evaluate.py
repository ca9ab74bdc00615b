"""`nexus evaluate`: a model and a dataset with ground truth in, figures out."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexus.core.errors import InputError

if TYPE_CHECKING:
    from nexus.data.truth.labelled import LabelledImage, LabelledVideo
    from nexus.eval.detections import Detections
    from nexus.eval.run import EvaluationResult

_HELP_DATASET = (
    "Its layout: folder (images and masks of the same names), coco, lvis, ade20k, cityscapes, "
    "sa1b, medsam_npz, nifti, grabcut, berkeley, davis_interactive; of videos davis2016, "
    "davis2017, youtube_vos, mose, sa_v."
)
_HELP_ROOT = (
    "Folder of the dataset. May be repeated: each is a set, called as its folder and reported by "
    "itself and pooled."
)
_HELP_PROTOCOL = (
    "box, click, clicks, medical-box, detections; vos for videos. May be repeated: an image is "
    "encoded once for all. If not given, box; vos for a dataset of videos."
)
_HELP_OUT = "Folder for what is written; made if it is not there. Run again to go on."
_HELP_CHECKPOINT = "Weights to load instead of the published ones; --model says of which kind."
_HELP_MULTIMASK = (
    "auto: the best of three masks for a single click, else one; single: always one; best: always "
    "the best of three by predicted score."
)
_HELP_JITTER = "Noise on the edges of ground-truth boxes, as a share of the box's side."
_HELP_DETECTIONS = "COCO results file of boxes, for the protocol detections."
_HELP_ANNOTATIONS = "COCO annotation file that those boxes are scored against."
_HELP_SPLIT = "As the dataset's authors call it; if not given, the usual one."
_HELP_WORKERS = "Processes, which share the weights and the cores."
_HELP_TOLERANCE = "Tolerance of the normalised surface Dice, mm."

_Dataset = Annotated[str, typer.Option(metavar="NAME", help=_HELP_DATASET)]
_Roots = Annotated[list[Path] | None, typer.Option(metavar="DIR", help=_HELP_ROOT)]
_Out = Annotated[Path | None, typer.Option(metavar="DIR", help=_HELP_OUT)]
_Model = Annotated[str, typer.Option(metavar="NAME", help="A name of `nexus models`.")]
_Protocols = Annotated[list[str] | None, typer.Option(metavar="NAME", help=_HELP_PROTOCOL)]
_Split = Annotated[str | None, typer.Option(metavar="NAME", help=_HELP_SPLIT)]
_Limit = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="The first N images of each set alone.")
]
_MaxObjects = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="The largest N objects of an image.")
]
_MinArea = Annotated[
    int, typer.Option(metavar="N", min=1, help="Leave out objects of fewer pixels.")
]
_Clicks = Annotated[
    int, typer.Option(metavar="N", min=1, help="Clicks on an object in the protocol clicks.")
]
_Jitter = Annotated[float, typer.Option(metavar="SHARE", help=_HELP_JITTER)]
_Multimask = Annotated[str, typer.Option(metavar="HOW", help=_HELP_MULTIMASK)]
_Tolerance = Annotated[float, typer.Option(metavar="MM", help=_HELP_TOLERANCE)]
_Boxes = Annotated[Path | None, typer.Option(metavar="FILE", help=_HELP_DETECTIONS)]
_Annotations = Annotated[Path | None, typer.Option(metavar="FILE", help=_HELP_ANNOTATIONS)]
_InputSide = Annotated[
    int | None, typer.Option(metavar="N", help="Side of the model frame, pixels.")
]
_Checkpoint = Annotated[Path | None, typer.Option(metavar="FILE", help=_HELP_CHECKPOINT)]
_Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="As in `nexus segment`.")]
_Dtype = Annotated[str | None, typer.Option(metavar="DTYPE", help="As in `nexus segment`.")]
_Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of the noise on boxes.")]
_Workers = Annotated[int, typer.Option(metavar="N", min=1, help=_HELP_WORKERS)]
_Json = Annotated[bool, typer.Option("--json", help="Print summary.json instead of paths.")]

evaluate = typer.Typer(
    add_completion=False, rich_markup_mode=None, invoke_without_command=True, no_args_is_help=True
)


@evaluate.callback()
def _evaluate(
    context: typer.Context,
    dataset: _Dataset = "",
    root: _Roots = None,
    out: _Out = None,
    model: _Model = "lite_medsam",
    protocol: _Protocols = None,
    split: _Split = None,
    limit: _Limit = None,
    max_objects: _MaxObjects = None,
    min_area: _MinArea = 1,
    clicks: _Clicks = 20,
    jitter: _Jitter = 0.0,
    multimask: _Multimask = "auto",
    tolerance_mm: _Tolerance = 2.0,
    detections: _Boxes = None,
    annotations: _Annotations = None,
    input_side: _InputSide = None,
    checkpoint: _Checkpoint = None,
    device: _Device = None,
    dtype: _Dtype = None,
    seed: _Seed = 0,
    workers: _Workers = 1,
    as_json: _Json = False,
) -> None:
    """Evaluate a model on a dataset with ground truth.

    Into the folder of --out goes objects.csv with a row for each object, summary.json with the
    means, seeds, versions and hardware, report.md, and pictures: histogram.png, worst.png,
    clicks.png. A run that was interrupted or killed goes on when it is started again.

    The paths of what was written go to stdout, one a line. An image that cannot be used is
    reported on stderr and in the summary, the others are done, and the exit code is 1.

    `nexus evaluate compare A B` compares two such folders object by object.
    """
    if context.invoked_subcommand is not None:
        return
    if not dataset or not root or out is None:
        raise InputError(
            "expected --dataset NAME, --root DIR and --out DIR, got "
            f"--dataset {dataset or 'none'}, --root {_named(root)}, --out {out or 'none'}",
            hint="nexus evaluate --dataset folder --root DIR --model lite_medsam --out DIR; "
            "or nexus evaluate compare A B",
        )
    chosen = _protocols(dataset, protocol)
    options = {
        "clicks": clicks,
        "jitter": jitter,
        "max_objects": max_objects,
        "min_area": min_area,
        "multimask": multimask,
        "input_side": input_side,
        "tolerance_mm": tolerance_mm,
        "leave_out_last": dataset in ("davis2016", "davis2017"),
        "seed": seed,
    }
    load = {"checkpoint": checkpoint, "device": device, "dtype": dtype}
    sets = _sets(dataset, root, split, limit)
    boxes = _detections(detections, annotations)
    result = _run(model, load, sets, chosen, options, (out, boxes, workers), (dataset, split))
    if as_json:
        typer.echo(json.dumps(result.summary, indent=2))
    else:
        for path in result.files:
            typer.echo(str(path))
    if result.failures:
        raise typer.Exit(1)


@evaluate.command("compare")
def compare_runs(
    run_a: Annotated[Path, typer.Argument(metavar="A", help="The --out folder of a run.")],
    run_b: Annotated[Path, typer.Argument(metavar="B", help="That of another.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write compare.json and compare.md there.")
    ] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="UNIT",
            help="image, object or group (a volume, a patient): what is drawn anew as a whole.",
        ),
    ] = "image",
    confidence: Annotated[float, typer.Option(metavar="SHARE", help="Of the intervals.")] = 0.95,
    resamples: Annotated[
        int, typer.Option(metavar="N", min=1, help="How often units are drawn anew.")
    ] = 9999,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the drawing.")] = 0,
    method: Annotated[
        str, typer.Option(metavar="NAME", help="percentile, basic or BCa.")
    ] = "percentile",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare two evaluations object by object, with bootstrap confidence intervals.

    The table goes to stdout as Markdown; differences are B minus A. Objects that one run alone has
    are counted and left out.
    """
    from nexus.eval.compare import compare, write_comparison

    found = compare(
        run_a,
        run_b,
        unit=by,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        method=method,
    )
    if out is not None:
        for path in write_comparison(out, found):
            typer.echo(str(path), err=True)
    typer.echo(json.dumps(found.as_json(), indent=2) if as_json else found.table().rstrip())


def _protocols(dataset: str, named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the protocols asked for, or the usual one of the dataset.

    Raises:
        InputError: No such dataset, or images under a protocol of videos or the other way round.
    """
    from nexus.data.truth import READERS

    if dataset not in READERS:
        from nexus.data.truth import open_images

        open_images(dataset, Path())  # says which there are
    is_video = READERS[dataset].kind == "videos"
    chosen = tuple(named or (("vos",) if is_video else ("box",)))
    if is_video != (chosen == ("vos",)):
        raise InputError(
            f"expected {'the protocol vos' if is_video else 'a protocol of images'} for "
            f"{dataset}, which has {READERS[dataset].kind}, got {', '.join(chosen)}"
        )
    return chosen


def _sets(
    dataset: str, roots: Sequence[Path], split: str | None, limit: int | None
) -> dict[str, Sequence[LabelledImage] | Sequence[LabelledVideo]]:
    """Open each root as a set of the name of its folder.

    Raises:
        InputError: Two folders of one name, or one that is not laid out as the dataset is.
    """
    from nexus.data.truth import READERS, open_images, open_videos

    read = open_videos if READERS[dataset].kind == "videos" else open_images
    sets: dict[str, Sequence[LabelledImage] | Sequence[LabelledVideo]] = {}
    for root in roots:
        name = root.resolve().name
        if name in sets:
            raise InputError(
                f"expected --root folders of different names, got {name!r} twice",
                hint="the name of a folder is the name of its set",
            )
        sets[name] = read(dataset, root, split=split)[:limit]
    return sets


def _detections(results: Path | None, annotations: Path | None) -> Detections | None:
    if results is None and annotations is None:
        return None
    if results is None or annotations is None:
        raise InputError("expected --detections together with --annotations, got one alone")
    from nexus.eval.detections import read_detections

    return read_detections(results, annotations)


def _run(
    model: str,
    load: dict[str, Any],
    sets: dict[str, Sequence[LabelledImage] | Sequence[LabelledVideo]],
    protocols: tuple[str, ...],
    options: dict[str, Any],
    work: tuple[Path, Detections | None, int],
    data: tuple[str, str | None],
) -> EvaluationResult:
    from nexus.eval.run import evaluate as run
    from nexus.eval.settings import settings_of
    from nexus.models.cv import load_model
    from nexus.models.registry import model_spec

    settings_of(protocols, options)  # what is wrong is said before weights are fetched
    model_spec(model)
    out, boxes, workers = work
    about = {"dataset": data[0], "split": data[1], "command": shlex.join(["nexus", *sys.argv[1:]])}
    return run(
        load_model(model, **load),
        sets,
        protocols,
        out=out,
        detections=boxes,
        workers=workers,
        progress=True,
        about=about,
        **options,
    )


def _named(roots: Sequence[Path] | None) -> str:
    return " ".join(map(str, roots or ())) or "none"
