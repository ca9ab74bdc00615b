from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nexus.core.errors import InputError
from nexus.eval.compare import Comparison, compare, mean_interval, write_comparison
from nexus.eval.report import write_objects
from tests.eval.scenes import squeezed


def rows(values: np.ndarray, per_image: int = 1, **more: Any) -> list[dict[str, Any]]:
    """Return a row for each value, so many in each image."""
    return [
        {
            "set": "a",
            "image": f"{index // per_image}.png",
            "group": f"patient{index // per_image // 2}",
            "object_id": index % per_image,
            "protocol": "box",
            "iou": float(value),
            **more,
        }
        for index, value in enumerate(values)
    ]


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Return figures of two runs over the same objects."""
    random = np.random.default_rng(0)
    a = random.uniform(0.3, 0.8, 24)
    return a, a + random.normal(0.05, 0.1, 24)


@pytest.mark.parametrize("method", ["percentile", "basic", "BCa"])
def test_intervals_are_scipys(pair: tuple[np.ndarray, np.ndarray], method: str) -> None:
    """Over objects the interval is that of scipy's bootstrap of the mean difference."""
    a, b = pair
    (found,) = compare(rows(a), rows(b), unit="object", method=method, seed=7).differences
    wanted = stats.bootstrap(
        (b - a,), np.mean, method=method, n_resamples=9999, random_state=np.random.default_rng(7)
    ).confidence_interval

    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert found.difference == pytest.approx(np.mean(b - a))
    assert found.low < found.difference < found.high


def test_whole_images_are_drawn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Over images the interval is that of resampling images with all their objects."""
    a, b = pair
    (found,) = compare(rows(a, 4), rows(b, 4), confidence=0.9).differences
    images = (b - a).reshape(6, 4)
    random = np.random.default_rng(1)
    means = [images[random.integers(0, 6, 6)].mean() for _ in range(9999)]

    assert (found.low, found.high) == pytest.approx(np.percentile(means, [5, 95]), abs=0.004)


def test_units_matter_where_objects_are_alike() -> None:
    """Objects of one image that move together give a wider interval over images and groups."""
    moves = np.repeat(np.random.default_rng(0).normal(0, 1, 10), 6)
    widths = []
    for unit in ("object", "image", "group"):
        (found,) = compare(rows(0 * moves, 6), rows(moves, 6), unit=unit).differences
        widths.append(found.high - found.low)

    assert widths[1] > 1.8 * widths[0]
    assert widths[2] != widths[1]


def test_seeds_decide(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Equal seeds give equal intervals, other seeds others."""
    a, b = map(rows, pair)
    one, same, other = (compare(a, b, seed=seed).differences for seed in (1, 1, 2))

    assert one == same
    assert one[0].low != other[0].low


def test_pairs_are_matched_by_name(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """The order of rows means nothing; objects of one run alone are counted and left out."""
    a, b = pair
    found = compare(rows(a), rows(b)[::-1][:-4])
    (each,) = found.differences

    assert (found.only_a, found.only_b) == (4, 0)
    assert each.objects == 20
    assert each.difference == pytest.approx(np.mean((b - a)[4:]))
    assert each.higher_b == pytest.approx(np.mean((b > a)[4:]))
    assert each.higher_a == pytest.approx(np.mean((b < a)[4:]))
    assert "In one run only: 4 rows of A, 0 of B." in found.table()


def test_what_is_not_defined_is_left_out() -> None:
    """A pair in which one run has no value does not count, and is said."""
    one, other = rows(np.ones(3), hd95=2.0), rows(np.ones(3), hd95=1.0)
    other[0]["hd95"] = None
    found = compare(one, other)
    by_metric = {each.metric: each for each in found.differences}

    assert (by_metric["hd95"].objects, by_metric["hd95"].undefined) == (2, 1)
    assert by_metric["hd95"].difference == -1.0
    assert "Not defined in one of the runs, and left out: 1 values." in found.table()


def three_sets(heart: float, others: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return two runs over three sets, one of which has structures and another categories."""
    noise = np.random.default_rng(0).uniform(0.5, 0.6, 24)
    a: list[dict[str, Any]] = []
    b: list[dict[str, Any]] = []
    for name, per_image in (("chest", 3), ("street", 4), ("skin", 1)):
        for change, found in ((0.0, a), (others, b)):
            for row in rows(noise + change, per_image, category=None, dice=0.9):
                row["set"] = name
                if name == "chest" and row["object_id"] == 2 and found is b:
                    row["iou"] += heart - others
                if name == "street":
                    row["category"] = "car" if row["object_id"] < 2 else ""
                    row["object_id"] += 10 * int(row["image"].split(".")[0])
                found.append(row)
    return a, b


def test_a_set_that_falls_is_not_hidden() -> None:
    """All objects gain, a structure of one set loses: it has a row, and is named above the rows."""
    found = compare(*three_sets(-0.1, 0.05))
    parts = {(p.set_name, p.category): p for p in found.parts if p.metric == "iou"}
    page = squeezed(found.table())

    assert found.differences[0].difference > 0
    assert list(parts) == [
        *(("chest", None), ("chest", "id 0"), ("chest", "id 1"), ("chest", "id 2")),
        *(("street", None), ("skin", None)),
    ]
    assert parts["chest", "id 2"].difference == pytest.approx(-0.1)
    assert parts["chest", "id 2"].verdict == "worse"
    assert parts["chest", None].difference == pytest.approx(0)
    assert parts["skin", None].verdict == "better"
    assert found.fallen[0] == parts["chest", "id 2"]
    assert "- Worse (95 %): chest / id 2: box iou -0.1000\n" in page
    assert "| chest | id 2 | 8 |" in page
    assert "-0.1000 | -0.1000 to -0.1000 | worse | +0.0000 |" in page
    assert page.index("| box | iou | 72 |") < page.index("- Worse") < page.index("| chest | all |")


def test_a_fall_within_chance_is_told_apart() -> None:
    """A part that is lower on average, but not beyond its interval, is named as such."""
    a, b = three_sets(0.0, 0.0)
    for row in b:
        row["iou"] += {"0.png": -0.05, "1.png": 0.04}.get(row["image"], 0) * (row["set"] == "skin")
    found = compare(a, b)

    assert [part.set_name for part in found.fallen] == ["skin"]
    assert "- Lower, not sure at 95 %: skin: box iou -0.0004\n" in found.table()


def test_categories_have_a_row_where_there_are_several() -> None:
    """Categories are those of the rows; ids that count through an image stand for none."""
    a, b = three_sets(0.0, 0.05)
    for run in (a, b):
        for row in run:
            if row["category"] == "":
                row["category"] = "bus|tram"
    found = compare(a, b, resamples=99)

    assert [p.category for p in found.parts if (p.set_name, p.metric) == ("street", "iou")] == [
        *(None, "bus|tram", "car")
    ]
    assert "| street | bus\\|tram | 12 |" in squeezed(found.table())


def test_one_set_without_categories_has_no_parts(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """All objects tell what its only part would."""
    found = compare(*map(rows, pair), resamples=99)

    assert found.parts == found.fallen == ()
    assert "each set" not in found.table()


def test_of_many_categories_those_that_lost_most_are_shown() -> None:
    """Hundreds of categories do not fill the screen: the rest is in the file."""
    a = [{**row, "category": f"c{i % 60:02}"} for i, row in enumerate(rows(np.full(120, 0.5)))]
    b = [{**row, "iou": 0.4 + i % 60 / 100} for i, row in enumerate(a)]
    found = compare(a, b, resamples=9)
    page = squeezed(found.table())

    assert len(found.parts) == 60
    assert "| a | c39 | 2 |" in page
    assert "| a | c40 | 2 |" not in page
    assert "20 categories that lost less are in compare.json and under --json." in page
    assert "a / c04: box iou -0.0600; and 5 more" in page


def test_the_objects_that_lost_most_are_named() -> None:
    """Set, image, object, values and difference, the greatest loss first; gains are not."""
    a, b = rows(np.full(6, 0.8), 2, category="x|y"), rows(np.full(6, 0.9), 2, category="x|y")
    for place, value in ((3, 0.2), (4, 0.7), (1, 0.5)):
        b[place]["iou"] = value
    found = compare(a, b)
    page = squeezed(found.table())

    assert [(w.image, w.object_id) for w in found.worst] == [
        *(("1.png", "1"), ("0.png", "1"), ("2.png", "0"))
    ]
    assert "| a | 1.png | 1 | x\\|y | 0.8000 | 0.2000 | -0.6000 |" in page
    assert len(compare(a, b, worst=1).worst) == 1
    assert "lost most" not in compare(a, b, worst=0).table()
    assert "lost most" not in compare(a, a).table()
    assert found.as_json()["worst"][0]["difference"] == pytest.approx(-0.6)


def test_of_distances_less_is_better() -> None:
    """Where the second run needs fewer clicks or is nearer it is better, and not worse."""
    a = rows(np.full(8, 0.5), noc90=np.nan)
    b = rows(np.full(8, 0.5), noc90=np.nan)
    for run, clicks in ((a, 9.0), (b, 4.0)):
        for index, row in enumerate(run):
            row["noc90"], row["set"] = clicks + index % 2, "ab"[index % 2]
            del row["iou"]
    found = compare(a, b)

    assert found.differences[0].verdict == "better"
    assert found.fallen == found.worst == ()
    assert len(compare(b, a).worst) == 8
    assert len(compare(b, a).fallen) == 2


def test_groups_are_drawn_only_where_there_are_some() -> None:
    """Without any group "over groups" would be a lie; of sets, those without one are named."""
    a = rows(np.linspace(0.4, 0.6, 8))
    bare = [{**row, "set": "bare", "group": ""} for row in a]
    found = compare(a + bare, a + bare, unit="group", resamples=9)

    assert found.ungrouped == ("bare",)
    assert "Without groups, and drawn by image: bare." in found.table()
    assert compare(a, a, unit="group", resamples=9).ungrouped == ()
    with pytest.raises(InputError, match=r"a group to draw by group, got none in bare: .*\nhint: "):
        compare(bare, bare, unit="group")


def test_equal_differences_have_an_interval_of_one_point() -> None:
    """Where all units differ by the same there is nothing to draw, with BCa as well."""
    assert mean_interval([0.5] * 4, method="BCa") == (0.5, 0.5)
    assert mean_interval([0.5]) is None
    assert mean_interval([0.5, 0.7], ["x", "x"]) is None


def test_one_image_has_no_interval() -> None:
    """A single unit says nothing of others, and the table leaves the interval empty."""
    found = compare(rows(np.zeros(2), 2), rows(np.ones(2), 2))

    assert (found.differences[0].low, found.differences[0].high) == (None, None)
    assert "| +1.0000 | | 100 % | 0 % |" in squeezed(found.table())


def test_folders_and_files_are_read(tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]) -> None:
    """A run is its folder, its objects.csv or its rows; the results can be written."""
    a, b = map(rows, pair)
    path = write_objects(tmp_path / "a" / "objects.csv", a)
    found: Comparison = compare(tmp_path / "a", b, resamples=99)
    files = write_comparison(tmp_path / "out", found)

    assert found.differences[0].objects == 24
    assert (found.run_a, found.run_b) == (str(tmp_path / "a"), "")
    assert found.table().startswith(f"A: `{tmp_path / 'a'}`  \n\n| protocol |")
    assert compare(path, a).differences[0].difference == pytest.approx(0, abs=1e-6)
    assert [file.name for file in files] == ["compare.json", "compare.md"]
    assert json.loads(files[0].read_text())["differences"][0]["metric"] == "iou"
    assert files[1].read_text() == found.table()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "pixel"}, "expected a unit among image, object, group, got 'pixel'"),
        ({"method": "normal"}, "expected a method among percentile, basic, BCa"),
        ({"confidence": 95}, r"expected confidence in \(0, 1\).*got 95"),
        ({"resamples": 0}, "at least 1 resample and 0 or more worst objects, got 0.95, 0 and 10"),
        ({"worst": -1}, "0 or more worst objects, got 0.95, 9999 and -1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    """What cannot be is an InputError that says so."""
    with pytest.raises(InputError, match=message):
        compare(rows(np.ones(2)), rows(np.ones(2)), **options)


def test_runs_without_a_common_object_are_refused(tmp_path: Path) -> None:
    """Nothing can be compared, and what rows are matched by is said."""
    other = rows(np.ones(2), set="b")

    with pytest.raises(InputError, match=r"got none\nhint: rows are matched by set, image"):
        compare(rows(np.ones(2)), other)
    with pytest.raises(InputError, match="each object once in the rows, got a 0.png 0 box twice"):
        compare(rows(np.ones(2)) * 2, other)
    with pytest.raises(InputError, match=r"expected the folder of an evaluation, got .*nothing"):
        compare(tmp_path / "nothing", other)
