"""What a run writes down."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nexus.train.figures import Figure
from nexus.train.logs import MEASURES, STEPS, Logs, draw_curve, read_rows

PARTS = ("dice", "iou")
FIGURE = Figure("box", "all", 0.5, 3)


def step(number: int) -> dict[str, object]:
    """Return the row of a step."""
    numbers = ("loss", *PARTS, "learning_rate", "gradient_norm", "seconds")
    return {**dict.fromkeys(numbers, 0.5), "step": number, "drawn": "box"}


def test_rows_after_the_state_are_dropped(tmp_path: Path) -> None:
    """A run that goes on after step 2 drops later rows, and one that was cut off."""
    with Logs(tmp_path, 0, PARTS) as logs:
        for number in (1, 2, 3):
            logs.step(step(number))
        logs.measure(FIGURE, 0, 1.0)
        logs.measure(FIGURE, 3, 1.0)
    with (tmp_path / STEPS).open("a") as stream:
        stream.write("4,0.5,0.")

    with Logs(tmp_path, 2, PARTS) as logs:
        logs.step(step(3))

    assert read_rows(tmp_path / STEPS) == [step(1), step(2), step(3)]
    assert [row["step"] for row in read_rows(tmp_path / MEASURES)] == [0]


def test_tensorboard_has_the_same(tmp_path: Path) -> None:
    """Where tensorboard is installed, its file is beside the CSV."""
    pytest.importorskip("tensorboard")

    with Logs(tmp_path, 0, PARTS) as logs:
        logs.step(step(1))

    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_csv_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tensorboard and matplotlib the CSV files are written, and no picture."""
    for name in ("tensorboard", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)

    with Logs(tmp_path, 0, PARTS) as logs:
        logs.step(step(1))
        logs.measure(FIGURE, 1, 1.0)

    assert draw_curve(tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [MEASURES, STEPS]


def test_the_picture_shows_both(tmp_path: Path) -> None:
    """The learning curve is a picture of the loss and of the figures."""
    pytest.importorskip("matplotlib")
    with Logs(tmp_path, 0, PARTS) as logs:
        for number in range(1, 30):
            logs.step(step(number))
        logs.measure(FIGURE, 0, 1.0)
        logs.measure(FIGURE, 29, 1.0)

    path = draw_curve(tmp_path)

    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
