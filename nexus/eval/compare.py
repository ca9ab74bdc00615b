"""Compare two evaluations object by object: paired differences with bootstrap intervals.

Objects of one image share what is hard about it, so by default whole images are drawn anew, not
single objects: a mean over objects is then a ratio of two sums over images.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.choices import entry
from nexus.core.errors import InputError, shown
from nexus.core.files import write_text
from nexus.core.outputs import output_folder
from nexus.eval.comparison import LESS_IS_BETTER, Difference, ObjectChange, leading_metric
from nexus.eval.comparison import Comparison as Comparison
from nexus.eval.report import OBJECTS_FILE, read_objects
from nexus.eval.summary import METRICS

UNITS = ("image", "object", "group")
METHODS = ("percentile", "basic", "BCa")
_IDENTITY = ("set", "image", "object_id", "protocol")
_BATCH_VALUES = 4_000_000

Run: TypeAlias = str | os.PathLike[str] | Sequence[Mapping[str, Any]]
"""The `--out` folder of a run, its objects.csv, or the rows of an `EvaluationResult`."""

_Pair: TypeAlias = "tuple[Mapping[str, Any], Mapping[str, Any]]"


def compare(
    run_a: Run,
    run_b: Run,
    *,
    unit: str = "image",
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    method: str = "percentile",
    worst: int = 10,
) -> Comparison:
    """Compare two evaluations over the objects both have, all together and part by part.

    A part is a set, and in it a category. Where rows have none and the ids of a set recur, each in
    at least half of its images, as those of the structures of label maps do, ids stand for
    categories.

    Args:
        run_a: The `--out` folder of a run, its objects.csv, or the rows of an `EvaluationResult`.
        run_b: The same of the other.
        unit: "image", "object" or "group" (a volume, a patient): what counts as independent. In a
            set without groups each image is one.
        confidence: Of the intervals, in (0, 1).
        resamples: How often units are drawn anew.
        seed: Equal seeds give equal intervals.
        method: "percentile", "basic" or "BCa", as in `scipy.stats.bootstrap`.
        worst: How many of the objects that lost most are named for each protocol.

    Raises:
        InputError: No such files, no object in both, an object twice, no group at all to draw, or
            wrong options.
    """
    entry(dict.fromkeys(UNITS), unit, "a unit")
    entry(dict.fromkeys(METHODS), method, "a method")
    if not 0 < confidence < 1 or resamples < 1 or worst < 0:
        raise InputError(
            "expected confidence in (0, 1), at least 1 resample and 0 or more worst objects, "
            f"got {confidence!r}, {resamples!r} and {worst!r}"
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
    ungrouped = _ungrouped([rows_a[key] for key in shared]) if unit == "group" else ()
    pooled: list[Difference] = []
    parts: list[Difference] = []
    lost: list[ObjectChange] = []
    for protocol in dict.fromkeys(key[3] for key in shared):
        pairs = [(rows_a[key], rows_b[key]) for key in shared if key[3] == protocol]
        pooled += _differences(protocol, pairs, unit, how)
        for (set_name, category), members in _parts(pairs).items():
            found = _differences(protocol, members, unit, how)
            parts += [replace(each, set_name=set_name, category=category) for each in found]
        lost += _most_lost(protocol, pairs, worst)
    return Comparison(
        tuple(pooled),
        len(rows_a) - len(shared),
        len(rows_b) - len(shared),
        confidence,
        unit,
        resamples,
        seed,
        method,
        tuple(parts),
        tuple(lost),
        ungrouped,
        *(
            "" if isinstance(run, Sequence) and not isinstance(run, str) else os.fspath(run)
            for run in (run_a, run_b)
        ),
    )


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


def write_comparison(
    out: str | os.PathLike[str], found: Comparison, *, overwrite: bool = False
) -> list[Path]:
    """Write compare.json and compare.md into a folder; return their paths.

    An earlier comparison is replaced; files of others only to `overwrite` them.

    Raises:
        InputError: The folder holds results of another verb, or files that would be replaced.
        NexusError: A run is using the folder.
        OSError: A file cannot be written.
    """
    texts = {"json": json.dumps(found.as_json(), indent=2) + "\n", "md": found.table()}
    names = {f"compare.{ending}": text for ending, text in texts.items()}
    with output_folder(out, verb="evaluate compare", overwrite=overwrite) as outputs:
        outputs.reserve(names)
        return [write_text(outputs.folder / name, text) for name, text in names.items()]


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
    elif not isinstance(run, Iterable) or getattr(run, "ndim", 1) == 0:
        raise InputError(f"expected an evaluation as a folder or its rows, got {shown(run)}")
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for row in run:
        if not isinstance(row, Mapping) or any(part not in row for part in _IDENTITY):
            raise InputError(f"expected rows with {', '.join(_IDENTITY)}, got {shown(row)}")
        key = tuple(str(row[part]) for part in _IDENTITY)
        if key in rows:
            raise InputError(f"expected each object once in {name}, got {' '.join(key)} twice")
        rows[key] = row
    return rows


def _differences(
    protocol: str, pairs: Sequence[_Pair], unit: str, how: Mapping[str, Any]
) -> Iterator[Difference]:
    """Compare every metric over some pairs of rows."""
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
        yield Difference(protocol, metric, *counts, *means, low, high, *higher)


def _parts(pairs: Sequence[_Pair]) -> dict[tuple[str, str | None], list[_Pair]]:
    """Return the pairs of each set, and after it those of each of its categories."""
    sets: dict[str, list[_Pair]] = {}
    for pair in pairs:
        sets.setdefault(str(pair[0]["set"]), []).append(pair)
    found: dict[tuple[str, str | None], list[_Pair]] = {}
    for set_name, members in sets.items():
        if len(sets) > 1:
            found[set_name, None] = members
        named: dict[str, list[_Pair]] = {}
        recurring = _recurring_ids([row for row, _ in members])
        for pair in members:
            category = pair[0].get("category") or recurring.get(str(pair[0]["object_id"]))
            if category:
                named.setdefault(category, []).append(pair)
        if len(named) > 1:
            found |= {(set_name, category): named[category] for category in sorted(named)}
    return found


def _recurring_ids(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return names for the ids of a set that each recur in at least half of its images.

    Ids of structures do; those of instances, which count through an image, do not.
    """
    images: dict[str, set[str]] = {}
    for row in rows:
        images.setdefault(str(row["object_id"]), set()).add(str(row["image"]))
    count = len(set().union(*images.values()))
    if count < 2 or any(2 * len(those) < count for those in images.values()):
        return {}
    return {object_id: f"id {object_id}" for object_id in images}


def _most_lost(protocol: str, pairs: Sequence[_Pair], most: int) -> list[ObjectChange]:
    """Return the objects that lost most in the metric a protocol is told by."""
    metric = leading_metric([name for name in METRICS if any(name in row for row, _ in pairs)])
    sign = -1 if metric in LESS_IS_BETTER else 1
    changes = []
    for row, other in pairs:
        a, b = row.get(metric), other.get(metric)
        if a is not None and b is not None and sign * (b - a) < 0:
            where = str(row["set"]), str(row["image"]), str(row["object_id"])
            category = row.get("category") or None
            changes.append(ObjectChange(protocol, metric, *where, category, a, b, b - a))
    return sorted(changes, key=lambda each: sign * each.difference)[:most]


def _ungrouped(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the sets of which rows have no group.

    Raises:
        InputError: None has one.
    """
    without = dict.fromkeys(str(row["set"]) for row in rows if not row.get("group"))
    if not any(row.get("group") for row in rows):
        raise InputError(
            "expected rows with a group to draw by group, got none in "
            f"{', '.join(without)}: their data names no volume or patient",
            hint="draw by image",
        )
    return tuple(without)


def _units(rows: Sequence[Mapping[str, Any]], unit: str) -> list[str] | None:
    """Return what each row belongs to, as a text for each; None where each stands for itself."""
    if unit == "object":
        return None
    wholes = ["group" if unit == "group" and row["group"] else "image" for row in rows]
    return [json.dumps([row["set"], row[whole]]) for row, whole in zip(rows, wholes, strict=True)]
