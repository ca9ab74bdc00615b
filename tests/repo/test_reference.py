"""The comparison of `make proof-reference` finds what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reference import main

HEAD = "set,image,object_id,dice"


def run(folder: Path, rows: list[str], records: list[tuple[str, int, float]]) -> None:
    """Compare a drawn evaluation with a drawn reference."""
    (folder / "objects.csv").write_text("\n".join([HEAD, *rows]))
    listed = [{"set": name, "image": "a.png", "id": key, "dsc": dsc} for name, key, dsc in records]
    (folder / "reference.json").write_text(json.dumps(listed))
    main([str(folder), str(folder / "reference.json")])


def test_equal_figures_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Means of a set within 0.005 are fine, and the largest difference of an object is shown."""
    run(tmp_path, ["s,a.png,1,0.9", "s,a.png,2,0.7"], [("s", 1, 0.892), ("s", 2, 0.708)])

    assert "| s | 2 | 0.8000 | 0.8000 | 0.0080 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["s,a.png,1,0.9"], "not evaluated: .*2"),
        (["s,a.png,1,0.9", "s,a.png,2,0.7", "t,a.png,1,0.7"], "not in the reference: .*'t'"),
        (["s,a.png,1,0.9", "s,a.png,2,0.68"], "s: mean 0.7900 is not that of the reference"),
    ],
)
def test_what_differs_fails(tmp_path: Path, rows: list[str], message: str) -> None:
    """An object that is missing or too many, or a mean that is off, ends with status 1."""
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, rows, [("s", 1, 0.9), ("s", 2, 0.7)])
