from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SNIPPET = """
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from nexus.core.types import ImageEmbedding, Prompt
from nexus.data.images import load_image, read_mask
from nexus.models.promptable import PromptableModel
from nexus.predict.batched import BatchedSAM, predict_images
from nexus.predict.oneshot import segment


def boxes() -> Iterator[tuple[float, float, float, float]]:
    yield 1, 1, 9, 9


def answer(model: PromptableModel, embedding: ImageEmbedding, batch: BatchedSAM) -> None:
    model.predict_batch(embedding, boxes())
    model.predict_batch(embedding, np.zeros((5, 4)))
    model.predict_batch(embedding, torch.zeros(5, 4))
    model.predict_batch(embedding, [[1, 1, 9, 9], [2, 2, 5, 5]])
    model.predict_batch(embedding, (Prompt(box=box) for box in boxes()))
    model.predict_batch(embedding, [{"point": (5, 5)}, {"box": (1, 1, 9, 9)}])
    model.encode_image(io.BytesIO())
    with Path("a.png").open("rb") as file:
        model.encode_image(file)
        segment(file, point=(5, 5))
        read_mask(file)
        load_image(file)
    model.encode_images(np.zeros((2, 8, 8, 3), np.uint8))
    model.encode_images(path for path in Path().iterdir())
    predict_images(model, (path for path in Path().iterdir()), np.zeros((2, 5, 4)))
    batch.process_batch(iter(["a.png"]), boxes())


def refuse(model: PromptableModel, embedding: ImageEmbedding) -> None:
    model.predict_batch(embedding, 5)
    model.encode_image(5)
"""


@pytest.mark.slow
def test_callers_are_typed_as_they_are_served(tmp_path: Path) -> None:
    """Arrays, generators and open files pass a strict type checker; a number does not."""
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--strict", str(snippet)]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [line for line in found.stdout.splitlines() if "error:" in line]
    last = len(SNIPPET.splitlines())

    assert found.returncode == 1, found.stderr
    assert [line.split(":")[1] for line in lines] == [str(last - 1), str(last)], found.stdout
