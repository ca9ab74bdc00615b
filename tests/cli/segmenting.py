"""A model that draws boxes, and `nexus segment` as tests call it."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result

from nexus.cli.main import app
from nexus.core.errors import NexusWarning
from nexus.core.types.masks import Masks
from nexus.core.types.prompt import Prompt

HEIGHT, WIDTH = 24, 32


class FakeModel:
    """Answers a box with its own pixels, and points with a square around the first."""

    def __init__(self, *load_arguments: Any, **load_options: Any) -> None:
        self.load_arguments = (*load_arguments, load_options)
        self.encoded: list[tuple[int, ...]] = []
        self.prompts: list[Prompt] = []
        self.multimask: list[bool | None] = []

    def encode_image(self, image: np.ndarray, *, max_pixels: int | None) -> SimpleNamespace:
        """Remember the image's shape and the limit."""
        self.encoded.append((*image.shape, max_pixels or 0))
        return SimpleNamespace(size_hw=image.shape[:2])

    def predict_batch(
        self, embedding: Any, prompts: list[Prompt], multimask_output: bool | None
    ) -> list[Masks]:
        """Answer every prompt with two candidates, of which the second is the better."""
        self.prompts = list(prompts)
        self.multimask.append(multimask_output)
        for prompt in prompts:
            prompt.check_within(embedding.size_hw)
        return [self._answer(prompt, embedding.size_hw) for prompt in prompts]

    def _answer(self, prompt: Prompt, size_hw: tuple[int, int]) -> Masks:
        masks = np.zeros((2, *size_hw), bool)
        if prompt.box is not None:
            x0, y0, x1, y1 = prompt.box.astype(int)
        else:
            x0, y0 = prompt.points[0].astype(int) - 1
            x1, y1 = x0 + 3, y0 + 3
        masks[1, y0:y1, x0:x1] = True
        note = () if prompt.box is not None else ("a point means little",)
        if note:
            warnings.warn("a point means little", NexusWarning, stacklevel=2)
        scores = np.array([0.25, 0.75], np.float32)
        return Masks(masks, scores, np.zeros((2, 4, 4), np.float32), note)


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run `nexus segment` with arguments, and with bytes on stdin."""
    return CliRunner().invoke(app, ["segment", *map(str, arguments)], input=stdin)
