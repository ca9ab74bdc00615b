"""The files of an evaluation: a row for each object, the summary, a page to read, pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nexus.core.errors import InputError
from nexus.core.files import write_text, writing
from nexus.core.words import counted
from nexus.data.truth.notes import lines_of
from nexus.eval.plots import Sources, write_click_curve, write_histograms, write_worst
from nexus.eval.summary import METRICS, EvaluationResult, metrics_of

OBJECTS_FILE = "objects.csv"
SUMMARY_FILE = "summary.json"
REPORT_FILE = "report.md"
DETECTIONS_FILE = "detections.json"
_HISTOGRAM, _WORST, _CLICKS = "histogram.png", "worst.png", "clicks.png"

_KEYS = ("set", "image", "group", "object_id", "protocol", "category", "area", "box")
_DETAILS = ("clicks", "iou_per_click", "frames", "j_per_frame", "f_per_frame", "worst_frame")
_DIGITS = 6
_COSTS = {
    "encoder_s": ("encoder, one image", 1e3, "ms"),
    "decoder_per_prompt_s": ("decoder, one prompt", 1e3, "ms"),
    "frame_s": ("tracker, one frame", 1e3, "ms"),
    "embedding_bytes": ("embedding of one image", 2**-20, "MiB"),
    "peak_rss_bytes": ("peak RAM of a process", 2**-20, "MiB"),
    "peak_accelerator_bytes": ("peak memory of the accelerator", 2**-20, "MiB"),
}


def report_names(protocols: Sequence[str]) -> list[str]:
    """Return the names of the files that an evaluation under protocols may write."""
    names = [OBJECTS_FILE, SUMMARY_FILE, REPORT_FILE, _HISTOGRAM, _WORST]
    names += [DETECTIONS_FILE] * ("detections" in protocols)
    return names + [_CLICKS] * ("clicks" in protocols)


def write_report(out: Path, result: EvaluationResult, sources: Sources) -> list[Path]:
    """Write all files of an evaluation into a folder; return their paths.

    Raises:
        OSError: A file cannot be written.
    """
    files = [
        write_objects(out / OBJECTS_FILE, result.rows),
        write_text(out / SUMMARY_FILE, json.dumps(result.summary, indent=2) + "\n"),
    ]
    if "detections" in result.summary["results"]:
        text = json.dumps(result.detections) + "\n"
        files.append(write_text(out / DETECTIONS_FILE, text))
    pictures = []
    if result.rows:
        pictures.append(write_histograms(out / _HISTOGRAM, result.rows))
        pictures.append(write_worst(out / _WORST, result.rows, sources))
    if "clicks" in result.summary["results"]:
        pooled = result.summary["results"]["clicks"]["pooled"]
        title = f"mean IoU after each click, {counted(pooled['objects'], 'object')}"
        pictures.append(write_click_curve(out / _CLICKS, pooled["iou_per_click"], title))
    page = report_page(result.summary, [picture.name for picture in pictures])
    return [*files, write_text(out / REPORT_FILE, page), *pictures]


def write_objects(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a CSV with a row for each object and protocol; return the path.

    Numbers have six decimals, lists are joined by spaces, what is not defined is empty.

    Raises:
        OSError: It cannot be written.
    """
    present = {name for row in rows for name in row}
    columns = [*_KEYS, *metrics_of(rows), *(name for name in _DETAILS if name in present)]
    with writing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return path


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Read what `write_objects` wrote: keys as text, metrics as numbers or None.

    Raises:
        InputError: Not such a file.
        OSError: It cannot be read.
    """
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"expected a table of objects in UTF-8, got {str(path)!r}") from error
    with io.StringIO(text, newline="") as stream:
        reader = csv.DictReader(stream)
        lacking = [name for name in _KEYS if name not in (reader.fieldnames or ())]
        if lacking:
            raise InputError(
                f"expected the columns {', '.join(_KEYS)} in {str(path)!r}, got none named "
                f"{', '.join(lacking)}"
            )
        rows: list[dict[str, Any]] = []
        for row in reader:
            rows.append(row)
            for name in (name for name in METRICS if name in row):
                try:
                    rows[-1][name] = float(row[name]) if row[name] != "" else None
                except ValueError as error:
                    raise InputError(
                        f"expected a number for {name} in line {reader.line_num} of "
                        f"{str(path)!r}, got {row[name]!r}"
                    ) from error
    return rows


def report_page(summary: Mapping[str, Any], pictures: Sequence[str] = ()) -> str:
    """Return a summary as a page of Markdown."""
    parts = [f"# Evaluation of {summary['model'].get('variant', summary['model']['class'])}", ""]
    if summary.get("command"):
        parts += ["```bash", summary["command"], "```", ""]
    parts += report_head(summary)
    parts += result_lines(summary, categories=True)
    costs = [
        (title, f"{summary['efficiency'][name] * factor:.4g} {unit}")
        for name, (title, factor, unit) in _COSTS.items()
        if name in summary["efficiency"]
    ]
    parts += ["", "## Efficiency", "", *markdown_table([("measure", "value"), *costs])]
    machine, used = summary["machine"], summary["versions"]
    parts += [
        "",
        f"Medians over images, on {machine['device']}: {machine['processor']}, "
        f"{machine['cores']} cores, {machine['threads']} threads; "
        + ", ".join(f"{name} {version}" for name, version in used.items())
        + f". Weights {summary['model'].get('weights', 'none')}, "
        f"seed {summary['settings']['seed']}.",
    ]
    if summary["failures"]:
        parts += ["", "## Failed", ""]
        parts += [f"- `{each['image']}`: {each['message']}" for each in summary["failures"]]
    parts += [line for name in pictures for line in ("", f"![{Path(name).stem}]({name})")]
    return "\n".join(parts) + "\n"


def report_head(summary: Mapping[str, Any]) -> list[str]:
    """Return what was evaluated, as lines that stand above the figures."""
    data = summary["data"]
    images = counted(data["images"], "image")
    head = [f"{data['evaluated']} of {images}, {data['failed']} failed."]
    noted = [
        f"- `{name}`: {line}" for name, counts in data["sets"].items() for line in lines_of(counts)
    ]
    return [*head, "", *noted] if noted else head


def result_lines(summary: Mapping[str, Any], categories: bool = False) -> list[str]:
    """Return the figures of each protocol as tables of Markdown, by set and, if asked, category."""
    lines: list[str] = []
    for protocol, figures in summary["results"].items():
        lines += ["", f"## {protocol}", "", *_how_answered(summary, protocol)]
        if "pooled" in figures:
            sets = figures["sets"] if len(figures["sets"]) > 1 else {}  # one says what all do
            lines += _table("set", {**sets, "all": figures["pooled"]})
            if categories and len(figures["categories"]) > 1:
                lines += ["", *_table("category", figures["categories"])]
        elif figures:
            lines += markdown_table([[*figures], [_shown(value) for value in figures.values()]])
        else:
            lines.append("No average precision by COCO's rules; the masks are in detections.json.")
    return lines


def _how_answered(summary: Mapping[str, Any], protocol: str) -> list[str]:
    """Return how clicks are answered, without which figures cannot be compared."""
    if protocol not in ("click", "clicks"):
        return []
    multimask = summary["settings"]["multimask"]
    trained = (summary["model"].get("policy") or {}).get("candidates", False)
    best = "by the best of three masks, by predicted score"
    first = best if multimask == "best" or (multimask == "auto" and trained) else "by one mask"
    if protocol == "click":
        return [f"A click is answered {first}.", ""]
    later = best if multimask == "best" else "by one mask"
    most = f"At most {summary['settings']['clicks']} clicks on an object"
    same = f"{most}, each answered {first}."
    return [
        same if first == later else f"{most}: the first answered {first}, the others {later}.",
        "",
    ]


def _table(head: str, lines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a row for each set or category."""
    metrics = metrics_of(lines.values())
    rows = [[head, "images", "objects", *metrics]]
    for name, line in lines.items():
        counts = str(line["images"]), str(line["objects"])
        values = [_shown(line.get(metric)) for metric in metrics]
        rows.append([cell_text(name), *counts, *values])
    return markdown_table(rows)


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose first row is its head, its columns of even width."""
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [
        f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |"
        for row in rows
    ]


def cell_text(text: str) -> str:
    """Return a name as the cell of a table can hold it, in one line and without its own bars."""
    return " ".join(text.replace("|", "\\|").split())


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{round(value, _DIGITS):g}" if value == int(value) else f"{value:.{_DIGITS}f}"
    if isinstance(value, list):
        return " ".join(_cell(each) for each in value)
    return str(value)
