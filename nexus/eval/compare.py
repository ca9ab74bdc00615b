"""Compare two evaluations object by object: paired differences with bootstrap intervals.

Objects of one image share what is hard about it, so by default whole images are drawn anew, not
single objects: a mean over objects is then a ratio of two sums over images.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.choices import entry
from nexus.core.errors import InputError
from nexus.core.files import write_text
from nexus.eval.report import OBJECTS_FILE, markdown_table, read_objects
from nexus.eval.summary import METRICS

UNITS = ("image", "object", "group")
METHODS = ("percentile", "basic", "BCa")
_IDENTITY = ("set", "image", "object_id", "protocol")
_BATCH_VALUES = 4_000_000

Run: TypeAlias = str | os.PathLike[str] | Sequence[Mapping[str, Any]]
"""The `--out` folder of a run, its objects.csv, or the rows of an `EvaluationResult`."""


@dataclass(frozen=True)
class Difference:
    """One metric of two runs over the objects both have.

    Attributes:
        protocol: Under which it was measured.
        metric: Its name.
        objects: Pairs in which both runs define it.
        undefined: Pairs in which one does not; left out.
        mean_a: Mean in the first run; `mean_b` in the second.
        difference: `mean_b - mean_a`.
        low: Lower end of its confidence interval, `high` the upper; None with fewer than 2 units.
        higher_b: Share of the pairs with a higher value in the second run; `higher_a` in the first.
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


@dataclass(frozen=True)
class Comparison:
    """Two runs, paired; beside what is found, the options as in `compare`.

    Attributes:
        differences: By protocol and metric.
        only_a: Rows (objects under a protocol) the first run alone has; `only_b` the second.
    """

    differences: tuple[Difference, ...]
    only_a: int
    only_b: int
    confidence: float
    unit: str
    resamples: int
    seed: int
    method: str

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)

    def table(self, name_a: str = "A", name_b: str = "B") -> str:
        """Return a Markdown table, and what was left out under it."""
        interval = f"{100 * self.confidence:g} % interval"
        rows = [["protocol", "metric", "objects", name_a, name_b, "difference", interval]]
        rows[0] += [f"{name_b} higher", f"{name_a} higher"]
        for each in self.differences:
            interval = "" if each.low is None else f"{each.low:+.4f} to {each.high:+.4f}"
            means = f"{each.mean_a:.4f}", f"{each.mean_b:.4f}", f"{each.difference:+.4f}"
            higher = (f"{100 * share:.0f} %" for share in (each.higher_b, each.higher_a))
            rows.append([each.protocol, each.metric, str(each.objects), *means, interval, *higher])
        lines = [
            *markdown_table(rows),
            "",
            f"{self.method} bootstrap over {self.unit}s, {self.resamples} resamples, seed "
            f"{self.seed}. In one run only: {self.only_a} rows of {name_a}, {self.only_b} of "
            f"{name_b}.",
        ]
        undefined = sum(each.undefined for each in self.differences)
        if undefined:
            lines[-1] += f" Not defined in one of the runs, and left out: {undefined} values."
        return "\n".join(lines) + "\n"


def compare(
    run_a: Run,
    run_b: Run,
    *,
    unit: str = "image",
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    method: str = "percentile",
) -> Comparison:
    """Compare two evaluations over the objects both have.

    Args:
        run_a: The `--out` folder of a run, its objects.csv, or the rows of an `EvaluationResult`.
        run_b: The same of the other.
        unit: "image", "object" or "group" (a volume, a patient): what counts as independent.
        confidence: Of the intervals, in (0, 1).
        resamples: How often units are drawn anew.
        seed: Equal seeds give equal intervals.
        method: "percentile", "basic" or "BCa", as in `scipy.stats.bootstrap`.

    Raises:
        InputError: No such files, no object in both, an object twice, or wrong options.
    """
    entry(dict.fromkeys(UNITS), unit, "a unit")
    entry(dict.fromkeys(METHODS), method, "a method")
    if not 0 < confidence < 1 or resamples < 1:
        raise InputError(
            "expected confidence in (0, 1) and at least 1 resample, "
            f"got {confidence!r} and {resamples!r}"
        )
    how: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    how["method"] = method
    rows_a, rows_b = _by_identity(run_a), _by_identity(run_b)
    shared = [key for key in rows_a if key in rows_b]
    if not shared:
        raise InputError(
            "expected objects that both runs have, got none",
            hint="rows are matched by set, image, object_id and protocol",
        )
    differences = []
    for protocol in dict.fromkeys(key[3] for key in shared):
        pairs = [(rows_a[key], rows_b[key]) for key in shared if key[3] == protocol]
        for metric in METRICS:
            defined = [pair for pair in pairs if all(row.get(metric) is not None for row in pair)]
            if not defined:
                continue
            a, b = (np.array([pair[i][metric] for pair in defined], np.float64) for i in (0, 1))
            units = _units([pair[0] for pair in defined], unit)
            low, high = mean_interval(b - a, units, **how) or (None, None)
            counts = len(defined), len(pairs) - len(defined)
            means = float(a.mean()), float(b.mean()), float((b - a).mean())
            higher = float((b > a).mean()), float((a > b).mean())
            differences.append(Difference(protocol, metric, *counts, *means, low, high, *higher))
    only_a, only_b = len(rows_a) - len(shared), len(rows_b) - len(shared)
    return Comparison(tuple(differences), only_a, only_b, confidence, unit, resamples, seed, method)


def mean_interval(
    values: ArrayLike,
    units: Sequence[Any] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    method: str = "percentile",
) -> tuple[float, float] | None:
    """Return the bootstrap confidence interval of a mean of (N,) values.

    `units`, (N,), are what each value belongs to: whole units are drawn; None draws single values.
    With fewer than two there is no interval. The other arguments are those of `compare`.

    Examples:
        >>> low, high = mean_interval([1.0, 2.0, 3.0, 4.0], seed=0)
        >>> 1 <= low < 2.5 < high <= 4
        True
    """
    from scipy.stats import bootstrap

    array = np.asarray(values, np.float64)
    owners = np.arange(len(array)) if units is None else np.asarray(units)
    index = np.unique(owners, return_inverse=True)[1]
    sums, counts = np.bincount(index, array), np.bincount(index).astype(np.float64)
    if len(sums) < 2:
        return None
    if np.ptp(sums / counts) == 0:  # every resample has this mean, for which BCa is not defined
        return float(array[0]), float(array[0])

    def mean(sums: NDArray[Any], counts: NDArray[Any], axis: int = -1) -> Any:
        return sums.sum(axis) / counts.sum(axis)

    with warnings.catch_warnings():
        # A BCa interval that is not defined comes back as NaN, which is told as None.
        warnings.simplefilter("ignore", RuntimeWarning)
        draw: Any = bootstrap  # whose stubs know no statistic of several samples
        found = draw(
            (sums, counts),
            mean,
            n_resamples=resamples,
            batch=max(1, _BATCH_VALUES // len(sums)),
            confidence_level=confidence,
            method=method,
            paired=True,
            vectorized=True,
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if np.isfinite([low, high]).all() else None


def write_comparison(out: str | os.PathLike[str], found: Comparison) -> list[Path]:
    """Write compare.json and compare.md into a folder; return their paths.

    Raises:
        OSError: A file cannot be written.
    """
    texts = {"json": json.dumps(found.as_json(), indent=2) + "\n", "md": found.table()}
    return [write_text(Path(out) / f"compare.{ending}", text) for ending, text in texts.items()]


def _by_identity(run: Run) -> dict[tuple[str, ...], Mapping[str, Any]]:
    name = "the rows"
    if isinstance(run, (str, os.PathLike)):
        path = Path(run)
        path = path / OBJECTS_FILE if path.is_dir() else path
        if not path.is_file():
            raise InputError(
                f"expected the folder of an evaluation, got {os.fspath(run)!r}",
                hint=f"`nexus evaluate ... --out DIR` writes {OBJECTS_FILE} there",
            )
        name, run = repr(str(path)), read_objects(path)
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in run:
        key = tuple(str(row[part]) for part in _IDENTITY)
        if key in rows:
            raise InputError(f"expected each object once in {name}, got {' '.join(key)} twice")
        rows[key] = row
    return rows


def _units(rows: Sequence[Mapping[str, Any]], unit: str) -> list[str] | None:
    """Return what each row belongs to, as a text for each; None where each stands for itself."""
    if unit == "object":
        return None
    wholes = ["group" if unit == "group" and row["group"] else "image" for row in rows]
    return [json.dumps([row["set"], row[whole]]) for row, whole in zip(rows, wholes, strict=True)]
