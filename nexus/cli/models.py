"""`nexus models`: list the models and say which of them are on this machine."""

from __future__ import annotations

from json import dumps
from typing import Annotated, Any

import typer

from nexus.core.errors import DownloadError
from nexus.core.weights.hub import cached, weights_path
from nexus.models.registry import MODELS, ModelSpec


def models(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the models: size, licence, paper, and where the weights are if they are cached."""
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


def _table(records: list[dict[str, Any]]) -> str:
    rows = [("NAME", "SIZE", "LICENCE", "PAPER", "CACHED")]
    for record in records:
        damage = record["problem"] and f"damaged: {record['problem']}"
        place = damage or record["cached"] or "no"
        paper = f"arXiv:{record['arxiv']}"
        rows.append((record["name"], _size(record["size_bytes"]), record["licence"], paper, place))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    line = "  ".join(f"{{:{width}}}" for width in widths) + "  {}"
    return "\n".join(line.format(*row) for row in rows)


def _size(size_bytes: int | None) -> str:
    """Return a size in decimal megabytes or gigabytes, as download pages give it."""
    if size_bytes is None:
        return "?"
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
