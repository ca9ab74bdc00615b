"""`nexus models`: list the models and which are on this machine, or describe one."""

from __future__ import annotations

import shutil
import textwrap
from json import dumps
from typing import Annotated, Any

import typer
from typer import Argument, Option

from nexus.core.errors import DownloadError
from nexus.core.weights.hub import cached, weights_path
from nexus.core.words import counted
from nexus.models.citations import bibtex
from nexus.models.registry import MODELS, ModelSpec, model_spec

_HELP_NAME = "A model to describe; none lists all."
_VIDEO_FAMILIES = ("sam2", "edgetam")


def models(
    name: Annotated[str | None, Argument(metavar="NAME", help=_HELP_NAME)] = None,
    json: Annotated[bool, Option("--json", help="Print JSON instead of a table or card.")] = False,
) -> None:
    """List the models, or describe one.

    The list has size, licence, paper, and where the weights are if they are cached. The card of a
    model also has its prompts, input side, sources and digest, and how its paper is cited.
    """
    if name is not None:
        card = _card(model_spec(name))
        typer.echo(dumps(card, indent=2) if json else _card_text(card))
        return
    records = [_record(spec) for spec in MODELS.values()]
    typer.echo(dumps(records, indent=2) if json else _table(records))


def _record(spec: ModelSpec) -> dict[str, Any]:
    problem = None
    try:
        path = cached(spec.file)
    except DownloadError as error:
        path, problem = None, error.message
    own = ("name", "family", "architecture", "description", "parameters")
    return {
        **{name: getattr(spec, name) for name in own},
        "size_bytes": spec.file.size,
        "sha256": spec.file.sha256,
        "md5": spec.file.md5,
        "licence": spec.licence,
        "paper": spec.paper,
        "arxiv": spec.arxiv,
        "sources": [str(source) for source in spec.file.sources],
        "cached": None if path is None else str(path),
        "problem": problem,
        "place": str(weights_path(spec.file)),
    }


def _card(spec: ModelSpec) -> dict[str, Any]:
    """Return all that is known of a model."""
    return {
        **_record(spec),
        "prompts": ["boxes"] if spec.policy.box_only else ["points", "boxes", "masks"],
        "video": spec.family in _VIDEO_FAMILIES,
        "input_side": spec.policy.input_side,
        "bibtex": bibtex(spec),
    }


def _card_text(card: dict[str, Any]) -> str:
    """Return a card for people: a line for each fact, long ones wrapped, then the citation."""
    digest = f"sha256 {card['sha256']}" if card["sha256"] else f"md5 {card['md5']}"
    cached_at = card["problem"] and f"damaged: {card['problem']}"
    rows = {
        "what": card["description"],
        "for": "images and video" if card["video"] else "images",
        "prompts": ", ".join(card["prompts"]),
        "network": f"{card['architecture']}, {card['parameters'] / 1e6:.1f} million parameters",
        "input side": f"{card['input_side']} pixels",
        "paper": f"{card['paper']}, arXiv:{card['arxiv']}",
        "licence": f"{card['licence']} (of the weights)",
        "file": f"{file_size(card['size_bytes'])}, {digest}",
        "cached": cached_at or card["cached"] or f"no; `nexus fetch {card['name']}` gets it",
        "place": card["place"],
        "sources": "\n".join(card["sources"]),
    }
    if card["cached"] == card["place"]:
        del rows["place"]
    width = max(map(len, rows)) + 2
    room = max(40, min(shutil.get_terminal_size().columns, 100) - width - 2)
    lines = [card["name"]]
    for label, text in rows.items():
        parts = [
            part
            for line in text.splitlines()
            # A path or an address is copied whole.
            for part in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)
        ]
        lines += [
            f"  {label if place == 0 else '':{width}}{part}" for place, part in enumerate(parts)
        ]
    return "\n".join([*lines, "", "How to cite its paper:", "", card["bibtex"]])


def _table(records: list[dict[str, Any]]) -> str:
    rows = [("NAME", "SIZE", "LICENCE", "PAPER", "CACHED")]
    for record in records:
        damage = record["problem"] and f"damaged: {record['problem']}"
        place = damage or record["cached"] or "no"
        paper = f"arXiv:{record['arxiv']}"
        rows.append(
            (record["name"], file_size(record["size_bytes"]), record["licence"], paper, place)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    line = "  ".join(f"{{:{width}}}" for width in widths) + "  {}"
    return "\n".join(line.format(*row) for row in rows)


def file_size(size_bytes: int | None) -> str:
    """Return a size in decimal megabytes or gigabytes, as download pages give it."""
    if size_bytes is None:
        return "?"
    if size_bytes < 100_000:
        return counted(size_bytes, "byte")
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
