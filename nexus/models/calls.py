"""What callers ask of a model: images and prompts in any of their spellings, read into rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from nexus.core.errors import InputError, PromptError, shown
from nexus.core.types import ImageEmbedding, Prompt, PromptLike
from nexus.models.frame import token_count
from nexus.models.policy import Policy

Kind = tuple[tuple[int, ...], int, int, bool, bool]
"""What the rows of one decoder call have in common: the shape of the features (C, gh, gw), the side
of the model frame, the prompt's sparse tokens, whether it has a mask, and `multimask_output`."""


@dataclass(frozen=True, eq=False)
class Row:
    """One question to a model.

    Attributes:
        image: Which of the images of the call it is about.
        prompt: In original pixels of that image.
        multimask_output: As in `predict`.
        name: What messages call it; empty where there is no other.
    """

    image: int
    prompt: Prompt
    multimask_output: bool | None = None
    name: str = ""


def kind_of(row: Row, embedding: ImageEmbedding, policy: Policy) -> Kind:
    """Return the kind of a row on its image."""
    multimask_output = row.multimask_output
    if multimask_output is None:
        multimask_output = is_ambiguous(row.prompt, policy)
    return (
        tuple(embedding.features.shape),
        embedding.geometry.input_side,
        token_count(row.prompt, policy),
        row.prompt.mask is not None,
        multimask_output,
    )


def is_ambiguous(prompt: Prompt, policy: Policy) -> bool:
    """Tell whether a prompt is a single foreground point alone, and candidates were trained."""
    return (
        policy.candidates
        and prompt.box is None
        and prompt.mask is None
        and prompt.labels is not None
        and prompt.labels.tolist() == [1]
    )


@contextmanager
def named(name: str) -> Iterator[None]:
    """Let the message of a `PromptError` begin with which prompt it is about; "" leaves it."""
    try:
        yield
    except PromptError as error:
        if not name:
            raise
        raise PromptError(f"{name}: {error.message}", error.hint) from error


def read_rows(
    prompts: Sequence[Sequence[PromptLike]],
    multimask_output: bool | None,
    name: str = "image {image}, prompt {index}",
) -> list[Row]:
    """Read a sequence of prompts for each image, in order; `name` is what messages call a row.

    Raises:
        InputError: A `multimask_output` that is neither True, False nor None.
        PromptError: A prompt is malformed; it is named.
    """
    if not (multimask_output is None or isinstance(multimask_output, (bool, np.bool_))):
        raise InputError(
            f"expected multimask_output to be True, False or None, got {shown(multimask_output)}"
        )
    rows = []
    for image, given in enumerate(prompts):
        for index, prompt in enumerate(given):
            own_name = name.format(image=image, index=index)
            with named(own_name):
                rows.append(Row(image, Prompt.of(prompt), multimask_output, own_name))
    return rows


def listed_prompts(prompts: Any, of: str, hint: str) -> list[Any]:
    """Return prompts as a list: of a sequence, an array or a generator of them.

    A message goes on with the words `of` which image after "a sequence of prompts", and the hint
    says what to do with one bare prompt.

    Raises:
        PromptError: It is none, such as one bare prompt.
    """
    prompts = _array(prompts)
    if isinstance(prompts, Prompt | Mapping) or not _is_row(prompts):
        raise PromptError(f"expected a sequence of prompts{of}, got {type(prompts).__name__}", hint)
    listed = list(prompts)
    if listed and all(isinstance(part, int | float | np.number) for part in listed):
        raise PromptError(f"expected a sequence of prompts{of}, got {len(listed)} numbers", hint)
    return listed


def prompt_lists(prompts: Any, images: int) -> list[Sequence[Any]]:
    """Return the prompts of each image as they were given; a bare one as a list of it.

    Raises:
        InputError: Not something for each of one or more images, or no prompt at all.
    """
    prompts = _array(prompts)
    if isinstance(prompts, str | bytes) or not _is_row(prompts):
        raise InputError(
            f"expected a list of prompts for each image, got {type(prompts).__name__}",
            hint="for one image pass [[prompt, prompt, ...]]",
        )
    if not images or len(prompts) != images:
        raise InputError(
            f"expected prompts for each of 1 or more images, got {len(prompts)} for {images}"
        )
    lists = [_listed(_array(given)) for given in prompts]
    if not any(len(given) for given in lists):
        raise InputError("expected at least one prompt, got none")
    return lists


def image_list(images: Any, hint: str = "for one image pass [image]") -> list[Any]:
    """Return the images of a call, a list, a generator or a batch, one by one.

    Raises:
        InputError: Neither.
    """
    wanted, got = "a list of images", type(images).__name__
    if isinstance(images, Tensor | np.ndarray):
        if images.ndim == 4:
            return list(images)
        wanted = "a batch of images, (B, 3, H, W) or (B, H, W, 3)"
        got = f"shape {tuple(images.shape)}"
    elif _is_row(images):
        return list(images)
    raise InputError(f"expected {wanted}, got {got}", hint=hint)


def _is_row(values: Any) -> bool:
    """Tell whether values come one after the other, which is not so of text, files and sets."""
    if isinstance(values, np.ndarray):
        return bool(values.ndim)
    unfit = isinstance(values, str | bytes | bytearray | memoryview | Mapping | Set)
    return isinstance(values, Iterable) and not unfit and not hasattr(values, "read")


def _listed(prompts: Any) -> Sequence[Any]:
    if isinstance(prompts, Prompt | Mapping):
        return [prompts]
    if isinstance(prompts, np.ndarray):
        return [prompts] if prompts.ndim == 1 and prompts.size else list(prompts)
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence):
        raise InputError(f"expected a list of prompts, got {type(prompts).__name__}")
    # Numbers alone are one point or one box.
    is_bare = bool(prompts) and all(isinstance(part, int | float | np.number) for part in prompts)
    return [prompts] if is_bare else prompts


def _array(values: Any) -> Any:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
