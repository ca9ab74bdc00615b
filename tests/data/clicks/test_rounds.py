from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError
from nexus.core.types.prompt import Prompt
from nexus.data.clicks.rounds import (
    PromptSettings,
    draw_kind,
    first_prompt,
    next_prompt,
    simulate_prompts,
)
from nexus.data.clicks.sampling import centre_click, error_click

KINDS = ("centre", "random", "box", "box_and_click")


@pytest.fixture
def mask() -> np.ndarray:
    """Give an L of 40 x 30 pixels."""
    mask = np.zeros((50, 60), np.bool_)
    mask[5:45, 10:20] = mask[35:45, 10:40] = True
    return mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_kinds_come_by_their_shares() -> None:
    """A kind with three times the share comes three times as often, one with 0 never."""
    settings = PromptSettings(shares={"centre": 1, "box": 3, "random": 0})
    source = rng()
    kinds = [draw_kind(source, settings) for _ in range(2000)]

    assert set(kinds) == {"centre", "box"}
    assert abs(kinds.count("box") - 1500) < 80


@pytest.mark.parametrize("kind", KINDS)
def test_first_prompts_are_of_their_kind(mask: np.ndarray, kind: Any) -> None:
    """Clicks are on the object with label 1, boxes near its box; nothing else is there."""
    for seed in range(20):
        prompt = first_prompt(mask, rng(seed), kind=kind)

        assert (prompt.points is not None) == (kind != "box")
        assert (prompt.box is not None) == kind.startswith("box")
        assert prompt.mask is None
        if prompt.points is not None and prompt.labels is not None:
            ((x, y),) = prompt.points.astype(int).tolist()
            assert mask[y, x]
            assert prompt.labels.tolist() == [1]
        if prompt.box is not None:
            assert np.abs(prompt.box - (10, 5, 40, 45)).max() <= 20


def test_the_centre_is_the_deepest_pixel(mask: np.ndarray) -> None:
    """A centre prompt is the centre click."""
    click = centre_click(mask)

    assert first_prompt(mask, rng(), kind="centre").points.tolist() == [[click.x, click.y]]


def test_settings_reach_the_box(mask: np.ndarray) -> None:
    """Without noise the box is tight; with a limit no edge passes it."""
    tight = first_prompt(mask, rng(), PromptSettings(box_share=0), kind="box")
    near = [
        first_prompt(mask, rng(seed), PromptSettings(box_share=1, box_limit_px=2), kind="box")
        for seed in range(20)
    ]

    assert tight.box.tolist() == [10, 5, 40, 45]
    assert max(np.abs(prompt.box - tight.box).max() for prompt in near) == 2


def test_a_correction_is_the_error_click(mask: np.ndarray) -> None:
    """The next prompt has the old points and box, the click of RITM's rule, and the mask."""
    predicted = mask.copy()
    predicted[35:45, 18:] = False
    logits = np.full((8, 8), -3.0, np.float32)
    before = Prompt([[15.0, 10.0]], [1], (9, 5, 41, 44))
    settings = PromptSettings(random_error_share=0)
    after = next_prompt(before, mask, predicted, rng(), logits, settings)
    click = error_click(mask, predicted)

    assert click is not None
    assert after.points.tolist() == [[15.0, 10.0], [click.x, click.y]]
    assert after.labels.tolist() == [1, 1]
    assert after.box.tolist() == [9, 5, 41, 44]
    assert after.mask is not None
    assert np.array_equal(after.mask, logits)


def test_a_random_correction_is_anywhere_in_the_error(mask: np.ndarray) -> None:
    """By chance the click is on any wrong pixel, with the label that pixel should have."""
    predicted = np.zeros_like(mask)
    predicted[:, 12:16] = True
    settings = PromptSettings(random_error_share=1)
    places = set()
    for seed in range(30):
        after = next_prompt(Prompt(box=(9, 5, 41, 44)), mask, predicted, rng(seed), None, settings)
        ((x, y),) = after.points.astype(int).tolist()
        places.add((x, y))

        assert mask[y, x] != predicted[y, x]
        assert after.labels.tolist() == [int(mask[y, x])]
        assert after.mask is None
    assert len(places) > 20


def test_the_mask_comes_by_its_share(mask: np.ndarray) -> None:
    """With a share of a half about half of the corrections bring the previous mask."""
    logits, settings = np.zeros((4, 4), np.float32), PromptSettings(mask_share=0.5)
    before = Prompt([[15.0, 10.0]], mask=np.ones((4, 4), np.float32))
    source = rng()
    prompts = [
        next_prompt(before, mask, np.zeros_like(mask), source, logits, settings) for _ in range(200)
    ]
    masks = [prompt.mask for prompt in prompts if prompt.mask is not None]

    assert 70 < len(masks) < 130
    assert all(not mask.any() for mask in masks)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_perfect_prediction_still_gets_a_click(mask: np.ndarray, share: float) -> None:
    """Prompts grow alike: where nothing is wrong the click is on the object."""
    settings = PromptSettings(random_error_share=share)
    after = next_prompt(Prompt([[15.0, 10.0]]), mask, mask, rng(), None, settings)
    x, y = after.points[1].astype(int)

    assert after.labels.tolist() == [1, 1]
    assert mask[y, x]


def test_without_an_object_the_click_is_on_the_background() -> None:
    """An empty mask predicted empty gets a click with label 0."""
    empty = np.zeros((9, 9), np.bool_)
    after = next_prompt(Prompt(box=(1, 1, 5, 5)), empty, empty, rng())

    assert after.labels.tolist() == [0]


def test_ignored_pixels_are_not_corrected(mask: np.ndarray) -> None:
    """An error under ignored pixels draws no click, the one beside them does."""
    predicted = mask.copy()
    predicted[5:9] = predicted[40:45] = False
    ignored = np.zeros_like(mask)
    ignored[35:] = True
    for seed in range(10):
        after = next_prompt(
            Prompt([[15.0, 20.0]]), mask, predicted, rng(seed), None, ignored=ignored
        )

        assert after.points[1, 1] < 9


def test_clicks_that_change_nothing_are_not_repeated(mask: np.ndarray) -> None:
    """A prediction that stays empty is corrected at another pixel each round."""
    settings = PromptSettings(shares={"centre": 1}, random_error_share=0)
    prompts = simulate_prompts(
        mask, rng(), lambda _: (np.zeros_like(mask), None), rounds=6, settings=settings
    )

    assert len({tuple(point) for point in prompts[-1].points.tolist()}) == 6


def test_several_rounds_see_what_came_back(mask: np.ndarray) -> None:
    """Each round asks once, adds one click, and brings the logits of the round before."""
    asked: list[Prompt] = []

    def predict(prompt: Prompt) -> tuple[np.ndarray, np.ndarray]:
        asked.append(prompt)
        return np.zeros_like(mask), np.full((4, 4), len(asked), np.float32)

    prompts = simulate_prompts(mask, rng(3), predict, rounds=4)
    counts = [0 if prompt.points is None else len(prompt.points) for prompt in prompts]

    assert len(asked) == 3
    assert np.diff(counts).tolist() == [1, 1, 1]
    assert [None if p.mask is None else float(p.mask[0, 0]) for p in prompts] == [None, 1, 2, 3]


def test_equal_seeds_give_equal_rounds(mask: np.ndarray) -> None:
    """All chance comes from the generator."""
    runs = [
        simulate_prompts(mask, rng(5), lambda _: (np.zeros_like(mask), None), rounds=3)
        for _ in range(2)
    ]

    assert [prompt.points.tolist() for prompt in runs[0][1:]] == [
        prompt.points.tolist() for prompt in runs[1][1:]
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shares": {"scribble": 1}}, "expected kinds of prompts among centre, .*got scribble"),
        ({"shares": {"box": 0}}, "expected shares of 0 or more, one of them above 0"),
        ({"shares": {"box": 2, "centre": -1}}, "expected shares of 0 or more"),
        ({"mask_share": 1.5}, r"expected mask_share in \[0, 1\], got 1.5"),
        ({"random_error_share": -1}, r"expected random_error_share in \[0, 1\], got -1"),
        ({"box_share": -1}, "expected noise of 0 or more for a box, got a share of -1"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    """Every number of the settings has its range."""
    with pytest.raises(InputError, match=message):
        PromptSettings(**values)


def test_an_unknown_kind_is_refused(mask: np.ndarray) -> None:
    """The kinds there are stand in the message."""
    with pytest.raises(InputError, match="box_and_click, got 'scribble'"):
        first_prompt(mask, rng(), kind="scribble")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_has_no_first_prompt(kind: Any) -> None:
    """No kind of prompt can point at nothing."""
    with pytest.raises(InputError, match="expected a mask with at least one pixel"):
        first_prompt(np.zeros((5, 5), np.bool_), rng(), kind=kind)


def test_there_is_at_least_one_round(mask: np.ndarray) -> None:
    """No rounds is an error."""
    with pytest.raises(InputError, match="expected at least 1 round, got 0"):
        simulate_prompts(mask, rng(), lambda _: (mask, None), rounds=0)
