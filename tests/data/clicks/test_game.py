from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nexus.core.errors import InputError, PromptError
from nexus.core.types.prompt import Prompt
from nexus.data.clicks.game import Game, Target, clicks_of, draw_kind
from nexus.data.clicks.sampling import Click, centre_click, depth_map, error_click

CLICKS = ("centre", "inner", "random")
LOOSE = ("jittered_box", "near_box")
KINDS = (*CLICKS, "box", *LOOSE, "box_and_click")


@pytest.fixture
def mask() -> np.ndarray:
    """Give an L of 40 x 30 pixels."""
    mask = np.zeros((50, 60), np.bool_)
    mask[5:45, 10:20] = mask[35:45, 10:40] = True
    return mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def clicked(mask: np.ndarray) -> Target:
    """Return the object of a mask, clicked at its centre."""
    return Target(mask, clicks=[centre_click(mask)])


def play(target: Target, predicted: np.ndarray, rounds: int) -> list[Prompt]:
    """Return the prompts of a game whose answer never changes, with its round as logits."""
    game, prompts = Game([target], rounds), []
    while game.playing:
        prompts += game.prompts
        game.take([(predicted, np.full((4, 4), len(prompts), np.float32))])
    return prompts


def corrected(
    prompt: Prompt, mask: np.ndarray, predicted: np.ndarray, seed: int = 0, **how: Any
) -> Prompt:
    """Return the next prompt after one whose answer was `predicted`, drawn by chance."""
    logits = how.pop("logits", None)
    ignored = how.pop("ignored", None)
    target = Target(mask, ignored, clicks_of(prompt), prompt.box, chance=rng(seed), **how)
    assert target.correct(predicted, logits)
    return target.prompt


def test_kinds_come_by_their_shares() -> None:
    """A kind with three times the share comes three times as often, one with 0 never."""
    source = rng()
    shares = {"centre": 1.0, "box": 3.0, "random": 0.0}
    kinds = [draw_kind(source, shares) for _ in range(2000)]

    assert set(kinds) == {"centre", "box"}
    assert abs(kinds.count("box") - 1500) < 80


@pytest.mark.parametrize("kind", KINDS)
def test_first_prompts_are_of_their_kind(mask: np.ndarray, kind: Any) -> None:
    """Clicks are on the object with label 1, boxes near its box; nothing else is there."""
    for seed in range(20):
        prompt = Target(mask).point(kind, rng(seed))

        assert (prompt.points is not None) == (kind in CLICKS or kind == "box_and_click")
        assert (prompt.box is not None) == (kind not in CLICKS)
        assert prompt.mask is None
        if prompt.points is not None and prompt.labels is not None:
            ((x, y),) = prompt.points.astype(int).tolist()
            assert mask[y, x]
            assert prompt.labels.tolist() == [1]
        if prompt.box is not None and kind != "near_box":
            assert np.abs(prompt.box - (10, 5, 40, 45)).max() <= 20
            assert (prompt.box.tolist() == [10, 5, 40, 45]) == (kind == "box")


def test_the_centre_is_the_deepest_pixel(mask: np.ndarray) -> None:
    """A centre prompt is the centre click."""
    click = centre_click(mask)

    assert Target(mask).point("centre", rng()).points.tolist() == [[click.x, click.y]]


def test_inner_clicks_are_deep(mask: np.ndarray) -> None:
    """They are at least three tenths as deep as the deepest pixel, and not all the same."""
    places = {
        tuple(Target(mask).point("inner", rng(seed)).points[0].astype(int).tolist())
        for seed in range(40)
    }
    depth = depth_map(mask)

    assert len(places) > 10
    assert min(depth[y, x] for x, y in places) >= 0.3 * 255


def test_near_boxes_have_their_middle_in_the_tight_one(mask: np.ndarray) -> None:
    """They lie within the image; where they are not cut their middle is in the object's box."""
    for seed in range(40):
        x0, y0, x1, y1 = Target(mask).point("near_box", rng(seed)).box

        assert 0 <= x0 < x1 <= 60
        assert 0 <= y0 < y1 <= 50
        if x0 > 0 and x1 < 60:
            assert 10 <= (x0 + x1) / 2 <= 40


def test_noise_reaches_the_box(mask: np.ndarray) -> None:
    """Without noise the box is tight; with a limit no edge passes it."""
    tight = Target(mask).point("jittered_box", rng(), 0.0)
    near = [Target(mask).point("jittered_box", rng(seed), 1.0, 2.0) for seed in range(20)]

    assert tight.box.tolist() == [10, 5, 40, 45]
    assert max(np.abs(prompt.box - tight.box).max() for prompt in near) == 2


@pytest.mark.parametrize("chance", [None, rng()])
def test_a_correction_is_the_error_click(
    mask: np.ndarray, chance: np.random.Generator | None
) -> None:
    """The next prompt has the old points and box, the click of RITM's rule, and the mask."""
    predicted = mask.copy()
    predicted[35:45, 18:] = False
    logits = np.full((8, 8), -3.0, np.float32)
    target = Target(mask, None, [Click(15.0, 10.0, 1)], (9, 5, 41, 44), chance=chance)
    assert target.correct(predicted, logits)
    after, click = target.prompt, error_click(mask, predicted)

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
    places = set()
    for seed in range(30):
        after = corrected(Prompt(box=(9, 5, 41, 44)), mask, predicted, seed, random_error=1.0)
        ((x, y),) = after.points.astype(int).tolist()
        places.add((x, y))

        assert mask[y, x] != predicted[y, x]
        assert after.labels.tolist() == [int(mask[y, x])]
        assert after.mask is None
    assert len(places) > 20


def test_the_mask_comes_by_its_share(mask: np.ndarray) -> None:
    """With a share of a half about half of the corrections bring the previous mask."""
    logits, before = np.zeros((4, 4), np.float32), Prompt([[15.0, 10.0]])
    prompts = [
        corrected(before, mask, np.zeros_like(mask), seed, mask_share=0.5, logits=logits)
        for seed in range(200)
    ]

    assert 70 < sum(prompt.mask is not None for prompt in prompts) < 130


def test_a_mask_is_of_the_last_answer_or_none(mask: np.ndarray) -> None:
    """Logits of an earlier round are replaced, and dropped where none come along."""
    target = clicked(mask)
    empty = np.zeros_like(mask)
    target.correct(empty, np.ones((4, 4), np.float32))
    target.correct(empty, np.zeros((4, 4), np.float32))

    assert not target.prompt.mask.any()
    target.correct(empty)
    assert target.prompt.mask is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_perfect_prediction_still_gets_a_click(mask: np.ndarray, share: float) -> None:
    """Drawn prompts grow alike: where nothing is wrong the click is on the object."""
    after = corrected(Prompt([[15.0, 10.0]]), mask, mask, random_error=share)
    x, y = after.points[1].astype(int)

    assert after.labels.tolist() == [1, 1]
    assert mask[y, x]


def test_without_an_object_the_click_is_on_the_background() -> None:
    """An empty mask predicted empty gets a click with label 0."""
    empty = np.zeros((9, 9), np.bool_)
    after = corrected(Prompt(box=(1, 1, 5, 5)), empty, empty)

    assert after.labels.tolist() == [0]


def test_ignored_pixels_are_not_corrected(mask: np.ndarray) -> None:
    """An error under ignored pixels draws no click, the one beside them does."""
    predicted = mask.copy()
    predicted[5:9] = predicted[40:45] = False
    ignored = np.zeros_like(mask)
    ignored[35:] = True
    for seed in range(10):
        after = corrected(
            Prompt([[15.0, 20.0]]), mask, predicted, seed, random_error=0.5, ignored=ignored
        )

        assert after.points[1, 1] < 9


@pytest.mark.parametrize("chance", [None, rng()])
def test_clicks_that_change_nothing_are_not_repeated(
    mask: np.ndarray, chance: np.random.Generator | None
) -> None:
    """A prediction that stays as it was is corrected at another pixel each round, as by RITM."""
    for answer in (np.zeros_like(mask), np.ones_like(mask)):
        target = Target(mask, chance=chance)
        target.point("centre", rng())
        prompts = play(target, answer, 6)

        assert len({tuple(point) for point in prompts[-1].points.tolist()}) == 6


def test_an_object_whose_wrong_pixels_are_all_clicked_leaves_the_game() -> None:
    """There is no click to add where the only wrong pixel has been clicked in vain."""
    mask = np.zeros((9, 9), np.bool_)
    mask[4, 4] = True
    game = Game([clicked(mask)], 5)
    game.take([(np.zeros_like(mask), None)])

    assert game.playing == []


def test_several_rounds_see_what_came_back(mask: np.ndarray) -> None:
    """Each round has one click more, and the logits of the round before."""
    prompts = play(clicked(mask), np.zeros_like(mask), 4)

    assert [len(prompt.points) for prompt in prompts] == [1, 2, 3, 4]
    assert [None if p.mask is None else float(p.mask[0, 0]) for p in prompts] == [None, 1, 2, 3]


def test_a_target_without_an_error_leaves_the_game(mask: np.ndarray) -> None:
    """The others go on; when none is left, or all rounds are over, so is the game."""
    first, second = clicked(mask), clicked(mask)
    game = Game([first, second], 3)
    game.take([(mask, None), (np.zeros_like(mask), None)])

    assert game.playing == [second]
    assert [len(prompt.points) for prompt in game.prompts] == [2]
    game.take([(mask, None)])
    assert game.playing == []


def test_nobody_looks_at_the_last_answers(mask: np.ndarray) -> None:
    """After the last round nothing is drawn from the answers, and no prompt grows."""
    target = clicked(mask)
    game, answers = Game([target], 1), iter([(np.zeros_like(mask), None)])
    game.take(answers)

    assert game.playing == []
    assert len(list(answers)) == 1
    assert len(target.clicks) == 1


def test_each_target_wants_its_answer(mask: np.ndarray) -> None:
    """One answer for two targets is no answer to either."""
    game = Game([clicked(mask), clicked(mask)], 2)
    with pytest.raises(ValueError, match="shorter"):
        game.take([(mask, None)])


def test_equal_seeds_give_equal_rounds(mask: np.ndarray) -> None:
    """All chance comes from the generator."""
    runs = []
    for _ in range(2):
        target = Target(mask, chance=(source := rng(5)), random_error=0.5, mask_share=0.5)
        target.point("random", source)
        runs.append([p.points.tolist() for p in play(target, np.zeros_like(mask), 3)])

    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask_share": 1.5}, r"expected mask_share in \[0, 1\], got 1.5"),
        ({"random_error": -1}, r"expected random_error in \[0, 1\], got -1"),
    ],
)
def test_shares_out_of_range_are_refused(
    mask: np.ndarray, values: dict[str, Any], message: str
) -> None:
    """A share is from 0 to 1."""
    with pytest.raises(InputError, match=message):
        Target(mask, **values)


def test_a_truth_of_another_type_is_refused(mask: np.ndarray) -> None:
    """A truth is a bool mask."""
    with pytest.raises(InputError, match="expected mask as a bool array"):
        Target(mask.astype(np.uint8))


def test_noise_below_zero_is_refused(mask: np.ndarray) -> None:
    """The noise of a loose box is 0 or more."""
    with pytest.raises(InputError, match="expected noise of 0 or more for a box, got a share of -"):
        Target(mask).point("jittered_box", rng(), -1.0)


def test_an_unknown_kind_is_refused(mask: np.ndarray) -> None:
    """The kinds there are stand in the message."""
    with pytest.raises(InputError, match="among centre, .*box_and_click, got scribble"):
        Target(mask).point("scribble", rng())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_mask_has_no_first_prompt(kind: Any) -> None:
    """No kind of prompt can point at nothing."""
    with pytest.raises(InputError, match="expected a mask with at least one pixel"):
        Target(np.zeros((5, 5), np.bool_)).point(kind, rng())


def test_what_was_not_pointed_at_has_no_prompt(mask: np.ndarray) -> None:
    """A prompt without anything in it is refused."""
    with pytest.raises(PromptError, match="got an empty one"):
        _ = Target(mask).prompt


def test_there_is_at_least_one_round(mask: np.ndarray) -> None:
    """No rounds is an error."""
    with pytest.raises(InputError, match="expected at least 1 round, got 0"):
        Game([clicked(mask)], 0)
