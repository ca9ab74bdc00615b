"""The model card of a run: what was learnt from what, how, and how much better it made things."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nexus.core.files import write_text
from nexus.core.words import counted, singular
from nexus.data.truth.notes import lines_of
from nexus.models.registry import MODELS
from nexus.train.checkpoints import RunState
from nexus.train.config import RunSettings, SetsSettings
from nexus.train.figures import POOLED
from nexus.train.task import Task
from nexus.version import __version__

CARD, SUMMARY = "MODEL_CARD.md", "summary.json"
_PACKAGES = ("torch", "numpy", "accelerate", "peft")


def write_card(
    folder: Path, settings: RunSettings, task: Task, state: RunState, facts: Mapping[str, Any]
) -> list[Path]:
    """Write MODEL_CARD.md and the same facts as summary.json; return both.

    What settings, task and state do not say are `facts`: the `variant` that was fine-tuned, how
    many numbers were `learning`, the `device`, how many `processes`, and the `command` or None.
    """
    values = {
        **facts,
        "steps": state.step,
        "best_step": state.best_step,
        "elapsed_s": state.elapsed_s,
        "counts": dict(task.counts),
        "data_digest": task.digest,
        "held_out": [getattr(item, "image", item).name for item in task.held_out],
        "masks": dict(task.masks),
        "figures": state.plain_figures(),
        "settings": dataclasses.asdict(settings),
        "versions": _versions(),
    }
    return [
        write_text(folder / CARD, card_text(settings, task, state, facts)),
        write_text(folder / SUMMARY, json.dumps(values, indent=2) + "\n"),
    ]


def card_text(settings: RunSettings, task: Task, state: RunState, facts: Mapping[str, Any]) -> str:
    """Return the card as Markdown."""
    variant, command = facts["variant"], facts["command"]
    spec = MODELS.get(variant)
    licence = f", weights under {spec.licence}" if spec is not None else ""
    if settings.model.checkpoint is not None:
        licence += f", begun from `{Path(settings.model.checkpoint).name}`"
    machine = f"{facts['processes']} process(es) on {facts['device']}, {platform.machine()}"
    learnt_from, split = _sources(settings.data, task)
    lora, what = settings.adapt.lora, f"policy `{settings.adapt.policy}`"
    if settings.adapt.policy == "lora":
        what = f"LoRA of rank {lora.rank} in {lora.targets} of {lora.where}"
    lines = [
        f"# {variant}, fine-tuned",
        "",
        f"- base: `{variant}`{licence}",
        f"- what learnt: {what}, {facts['learning']:,} numbers",
        f"- learnt from {learnt_from}",
        f"- split: {split}",
        f"- data digest: `{task.digest}`",
        *(f"- `{title}`: {line}" for title, of in task.masks.items() for line in lines_of(of)),
        f"- {state.step} steps in {state.elapsed_s / 60:.1f} min, {machine}; `best.safetensors` "
        f"is of step {state.best_step}",
        f"- seed {settings.seed}; " + ", ".join(f"{k} {v}" for k, v in _versions().items()),
        *([f"- command: `{command}`"] if command else []),
        "",
        "## Held-out objects",
        "",
        *_table(task, state),
        "",
        f"Figures are {task.figures_are}.",
        "",
        "## Use",
        "",
        "```python no-run",
        "from nexus.models.cv import load_model",
        "",
        f'model = load_model("{variant}", "best.safetensors")',
        "```",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(dataclasses.asdict(settings), indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _sources(data: SetsSettings | None, task: Task) -> tuple[str, str]:
    """Say what was learnt from, and what of it was held out."""
    counts = " in ".join(counted(count, singular(noun)) for noun, count in task.counts.items())
    if data is None:
        return f"{counts} that the caller brought", "the caller's"
    titles = ", ".join(f"`{entry.title}`" for entry in data.sets)
    rule = f"of n {task.noun} the last floor(n * {data.held_out:g}) by name are held out"
    if data.groups is not None:
        rule = (
            f"whole groups of {task.noun} are held out (data.groups: {data.groups}), of g groups "
            f"of a set the last floor(g * {data.held_out:g}) by name and one at least"
        )
    stated = [entry for entry in data.sets if entry.held_out_split is not None]
    parts = ", ".join(f"`{entry.title}` {entry.held_out_split}" for entry in stated)
    if len(stated) == len(data.sets):
        rule = f"held out: {parts}"
    elif stated:
        rule += f"; but of {parts}"
    return f"{counts} of {titles}", f"{rule}; {task.rule}" if task.rule else rule


def _table(task: Task, state: RunState) -> list[str]:
    """Return the figures before, of the best and of the last step, set by set."""
    steps = (0, state.best_step, state.step)
    of_step = [{(f.measure, f.set_title): f for f in state.figures[step]} for step in steps]
    if not of_step[0]:
        return ["Nothing was held out."]
    lines = [
        f"| measure | set | objects | before | best (step {steps[1]}) | last (step {steps[2]}) |",
        "|---|---|---|---|---|---|",
    ]
    for key in sorted(of_step[0], key=lambda key: (key[0], key[1] != POOLED, key[1])):
        values = " | ".join(f"{figures[key].value:.4f}" for figures in of_step)
        count = of_step[0][key].objects
        lines.append(f"| {task.measures[key[0]]} | {key[1]} | {count} | {values} |")
    return lines


def _versions() -> dict[str, Any]:
    versions = {"nexus": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
