"""What a run writes down."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nexus.train.logs import MEASURES, STEP_COLUMNS, STEPS, Logs, draw_curve, read_rows


def step(number: int) -> dict[str, object]:
    """Return the row of a step."""
    return {**dict.fromkeys(STEP_COLUMNS, 0.5), "step": number, "kinds": "box"}


def measure(number: int) -> dict[str, object]:
    """Return the row of a measurement."""
    return {
        "step": number,
        "measure": "box",
        "set": "all",
        "dsc": 0.5,
        "objects": 3,
        "seconds": 1.0,
    }


def test_rows_after_the_state_are_dropped(tmp_path: Path) -> None:
    """A run that goes on after step 2 drops later rows, and one that was cut off."""
    with Logs(tmp_path, 0) as logs:
        for number in (1, 2, 3):
            logs.step(step(number))
        logs.measure(measure(0))
        logs.measure(measure(3))
    with (tmp_path / STEPS).open("a") as stream:
        stream.write("4,0.5,0.")

    with Logs(tmp_path, 2) as logs:
        logs.step(step(3))

    assert [row["step"] for row in read_rows(tmp_path / STEPS)] == ["1", "2", "3"]
    assert [row["step"] for row in read_rows(tmp_path / MEASURES)] == ["0"]


def test_tensorboard_has_the_same(tmp_path: Path) -> None:
    """Where tensorboard is installed, its file is beside the CSV."""
    pytest.importorskip("tensorboard")

    with Logs(tmp_path, 0) as logs:
        logs.step(step(1))

    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_csv_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tensorboard and matplotlib the CSV files are written, and no picture."""
    for name in ("tensorboard", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)

    with Logs(tmp_path, 0) as logs:
        logs.step(step(1))
        logs.measure(measure(1))

    assert draw_curve(tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [MEASURES, STEPS]


def test_the_picture_shows_both(tmp_path: Path) -> None:
    """The learning curve is a picture of the loss and of the figures."""
    pytest.importorskip("matplotlib")
    with Logs(tmp_path, 0) as logs:
        for number in range(1, 30):
            logs.step(step(number))
        logs.measure(measure(0))
        logs.measure(measure(29))

    path = draw_curve(tmp_path)

    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
