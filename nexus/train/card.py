"""The model card of a run: what was learnt from what, how, and how much better it made things."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nexus import __version__
from nexus.core.files import replacing
from nexus.models.registry import MODELS
from nexus.train.config import TrainingSettings
from nexus.train.images.evaluation import POOLED, Figure

CARD, SUMMARY = "MODEL_CARD.md", "summary.json"
_PACKAGES = ("torch", "numpy", "accelerate", "peft")
_MEASURES = {
    "box": "box",
    "one_click": "one click",
    "clicks": "{clicks} error-driven clicks",
}


@dataclasses.dataclass(frozen=True)
class CardFacts:
    """What the card says that the settings do not.

    Attributes:
        variant: What was fine-tuned.
        steps: How many were done.
        best_step: After how many the best checkpoint was taken.
        elapsed_s: Time spent in them.
        learning: How many numbers learnt.
        objects: How many objects were learnt from.
        images: How many images they are in.
        data_digest: Of all names, pixels and masks, held-out ones included.
        figures: Measurements by step.
        device: Where it ran.
        processes: How many shared it.
        command: How it was started, or None.
    """

    variant: str
    steps: int
    best_step: int
    elapsed_s: float
    learning: int
    objects: int
    images: int
    data_digest: str
    figures: Mapping[int, Sequence[Figure]]
    device: str
    processes: int
    command: str | None


def write_card(folder: Path, settings: TrainingSettings, facts: CardFacts) -> list[Path]:
    """Write MODEL_CARD.md and the same facts as summary.json; return both."""
    card, summary = folder / CARD, folder / SUMMARY
    with replacing(card) as temporary:
        temporary.write_text(card_text(settings, facts), "utf-8")
    values = {
        **dataclasses.asdict(facts),
        "figures": {
            str(step): [one.as_dict() for one in figures] for step, figures in facts.figures.items()
        },
        "settings": dataclasses.asdict(settings),
        "versions": _versions(),
    }
    with replacing(summary) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    return [card, summary]


def card_text(settings: TrainingSettings, facts: CardFacts) -> str:
    """Return the card as Markdown."""
    spec = MODELS.get(facts.variant)
    licence = f", weights under {spec.licence}" if spec is not None else ""
    if settings.model.checkpoint is not None:
        licence += f", begun from `{Path(settings.model.checkpoint).name}`"
    machine = f"{facts.processes} process(es) on {facts.device}, {platform.machine()}"
    lines = [
        f"# {facts.variant}, fine-tuned",
        "",
        f"- base: `{facts.variant}`{licence}",
        f"- what learnt: {_learnt(settings)}, {facts.learning:,} numbers",
        f"- learnt from {facts.objects} objects in {facts.images} images of "
        + ", ".join(f"`{one.title}`" for one in settings.data.sets),
        f"- split: {_split(settings)}",
        f"- data digest: `{facts.data_digest}`",
        f"- {facts.steps} steps in {facts.elapsed_s / 60:.1f} min, {machine}; `best.safetensors` "
        f"is of step {facts.best_step}",
        f"- seed {settings.seed}; " + ", ".join(f"{k} {v}" for k, v in _versions().items()),
        *([f"- command: `{facts.command}`"] if facts.command else []),
        "",
        "## Held-out objects",
        "",
        *_table(settings, facts),
        "",
        "Figures are mean Dice coefficients over objects, at the size of the original image.",
        "",
        "## Use",
        "",
        "```python no-run",
        "from nexus.models.cv import load_model",
        "",
        f'model = load_model("{facts.variant}", "best.safetensors")',
        "```",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(dataclasses.asdict(settings), indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _learnt(settings: TrainingSettings) -> str:
    adapt = settings.adapt
    if adapt.policy != "lora":
        return f"policy `{adapt.policy}`"
    return f"LoRA of rank {adapt.lora.rank} in {adapt.lora.targets} of {adapt.lora.where}"


def _split(settings: TrainingSettings) -> str:
    data = settings.data
    rule = f"of n images the last floor(n * {data.held_out:g}) by name are held out"
    stated = [one for one in data.sets if one.held_out_split is not None]
    parts = ", ".join(f"`{one.title}` {one.held_out_split}" for one in stated)
    if len(stated) == len(data.sets):
        rule = f"held out: {parts}"
    elif stated:
        rule += f"; but of {parts}"
    return f"{rule}; the {data.most_objects} largest objects of an image, none under " + (
        f"{data.min_area} pixels"
    )


def _table(settings: TrainingSettings, facts: CardFacts) -> list[str]:
    """Return the figures before, of the best and of the last step, set by set."""
    steps = (0, facts.best_step, facts.steps)
    of_step = [{(one.measure, one.set_title): one for one in facts.figures[step]} for step in steps]
    if not of_step[0]:
        return ["Nothing was held out."]
    lines = [
        f"| measure | set | objects | before | best (step {steps[1]}) | last (step {steps[2]}) |",
        "|---|---|---|---|---|---|",
    ]
    for key in sorted(of_step[0], key=lambda key: (key[0], key[1] != POOLED, key[1])):
        name = _MEASURES[key[0]].format(clicks=settings.evaluate.clicks)
        values = " | ".join(f"{figures[key].dsc:.4f}" for figures in of_step)
        lines.append(f"| {name} | {key[1]} | {of_step[0][key].objects} | {values} |")
    return lines


def _versions() -> dict[str, Any]:
    versions = {"nexus": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
