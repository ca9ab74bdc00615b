"""What a comparison of two runs found, and how it reads as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nexus.eval.report import cell_text, markdown_table

LESS_IS_BETTER = ("hd95", "noc85", "noc90", "j_decay", "f_decay")
"""Metrics of which less is better."""

_LEADING = ("j_and_f", "iou")
_MOST_PARTS = 40
_MOST_NAMED = 5


@dataclass(frozen=True)
class Difference:
    """One metric of two runs over objects both have.

    Attributes:
        protocol: Under which it was measured.
        metric: Its name.
        objects: Pairs in which both runs define it.
        undefined: Pairs in which one does not; left out.
        mean_a: Mean in the first run; `mean_b` in the second.
        difference: `mean_b - mean_a`.
        low: Lower end of its confidence interval, `high` the upper; None with fewer than 2 units.
        higher_b: Share of the pairs with a higher value in the second run; `higher_a` in the first.
        set_name: Of the set whose objects these are; None for those of all sets.
        category: Of these alone; None for those of all categories.
    """

    protocol: str
    metric: str
    objects: int
    undefined: int
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    higher_b: float
    higher_a: float
    set_name: str | None = None
    category: str | None = None

    @property
    def gain(self) -> float:
        """How much better the second run is: less is better for distances and clicks."""
        return -self.difference if self.metric in LESS_IS_BETTER else self.difference

    @property
    def verdict(self) -> str:
        """Say 'better' or 'worse' where the whole interval is, and nothing where it holds 0."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return ""
        return "better" if self.gain > 0 else "worse"


@dataclass(frozen=True)
class ObjectChange:
    """One object and its value of a metric in two runs; fields as those of a row and above."""

    protocol: str
    metric: str
    set_name: str
    image: str
    object_id: str
    category: str | None
    value_a: float
    value_b: float
    difference: float


@dataclass(frozen=True)
class Comparison:
    """Two runs, paired; beside what is found, the options as in `compare`.

    Attributes:
        differences: Over all objects, by protocol and metric.
        parts: The same over each set, and over each category of a set; nothing where there is one
            set without them, of which all objects tell the same.
        worst: The objects that lost most, by protocol, the greatest loss first.
        only_a: Rows (objects under a protocol) the first run alone has; `only_b` the second.
        ungrouped: Sets without groups, whose images were drawn instead.
        run_a: Where the first run was read, `run_b` the second; empty for rows.
    """

    differences: tuple[Difference, ...]
    only_a: int
    only_b: int
    confidence: float
    unit: str
    resamples: int
    seed: int
    method: str
    parts: tuple[Difference, ...] = ()
    worst: tuple[ObjectChange, ...] = ()
    ungrouped: tuple[str, ...] = ()
    run_a: str = ""
    run_b: str = ""

    @property
    def fallen(self) -> tuple[Difference, ...]:
        """What is worse in a set or category in the metric its protocol is told by.

        Those whose whole interval is worse first, then those that are worse on average; of either
        the sets before the categories, and the greatest loss first.
        """
        leading = leading_metrics(self.differences)
        lower = [
            each for each in self.parts if leading[each.protocol] == each.metric and each.gain < 0
        ]
        return tuple(
            sorted(lower, key=lambda p: (p.verdict != "worse", p.category is not None, p.gain))
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)

    def table(self, name_a: str = "A", name_b: str = "B") -> str:
        """Return all of it as Markdown: all objects, each set and category, what lost most."""
        return _page(self, name_a, name_b)


def leading_metrics(differences: Iterable[Difference]) -> dict[str, str]:
    """Return by protocol the metric it is told by in one figure: J&F of videos, else IoU."""
    present: dict[str, list[str]] = {}
    for each in differences:
        present.setdefault(each.protocol, []).append(each.metric)
    return {protocol: leading_metric(metrics) for protocol, metrics in present.items()}


def leading_metric(metrics: Sequence[str]) -> str:
    """Return which of some metrics tells most in one figure."""
    return next((name for name in _LEADING if name in metrics), metrics[0])


def _page(found: Comparison, name_a: str, name_b: str) -> str:
    """Return a comparison as Markdown; the runs are called by the names."""
    interval = f"{100 * found.confidence:g} % interval"
    rows = [["protocol", "metric", "objects", name_a, name_b, "difference", interval]]
    rows[0] += [f"{name_b} higher", f"{name_a} higher"]
    for each in found.differences:
        higher = (f"{100 * share:.0f} %" for share in (each.higher_b, each.higher_a))
        rows.append([each.protocol, each.metric, str(each.objects), *_figures(each), *higher])
    runs = ((name_a, found.run_a), (name_b, found.run_b))
    read = [f"{name}: `{run}`  " for name, run in runs if run]  # two spaces end a line of Markdown
    lines = [*read, *([""] if read else []), *markdown_table(rows), ""]
    fallen = found.fallen
    if fallen:
        lines += [*_warning(fallen, found.confidence), ""]
    for protocol, metric in leading_metrics(found.differences).items():
        parts = [part for part in found.parts if part.protocol == protocol]
        if parts:
            lines += [f"## {protocol}: each set and category", ""]
            lines += [*_parts(parts, metric, name_a, name_b, interval), ""]
        lines += _worst(found, protocol, name_a, name_b)
    return "\n".join([*lines, _footnote(found, name_a, name_b)]) + "\n"


def _figures(each: Difference) -> tuple[str, str, str, str]:
    interval = "" if each.low is None else f"{each.low:+.4f} to {each.high:+.4f}"
    return f"{each.mean_a:.4f}", f"{each.mean_b:.4f}", f"{each.difference:+.4f}", interval


def _warning(fallen: Sequence[Difference], confidence: float) -> Iterator[str]:
    """Yield a line each for parts that fell beyond doubt, and for those that may have."""
    sure = [each for each in fallen if each.verdict == "worse"]
    rest = [each for each in fallen if each.verdict != "worse"]
    level = f"{100 * confidence:g} %"
    for parts, said in ((sure, f"Worse ({level})"), (rest, f"Lower, not sure at {level}")):
        if parts:
            named = (
                f"{_title(each)}: {each.protocol} {each.metric} {each.difference:+.4f}"
                for each in parts[:_MOST_NAMED]
            )
            more = len(parts) - _MOST_NAMED
            yield f"- {said}: " + "; ".join(named) + (f"; and {more} more" if more > 0 else "")


def _title(each: Difference) -> str:
    return cell_text(" / ".join(name for name in (each.set_name, each.category) if name))


def _parts(
    parts: Sequence[Difference], metric: str, name_a: str, name_b: str, interval: str
) -> Iterator[str]:
    """Yield a table with a row for each part: one metric in full, of the others the difference."""
    others = [name for name in dict.fromkeys(part.metric for part in parts) if name != metric]
    by_part: dict[tuple[str | None, str | None], dict[str, Difference]] = {}
    for part in parts:
        by_part.setdefault((part.set_name, part.category), {})[part.metric] = part
    head = ["set", "category", "objects", f"{metric} {name_a}", f"{metric} {name_b}"]
    rows = [[*head, "difference", interval, "verdict", *(f"{name} diff." for name in others)]]
    # The sets all, and of many categories those that lost most.
    told = sorted(by_part, key=lambda key: _gain(by_part[key].get(metric)))
    categories = [key for key in told if key[1] is not None]
    chosen = {*(key for key in told if key[1] is None), *categories[:_MOST_PARTS]}
    for key in (key for key in by_part if key in chosen):
        found = by_part[key]
        names = [cell_text(name or "") or "all" for name in key]
        figure = found.get(metric)
        cells = [""] * 6
        if figure is not None:
            cells = [str(figure.objects), *_figures(figure), figure.verdict]
        rows.append([*names, *cells, *(_change(found.get(name)) for name in others)])
    yield from markdown_table(rows)
    left = len(categories) - _MOST_PARTS
    if left > 0:
        yield f"\n{left} categories that lost less are in compare.json and under --json."


def _gain(each: Difference | None) -> float:
    return float("inf") if each is None else each.gain


def _change(each: Difference | None) -> str:
    return "" if each is None else f"{each.difference:+.4f}"


def _worst(found: Comparison, protocol: str, name_a: str, name_b: str) -> list[str]:
    """Return a table of the objects that lost most under a protocol; nothing if none did."""
    lost = [each for each in found.worst if each.protocol == protocol]
    if not lost:
        return []
    metric = lost[0].metric
    rows = [["set", "image", "object", "category", f"{metric} {name_a}", f"{metric} {name_b}"]]
    rows[0].append("difference")
    for each in lost:
        names = (each.set_name, each.image, each.object_id, each.category or "")
        values = f"{each.value_a:.4f}", f"{each.value_b:.4f}", f"{each.difference:+.4f}"
        rows.append([*map(cell_text, names), *values])
    return [f"## {protocol}: the objects that lost most", "", *markdown_table(rows), ""]


def _footnote(found: Comparison, name_a: str, name_b: str) -> str:
    """Return how intervals were drawn, and what was left out."""
    note = (
        f"{found.method} bootstrap over {found.unit}s, {found.resamples} resamples, seed "
        f"{found.seed}. In one run only: {found.only_a} rows of {name_a}, {found.only_b} of "
        f"{name_b}."
    )
    if found.ungrouped:
        note += f" Without groups, and drawn by image: {', '.join(found.ungrouped)}."
    undefined = sum(each.undefined for each in found.differences)
    if undefined:
        note += f" Not defined in one of the runs, and left out: {undefined} values."
    return note
