from __future__ import annotations

from typing import Any

import pytest

from nexus.eval.summary import metrics_of, summarise_rows


def row(image: str, iou: float, **more: Any) -> dict[str, Any]:
    """Return a row of the first set."""
    base = {"set": "a", "image": image, "protocol": "box", "category": None}
    return {**base, "iou": iou, **more}


def test_objects_weigh_the_same() -> None:
    """Pooled figures are means over objects, not over images or sets."""
    rows = [row("1", 0.0), row("1", 0.5), row("2", 1.0, set="b"), row("3", 0.5, category="cat")]
    figures = summarise_rows(rows)["box"]

    assert figures["pooled"] == {"objects": 4, "images": 3, "iou": 0.5}
    assert figures["sets"]["a"]["iou"] == pytest.approx(1 / 3)
    assert figures["sets"]["b"] == {"objects": 1, "images": 1, "iou": 1.0}
    assert figures["categories"] == {"cat": {"objects": 1, "images": 1, "iou": 0.5}}


def test_protocols_are_apart() -> None:
    """Each protocol has figures of its own, with the metrics that it gives."""
    rows = [row("1", 0.5), row("1", 0.7, protocol="medical-box", nsd=1.0)]
    figures = summarise_rows(rows)

    assert list(figures) == ["box", "medical-box"]
    assert "nsd" not in figures["box"]["pooled"]
    assert figures["medical-box"]["pooled"]["nsd"] == 1.0


def test_what_is_not_defined_is_counted() -> None:
    """A value of None is left out of the mean; a mean of none is None."""
    rows = [row("1", 0.5, hd95=3.0, nsd=None), row("1", 0.5, hd95=None, nsd=None)]
    figures = summarise_rows(rows)["box"]["pooled"]

    assert (figures["hd95"], figures["nsd"]) == (3.0, None)
    assert figures["undefined"] == {"nsd": 2, "hd95": 1}


def test_curves_are_averaged_click_by_click() -> None:
    """The curve is the mean over objects after each click."""
    rows = [row("1", 0.5, iou_per_click=[0.0, 1.0]), row("2", 0.5, iou_per_click=[0.5, 0.5])]

    assert summarise_rows(rows)["box"]["pooled"]["iou_per_click"] == [0.25, 0.75]


def test_metrics_have_an_order() -> None:
    """Metrics are named in the order they are reported, whatever that of the rows."""
    assert metrics_of([{"nsd": 1.0, "dice": 1.0}, {"iou": 1.0}]) == ["iou", "dice", "nsd"]
    assert summarise_rows([]) == {}
