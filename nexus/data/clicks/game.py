"""The game of clicks: point at objects, look at what comes back, click where it is wrong.

Evaluation, the rounds of training, its measurements and the corrections of clips all play it, and
ask whom they have to ask between two rounds:

    game = Game(targets, rounds=3)
    while game.playing:
        game.take(answers_to(game.prompts))

Corrections follow RITM (arXiv 2102.06583) or, where they are drawn by chance, the training of SAM
(arXiv 2304.02643, appendix A). Everything random comes from the generators passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nexus.core.errors import InputError
from nexus.core.types.prompt import Prompt
from nexus.data.clicks.sampling import (
    Click,
    centre_click,
    check_mask,
    check_object,
    depth_map,
    error_click,
    jittered_box,
    near_box,
    random_click,
    random_error_click,
)
from nexus.ops.boxes import mask_to_box_xyxy

if TYPE_CHECKING:
    from nexus.core.types import Masks

Kind = Literal["centre", "inner", "random", "box", "jittered_box", "near_box", "box_and_click"]
"""How an object is first pointed at, see `Target.point`."""

BOXES: tuple[Kind, ...] = ("box", "jittered_box", "near_box")
"""Kinds without a click."""

Answer: TypeAlias = "tuple[NDArray[np.bool_], NDArray[Any] | None]"
"""What a prompt gave: a mask, and the (h, w) logits that the next prompt brings, or None."""

_Kind = TypeVar("_Kind", bound=str)
_INNER_DEPTH = 0.3


@dataclass(eq=False)
class Target:
    """An object that is pointed at, with all that it was shown by so far.

    Clicks are placed on pixels of the truth, which are those of the image; a subclass whose truth
    is in another frame says where its pixels are in the image.

    Attributes:
        truth: The object, bool (H, W).
        ignored: Pixels that count for nothing, bool (H, W).
        clicks: Given so far, in pixels of the image.
        box: Given with them.
        low_res_logits: (h, w) logits of the last answer, where they come along.
        chance: Draws corrections, of which there is then always one more. None clicks the middle
            of what is most wrong, brings the logits, and has nothing to add where nothing is wrong
            that was not clicked before.
        random_error: How often a drawn correction is anywhere in what is wrong, rather than in
            the middle of its thickest part.
        mask_share: How often a drawn correction brings the logits.

    Raises:
        InputError: A truth of another shape or type, or a share outside [0, 1].
    """

    truth: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None
    clicks: list[Click] = field(default_factory=list)
    box: ArrayLike | None = None
    low_res_logits: NDArray[Any] | None = None
    chance: np.random.Generator | None = None
    random_error: float = 0.0
    mask_share: float = 1.0

    def __post_init__(self) -> None:
        check_mask(self.truth)
        for name in ("random_error", "mask_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"expected {name} in [0, 1], got {getattr(self, name)}")

    @property
    def prompt(self) -> Prompt:
        """All clicks, the box and the last logits.

        Raises:
            PromptError: It was not pointed at.
        """
        points = [(click.x, click.y) for click in self.clicks]
        labels = [click.label for click in self.clicks]
        return Prompt(points, labels, self.box, self.low_res_logits)

    def point(
        self,
        kind: Kind,
        rng: np.random.Generator,
        box_jitter: float = 0.1,
        box_jitter_px: float = 20.0,
    ) -> Prompt:
        """Point at the object for the first time. Prompts of one kind have equally many points.

        Args:
            kind: 'centre' clicks the pixel furthest from everything else, 'inner' any at least
                three tenths as deep, 'random' any; 'box' is tight, 'jittered_box' as if drawn by
                hand, 'near_box' of any size with its middle in the tight one; 'box_and_click' is
                a jittered box with a click anywhere on the object.
            rng: The source of chance.
            box_jitter: Standard deviation of an edge, as a share of the box's side.
            box_jitter_px: The furthest an edge moves.

        Raises:
            InputError: An empty mask, an unknown kind, or noise below 0.
        """
        check_shares({kind: 1.0}, get_args(Kind))
        if kind == "box":
            self.box = self.box_xyxy
        elif kind == "near_box":
            self.box = near_box(self.box_xyxy, self.size_hw, rng)
        elif kind in ("jittered_box", "box_and_click"):
            noise = {"share": box_jitter, "limit_px": box_jitter_px}
            self.box = jittered_box(self.box_xyxy, self.size_hw, rng, **noise)
        if kind == "centre":
            self.clicks = [self.centre]
        elif kind not in BOXES:
            drawn = self.inner_click(rng) if kind == "inner" else random_click(self.deep(), rng)
            self.clicks = [self.in_image(drawn)]
        return self.prompt

    def correct(
        self, predicted: NDArray[np.bool_], low_res_logits: NDArray[Any] | None = None
    ) -> bool:
        """Click where an answer is wrong; return whether there was a click to add.

        Args:
            predicted: The answer, bool of the truth's shape.
            low_res_logits: (h, w) logits that come along instead of those before.

        Raises:
            InputError: Another type, or shapes that differ.
        """
        if self.chance is None:
            click = error_click(self.truth, predicted, self.ignored, clicked=self.clicked)
        else:
            # Both are drawn whatever the shares: none changes what is drawn after it.
            where, mask = self.chance.random(2)
            if where < self.random_error:
                click = random_error_click(self.truth, predicted, self.chance, self.ignored)
            else:
                click = error_click(self.truth, predicted, self.ignored, clicked=self.clicked)
            low_res_logits = low_res_logits if mask < self.mask_share else None
        click = click or self.spare_click()
        if click is None:
            return False
        self.clicks.append(self.in_image(click))
        self.low_res_logits = low_res_logits
        return True

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.truth.shape[0], self.truth.shape[1]

    @property
    def centre(self) -> Click:
        """The click on the pixel of the image furthest from all that is not the object."""
        return centre_click(self.truth)

    @property
    def box_xyxy(self) -> ArrayLike:
        """The tight box in pixels of the image."""
        check_object(self.truth)
        return mask_to_box_xyxy(self.truth)

    def deep(self, share: float = 0.0) -> NDArray[np.bool_]:
        """Return which pixels of the object are at least so deep, as a share of the deepest."""
        return depth_map(self.truth) >= share * 255 if share else self.truth

    @property
    def clicked(self) -> Sequence[Click]:
        """The clicks given so far, in pixels of the truth; none of these is given again."""
        return self.clicks

    def in_image(self, click: Click) -> Click:
        """Carry a click on a pixel of the truth to the image."""
        return click

    def inner_click(self, rng: np.random.Generator) -> Click:
        """Click well inside the object; deeper pixels are likelier."""
        return random_click(self.deep(rng.uniform(_INNER_DEPTH, 1)), rng)

    def spare_click(self) -> Click | None:
        """Return the click where nothing is wrong: drawn ones go on, others end there."""
        if self.chance is None:
            return None
        on_object = bool(self.truth.any())
        where = self.truth if on_object else ~self.truth
        return random_click(where, self.chance, label=int(on_object))


@dataclass(eq=False)
class Game:
    """Rounds of prompts and answers over any number of objects.

    Attributes:
        playing: The objects that await an answer; none when the game is over.
        rounds: Answers that each still gets at most.

    Raises:
        InputError: No rounds.
    """

    playing: Sequence[Target]
    rounds: int

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"expected at least 1 round, got {self.rounds}")

    @property
    def prompts(self) -> list[Prompt]:
        """What to answer in this round, in the order of `playing`."""
        return [target.prompt for target in self.playing]

    def take(self, answers: Iterable[Answer]) -> None:
        """Correct every target in play by its answer; those with nothing to correct leave.

        Nobody looks at the answers of the last round, which spares what an iterator would do.
        """
        self.rounds -= 1
        pairs = zip(self.playing, answers, strict=True) if self.rounds > 0 else ()
        self.playing = [target for target, answer in pairs if target.correct(*answer)]


def clicks_of(prompt: Prompt) -> list[Click]:
    """Return the points of a prompt as clicks."""
    parts = (prompt.points, prompt.labels)
    points, labels = (() if part is None else part.tolist() for part in parts)
    return [Click(x, y, label) for (x, y), label in zip(points, labels, strict=True)]


def best_answers(answers: Iterable[Masks], with_logits: bool = True) -> Iterator[Answer]:
    """Yield the best mask of each answer of a model, and its logits if they are to come along."""
    for masks in answers:
        yield masks.best, masks.best_low_res_logits if with_logits else None


def draw_kind(rng: np.random.Generator, shares: Mapping[_Kind, float]) -> _Kind:
    """Draw a kind of first prompt by its share."""
    kinds = sorted(shares)
    weights = np.array([shares[kind] for kind in kinds], np.float64)
    return kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]


def check_shares(shares: Mapping[Any, float], kinds: Collection[str]) -> None:
    """Refuse shares of first prompts that nothing can be drawn by.

    Raises:
        InputError: Other kinds than `kinds`, a share below 0, or none above 0.
    """
    unknown = sorted(set(shares) - set(kinds))
    if unknown:
        raise InputError(
            f"expected first prompts among {', '.join(kinds)}, got {', '.join(unknown)}"
        )
    if min(shares.values(), default=0) < 0 or sum(shares.values()) <= 0:
        raise InputError(
            "expected shares of first prompts that are 0 or more with a sum above 0, "
            f"got {dict(shares)}"
        )
