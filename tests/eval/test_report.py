from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from nexus.core.errors import InputError
from nexus.eval.report import (
    read_objects,
    report_page,
    result_lines,
    write_objects,
    write_report,
)
from nexus.eval.run import evaluate
from nexus.eval.summary import EvaluationResult, summarise_rows
from tests.eval.scenes import Draughtsman, images, squeezed


@pytest.fixture(scope="module")
def result() -> EvaluationResult:
    """Return the evaluation of two sets."""
    sets = {"a|b": images(1), "c": images(2)}
    about = {"command": "nexus evaluate --out x"}
    return evaluate(Draughtsman(), sets, ["box", "clicks"], clicks=2, about=about)


def test_rows_come_back_as_they_were(tmp_path: Path, result: EvaluationResult) -> None:
    """Names are read as text, metrics as numbers to six decimals, lists joined by spaces."""
    rows = read_objects(write_objects(tmp_path / "objects.csv", result.rows))
    clicked = [row for row in result.rows if row["protocol"] == "clicks"]

    assert [row["iou"] for row in rows] == pytest.approx([r["iou"] for r in result.rows], abs=1e-6)
    assert [row["object_id"] for row in rows] == [str(r["object_id"]) for r in result.rows]
    assert rows[0]["box"] == "30 10 60 40"
    assert (rows[0]["noc85"], rows[0]["iou_per_click"], rows[0]["group"]) == (None, "", "")
    assert [float(value) for value in rows[2]["iou_per_click"].split()] == pytest.approx(
        clicked[0]["iou_per_click"], abs=1e-6
    )
    assert "prediction" not in rows[0]


def test_tables_have_a_line_for_each_set_and_one_for_all(result: EvaluationResult) -> None:
    """The page holds command, figures, costs and pictures."""
    page = squeezed(report_page(result.summary, ["worst.png"]))

    assert "nexus evaluate --out x" in page
    assert "| a\\|b | 1 | 2 | 1.0000 |" in page
    assert "| all | 3 | 6 | 1.0000 |" in page
    assert "## clicks" in page
    assert "| encoder, one image |" in page
    assert "![worst](worst.png)" in page
    assert result.summary["model"]["weights"] in page


def test_tables_are_even(result: EvaluationResult) -> None:
    """On a terminal the columns of a table stand below each other."""
    table = [line for line in result_lines(result.summary) if line.startswith("|")]

    assert {line.index(" | ") for line in table[:5]} == {6}
    assert len({len(line) for line in table[:5]}) == 1
    assert set(table[1]) == set("|- ")


def test_categories_are_told(result: EvaluationResult) -> None:
    """Where there are several categories the page has a row for each, which the tables can."""
    rows = [{**row, "category": "x|y" if row["object_id"] == 1 else "z"} for row in result.rows]
    summary = {**result.summary, "results": summarise_rows(rows)}
    tables = squeezed("\n".join(result_lines(summary, categories=True)))

    assert "| category | images | objects | iou |" in tables
    assert "| x\\|y | 3 | 3 | 1.0000 |" in tables
    assert tables in squeezed(report_page(summary))
    assert "category" not in "\n".join(result_lines(summary))


@pytest.mark.parametrize(
    ("multimask", "candidates", "click", "clicks"),
    [
        ("auto", True, "by the best of three", ": the first answered by the best of three"),
        ("auto", False, "by one mask", ", each answered by one mask"),
        ("single", True, "by one mask", ", each answered by one mask"),
        ("best", False, "by the best of three", ", each answered by the best of three"),
    ],
)
def test_how_clicks_are_answered_is_said(
    multimask: str, candidates: bool, click: str, clicks: str
) -> None:
    """Figures of one mask and of the best of three are told apart, whatever was asked for."""
    model = Draughtsman()
    model.policy = dataclasses.replace(model.policy, candidates=candidates)
    options = {"clicks": 2, "multimask": multimask}
    summary = evaluate(model, images(1), ["box", "click", "clicks"], **options).summary
    page = report_page(summary)

    assert f"A click is answered {click}" in page
    assert f"At most 2 clicks on an object{clicks}" in page


def test_failures_are_listed() -> None:
    """An image that could not be used stands on the page with what was wrong."""
    with pytest.warns(UserWarning, match="could not be used"):
        failed = evaluate(Draughtsman(), images(2, bad=0))

    assert "- `all/0.png`: expected a picture, got noise" in report_page(failed.summary)


def test_a_run_without_a_usable_image_is_reported(tmp_path: Path) -> None:
    """Without rows there are tables without figures and no pictures."""
    with pytest.warns(UserWarning, match="could not be used"):
        failed = evaluate(Draughtsman(), images(1, bad=0))
    files = write_report(tmp_path, failed, {})

    assert [file.name for file in files] == ["objects.csv", "summary.json", "report.md"]
    assert json.loads(files[1].read_text())["results"] == {}
    assert "0 of 1 image, 1 failed." in files[2].read_text()


def test_clicks_have_a_picture(tmp_path: Path, result: EvaluationResult) -> None:
    """The curve is drawn where the protocol clicks was run."""
    assert write_report(tmp_path, result, {})[-1].name == "clicks.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "expected the columns set, image, group"),
        (
            "set,image,group,object_id,protocol,category,area,box,iou\na,1,,1,box,,4,,high\n",
            "expected a number for iou in line 2",
        ),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A file of another kind is named, with the line where there is one."""
    path = tmp_path / "objects.csv"
    path.write_text(text)

    with pytest.raises(InputError, match=re.escape(message)):
        read_objects(path)
