"""`nexus train`: a YAML file and labelled images or videos in, a fine-tuned model out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from nexus.cli import options as shared
from nexus.core.errors import InputError
from nexus.core.words import counted

_HELP_CONFIG = "YAML file of the run; docs/training.md lists what may stand in it."
_HELP_RECIPE = "Take a recipe that comes with Nexus instead: points or domain."
_HELP_OUT = "Folder of the run: state, logs, weights, picture and card."
_HELP_SET = "Replace a value of the file, such as optimizer.steps=100. May be repeated."


def train(
    config: Annotated[
        Path | None, Argument(metavar="CONFIG", help=_HELP_CONFIG, show_default=False)
    ] = None,
    recipe: Annotated[str | None, Option(metavar="NAME", help=_HELP_RECIPE)] = None,
    out: Annotated[Path, Option(metavar="DIR", help=_HELP_OUT)] = Path("train_out"),
    overwrite: shared.Overwrite = False,
    resume: shared.Resume = False,
    overrides: Annotated[shared.Texts, Option("--set", metavar="KEY=VALUE", help=_HELP_SET)] = None,
) -> None:
    """Fine-tune a model on labelled images, or on labelled videos with `task: video`.

    A run can be killed at any moment; the same command goes on to the same losses. Started by
    `accelerate launch -m nexus train ...`, several processes share the rows of each step.

    The figures on the held-out objects, before and after, and the paths of what was written go to
    stdout, one a line. best.safetensors loads everywhere a checkpoint does.
    """
    from nexus.train.config_file import read_settings, recipe_file
    from nexus.train.loop import fine_tune
    from nexus.train.processes import starts_first

    if (config is None) == (recipe is None):
        raise InputError(
            f"expected either CONFIG or --recipe, got {'neither' if config is None else 'both'}",
            hint="nexus train CONFIG.yaml, or nexus train --recipe points",
        )
    path = config if config is not None else recipe_file(recipe or "")
    settings = read_settings(path, overrides or [])
    words = ["nexus", "train", *([str(config)] if config else ["--recipe", str(recipe)])]
    words += ["--out", str(out)]
    for override in overrides or []:
        words += ["--set", override]
    result = fine_tune(settings, out, overwrite=overwrite, command=shlex.join(words))
    if not starts_first():
        return
    for before, best in zip(result.before, result.best, strict=True):
        typer.echo(
            f"{best.measure} {best.set_title} ({counted(best.objects, 'object')}): "
            f"{before.value:.4f} -> {best.value:.4f}"
        )
    shared.print_results(result.files)
