"""Prompts over several rounds: point at an object, look at what comes back, correct it.

The first prompt is drawn from a mixture of kinds; each correction is a click where the prediction
is wrong and, by chance, brings the previous mask, as SAM was trained (arXiv 2304.02643,
appendix A). Everything random comes from the generator passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError
from nexus.core.types.prompt import Prompt
from nexus.data.clicks.sampling import (
    Click,
    centre_click,
    check_mask,
    check_noise,
    error_click,
    jittered_box,
    no_object,
    random_click,
    random_error_click,
)
from nexus.ops.boxes import mask_to_box_xyxy

PromptKind: TypeAlias = Literal["centre", "random", "box", "box_and_click"]
"""How an object is first pointed at."""

Predict: TypeAlias = "Callable[[Prompt], tuple[NDArray[np.bool_], NDArray[Any] | None]]"
"""Answer a prompt with the mask of the image and, where there are any, the low-res logits."""


@dataclass(frozen=True)
class PromptSettings:
    """How prompts are drawn.

    Attributes:
        shares: How often each kind of first prompt is drawn, relative to the others.
        box_share: Standard deviation of a box edge's noise, as a share of the box's side.
        box_limit_px: The furthest a box edge moves.
        random_error_share: How often a correction is anywhere in what is wrong, rather than in the
            middle of its largest part.
        mask_share: How often a correction brings the previous mask, where there is one.

    Raises:
        InputError: An unknown kind, or a number out of range.
    """

    shares: dict[PromptKind, float] = field(
        default_factory=lambda: {"centre": 0.25, "random": 0.25, "box": 0.25, "box_and_click": 0.25}
    )
    box_share: float = 0.1
    box_limit_px: float = 20.0
    random_error_share: float = 0.5
    mask_share: float = 1.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.shares) - set(get_args(PromptKind)))
        if unknown:
            raise InputError(
                f"expected kinds of prompts among {', '.join(get_args(PromptKind))}, "
                f"got {', '.join(unknown)}"
            )
        values = list(self.shares.values())
        if min(values, default=0) < 0 or sum(values) <= 0:
            raise InputError(
                f"expected shares of 0 or more, one of them above 0, got {self.shares}"
            )
        for name in ("random_error_share", "mask_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"expected {name} in [0, 1], got {getattr(self, name)}")
        check_noise(self.box_share, self.box_limit_px)


def draw_kind(rng: np.random.Generator, settings: PromptSettings | None = None) -> PromptKind:
    """Draw a kind of first prompt by its share."""
    shares = (settings or PromptSettings()).shares
    kinds = sorted(shares)
    weights = np.array([shares[kind] for kind in kinds], np.float64)
    return kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]


def first_prompt(
    mask: NDArray[np.bool_],
    rng: np.random.Generator,
    settings: PromptSettings | None = None,
    *,
    kind: PromptKind | None = None,
) -> Prompt:
    """Point at an object for the first time: a click, a loose box, or both.

    Args:
        mask: The object, bool (H, W).
        rng: The source of chance.
        settings: How; None for the defaults.
        kind: `centre`, `random`, `box` or `box_and_click`, whose click is anywhere on the object;
            None draws one by `settings.shares`. Prompts of one kind have equally many points.

    Raises:
        InputError: Another shape or type, an empty mask, or an unknown kind.
    """
    check_mask(mask)
    chosen = settings or PromptSettings()
    kind = draw_kind(rng, chosen) if kind is None else kind
    if kind not in get_args(PromptKind):
        raise InputError(
            f"expected a kind of prompt among {', '.join(get_args(PromptKind))}, got {kind!r}"
        )
    if kind == "centre":
        return _prompt([centre_click(mask)])
    if kind == "random":
        return _prompt([random_click(mask, rng)])
    if not mask.any():
        raise no_object()
    size_hw = (mask.shape[0], mask.shape[1])
    share, limit_px = chosen.box_share, chosen.box_limit_px
    box = jittered_box(mask_to_box_xyxy(mask), size_hw, rng, share=share, limit_px=limit_px)
    return Prompt(box=box) if kind == "box" else _prompt([random_click(mask, rng)], box)


def next_prompt(
    prompt: Prompt,
    mask: NDArray[np.bool_],
    predicted: NDArray[np.bool_],
    rng: np.random.Generator,
    low_res_logits: NDArray[Any] | None = None,
    settings: PromptSettings | None = None,
    *,
    ignored: NDArray[np.bool_] | None = None,
) -> Prompt:
    """Correct a prediction: the prompt so far, one more click and, by chance, the previous mask.

    There is always exactly one more click, so that prompts of equal length stay so. Where nothing
    is wrong that has not been clicked, it is anywhere on the object, or on the background if there
    is no object.

    Args:
        prompt: The prompt so far; its mask, if any, is replaced or dropped.
        mask: The object, bool (H, W).
        predicted: What the prompt gave, bool (H, W).
        rng: The source of chance.
        low_res_logits: (h, w) logits of the prediction; None brings no mask.
        settings: How; None for the defaults.
        ignored: Pixels that count for nothing, bool (H, W).

    Raises:
        InputError: Another type, or shapes that differ.
    """
    chosen = settings or PromptSettings()
    points = () if prompt.points is None else prompt.points
    labels = () if prompt.labels is None else prompt.labels
    clicks = [
        Click(float(x), float(y), int(label)) for (x, y), label in zip(points, labels, strict=True)
    ]
    anywhere = rng.random() < chosen.random_error_share
    with_mask = rng.random() < chosen.mask_share and low_res_logits is not None
    if anywhere:
        click = random_error_click(mask, predicted, rng, ignored)
    else:
        click = error_click(mask, predicted, ignored, clicked=clicks)
    if click is None:
        on_object = bool(mask.any())
        click = random_click(mask if on_object else ~mask, rng, label=int(on_object))
    return _prompt([*clicks, click], prompt.box, low_res_logits if with_mask else None)


def simulate_prompts(
    mask: NDArray[np.bool_],
    rng: np.random.Generator,
    predict: Predict,
    *,
    rounds: int = 3,
    settings: PromptSettings | None = None,
) -> list[Prompt]:
    """Play a person who points at an object and corrects what comes back.

    Args:
        mask: The object, bool (H, W).
        rng: The source of chance.
        predict: Answers a prompt with a bool (H, W) mask and its (h, w) logits or None.
        rounds: Prompts to give, the first included.
        settings: How; None for the defaults.

    Returns:
        The prompts in order, each with one click more than the one before.

    Raises:
        InputError: No rounds, another shape or type, or an empty mask.
    """
    if rounds < 1:
        raise InputError(f"expected at least 1 round, got {rounds}")
    prompts = [first_prompt(mask, rng, settings)]
    while len(prompts) < rounds:
        predicted, logits = predict(prompts[-1])
        prompts.append(next_prompt(prompts[-1], mask, predicted, rng, logits, settings))
    return prompts


def _prompt(
    clicks: Sequence[Click], box: ArrayLike | None = None, mask: NDArray[Any] | None = None
) -> Prompt:
    points = [[click.x, click.y] for click in clicks]
    return Prompt(points, [click.label for click in clicks], box, mask)
