"""What a run writes down while it learns: CSV always, TensorBoard where it is installed, a picture.

`steps.csv` has one row for each step, `measures.csv` one for each measure, set and time. A run
that is taken up again drops the rows written after the state it goes on from.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nexus.core.files import replacing, writing
from nexus.train.figures import POOLED, Figure

STEPS, MEASURES, CURVE = "steps.csv", "measures.csv", "learning_curve.png"
BOARD = "tensorboard"
MEASURE_COLUMNS = ("step", "measure", "set", "value", "objects", "seconds")


class Logs(contextlib.ExitStack):
    """The logs of one run, in its folder.

    Args:
        folder: Where they go.
        after_step: Steps of an earlier run that stay; rows of later ones are dropped.
        parts: The summands of the loss.
    """

    def __init__(self, folder: Path, after_step: int, parts: Sequence[str]) -> None:
        super().__init__()
        self.folder = folder
        self._numbers = ("loss", *parts, "learning_rate", "gradient_norm")
        self._columns = ("step", *self._numbers, "drawn", "seconds")
        folder.mkdir(parents=True, exist_ok=True)
        self._steps = self._open(STEPS, self._columns, after_step)
        self._measures = self._open(MEASURES, MEASURE_COLUMNS, after_step)
        self._board = _tensorboard(folder / BOARD, after_step)
        if self._board is not None:
            self.callback(self._board.close)

    def step(self, row: Mapping[str, Any]) -> None:
        """Write down one step, by the names of the columns.

        They are `step`, `loss` and its parts, `learning_rate`, `gradient_norm`, `drawn` (what was
        learnt from, by the first process) and `seconds`.
        """
        csv.DictWriter(self._steps, self._columns).writerow(row)
        if self._board is not None:
            for name in self._numbers:
                self._board.add_scalar(f"train/{name}", row[name], row["step"])

    def measure(self, figure: Figure, step: int, elapsed_s: float) -> None:
        """Write down one figure on what is held out."""
        shown = (figure.measure, figure.set_title, figure.value, figure.objects)
        row = dict(zip(MEASURE_COLUMNS, (step, *shown, round(elapsed_s, 3)), strict=True))
        csv.DictWriter(self._measures, MEASURE_COLUMNS).writerow(row)
        # Of few values, and what the best checkpoint is chosen by.
        os.fsync(self._measures.fileno())
        if self._board is not None:
            self._board.add_scalar(f"{figure.measure}/{figure.set_title}", figure.value, step)

    def _open(self, name: str, columns: Sequence[str], after_step: int) -> Any:
        path = self.folder / name
        kept = [row for row in read_rows(path) if after_step and row["step"] <= after_step]
        with writing(path) as stream:
            writer = csv.DictWriter(stream, columns)
            writer.writeheader()
            writer.writerows(kept)
        # One write to the system for each row, so that a killed run leaves whole ones.
        return self.enter_context(path.open("a", buffering=1, newline=""))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the whole rows of a log, numbers read; a last one that was cut off is left out."""
    if not path.is_file():
        return []
    whole = path.read_text("utf-8").rpartition("\n")[0]
    return [
        {name: _number(value) for name, value in row.items()}
        for row in csv.DictReader(io.StringIO(whole))
        if None not in row.values() and row.get("step", "").isdigit()
    ]


def _number(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def draw_curve(folder: Path) -> Path | None:
    """Draw the logs of a folder to `learning_curve.png`; None where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    steps, measures = read_rows(folder / STEPS), read_rows(folder / MEASURES)
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    x, loss = [row["step"] for row in steps], [row["loss"] for row in steps]
    left.plot(x, loss, color="0.8", linewidth=0.8, label="each step")
    smooth = [np.mean(loss[max(0, end - 25) : end]) for end in range(1, len(loss) + 1)]
    left.plot(x, smooth, color="C0", label="mean of the last 25")
    left.set(xlabel="step", ylabel="loss", title="training loss")
    left.legend()
    for name in dict.fromkeys(row["measure"] for row in measures):
        mine = [row for row in measures if row["measure"] == name and row["set"] == POOLED]
        shown = ([row[column] for row in mine] for column in ("step", "value"))
        right.plot(*shown, marker="o", label=name)
    right.set(xlabel="step", ylabel="mean", title="held-out objects", ylim=(0, 1))
    if measures:
        right.legend()
    path = folder / CURVE
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _tensorboard(folder: Path, after_step: int) -> Any:
    """Return a writer of TensorBoard's files, or None where it is not installed."""
    try:
        importlib.import_module("tensorboard")
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=after_step + 1 if after_step else None)
