"""`nexus train`: a YAML file and labelled images in, a fine-tuned model out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nexus.core.errors import InputError

if TYPE_CHECKING:
    from nexus.train.loop import TrainingResult
    from nexus.train.video.run import VideoTrainingResult

_HELP_CONFIG = "YAML file of the run; docs/training.md lists what may stand in it."
_HELP_RECIPE = "Take a recipe that comes with Nexus instead: points or domain."
_HELP_OUT = "Folder of the run: state, logs, weights, picture and card."
_HELP_RESUME = "Go on with the run in the folder, if there is one there."
_HELP_SET = "Replace a value of the file, such as optimizer.steps=100. May be repeated."

_Config = Annotated[
    Path | None, typer.Argument(metavar="CONFIG", help=_HELP_CONFIG, show_default=False)
]
_Recipe = Annotated[str | None, typer.Option("--recipe", metavar="NAME", help=_HELP_RECIPE)]
_Out = Annotated[Path, typer.Option("--out", metavar="DIR", help=_HELP_OUT)]
_Resume = Annotated[bool, typer.Option("--resume", help=_HELP_RESUME)]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_HELP_SET)]


def train(
    config: _Config = None,
    recipe: _Recipe = None,
    out: _Out = Path("train_out"),
    resume: _Resume = False,
    overrides: _Set = None,
) -> None:
    """Fine-tune a model on labelled images, or on labelled videos with `task: video`.

    A run can be killed at any moment and goes on with --resume to the same losses. Started by
    `accelerate launch -m nexus train ...`, several processes share the rows of each step.

    The figures on the held-out objects, before and after, and the paths of what was written go to
    stdout, one a line. best.safetensors loads everywhere a checkpoint does.
    """
    from nexus.train.config_file import read_run, recipe_file
    from nexus.train.loop import fine_tune
    from nexus.train.processes import starts_first
    from nexus.train.video.run import VideoRunSettings, run_on_videos

    if (config is None) == (recipe is None):
        raise InputError(
            f"expected either CONFIG or --recipe, got {'neither' if config is None else 'both'}",
            hint="nexus train CONFIG.yaml, or nexus train --recipe points",
        )
    path = config if config is not None else recipe_file(recipe or "")
    settings = read_run(path, overrides or [])
    if isinstance(settings, VideoRunSettings):
        _print_tracked(run_on_videos(settings, out, resume=resume))
        return
    words = ["nexus", "train", *([str(config)] if config else ["--recipe", str(recipe)])]
    words += ["--out", str(out)]
    for override in overrides or []:
        words += ["--set", override]
    result = fine_tune(settings, out, resume=resume, command=shlex.join(words))
    if starts_first():
        _print(result)


def _print(result: TrainingResult) -> None:
    before = {(one.measure, one.set_title): one.dsc for one in result.before}
    for one in result.best:
        typer.echo(
            f"{one.measure} {one.set_title} ({one.objects} objects): "
            f"{before[one.measure, one.set_title]:.4f} -> {one.dsc:.4f}"
        )
    for path in result.files:
        typer.echo(str(path))


def _print_tracked(result: VideoTrainingResult) -> None:
    if result.before is not None and result.after is not None:
        for name, before, after in zip("JF", result.before, result.after, strict=True):
            typer.echo(f"mean {name} of held-out objects: {before:.4f} -> {after:.4f}")
    for path in result.files:
        typer.echo(str(path))
