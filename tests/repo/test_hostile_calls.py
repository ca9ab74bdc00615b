"""Whatever the API is given, it raises an error of Nexus, or the OSError its docstring names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.device import resolve_device, resolve_dtype
from nexus.core.errors import NexusError
from nexus.core.types import ImageEmbedding, Prompt
from nexus.data.formats.dataset import find_images
from nexus.data.images.loading import load_image, read_mask, write_mask
from nexus.data.truth import open_images
from nexus.data.video.opening import open_video
from nexus.eval.compare import compare
from nexus.eval.detections import read_detections
from nexus.models.cv import SAM, load_model
from nexus.models.policy import check_input_side
from nexus.predict.tracking.object_prompts import prompts_of_clips
from nexus.train.config_file import read_settings
from tests.models.tiny import tiny_sam

ODD = (
    *(None, 3.5, float("nan"), True, 10**30, -1, "x", "", "\0", "ü" * 999, b"x", (1, 2)),
    *([], [[1, 2], [3]], {}, {1: 2}, object(), int, ..., {1}, torch.zeros(0, 4)),
    *(np.zeros(0), np.zeros((2, 2, 2, 2)), np.array(None), np.array(["a"])),
)
_MODEL = tiny_sam()
_EMBEDDING = _MODEL.encode_image(np.zeros((8, 8, 3), np.uint8))
_TAKEN: dict[str, Callable[[Any], object]] = {
    "points": lambda odd: Prompt(points=odd),
    "labels": lambda odd: Prompt(points=[[1, 2]], labels=odd),
    "labels alone": lambda odd: Prompt(labels=odd, box=(1, 1, 2, 2)),
    "box": lambda odd: Prompt(box=odd),
    "mask": lambda odd: Prompt(mask=odd),
    "prompt": Prompt.of,
    "load_image": load_image,
    "read_mask": read_mask,
    "write_mask": lambda odd: write_mask(odd, np.zeros((2, 2), np.bool_)),
    "written mask": lambda odd: write_mask("o.png", odd),
    "encode": _MODEL.encode_image,
    "predict": lambda odd: _MODEL.predict(image_embedding=odd, prompt=(1, 2)),
    "multimask": lambda odd: _MODEL.predict_batch(_EMBEDDING, [(1, 2)], multimask_output=odd),
    "prompts": lambda odd: _MODEL.predict_batch(_EMBEDDING, odd),
    "call": lambda odd: _MODEL([_EMBEDDING], odd),
    "device": resolve_device,
    "dtype": resolve_dtype,
    "input side": check_input_side,
    "name": load_model,
    "pretrained": SAM.from_pretrained,
    "checkpoint": lambda odd: SAM.from_checkpoint(odd, variant="sam_vit_b"),
    "embedding": ImageEmbedding.load,
    "video": open_video,
    "rate": lambda odd: open_video([np.zeros((8, 8, 3), np.uint8)], rate=odd),
    "images": lambda odd: open_images("folder", odd),
    "dataset": lambda odd: open_images(odd, "."),
    "sources": find_images,
    "detections": lambda odd: read_detections(odd, odd),
    "compare": lambda odd: compare(odd, odd),
    "settings": read_settings,
    "clip prompts": lambda odd: prompts_of_clips(odd, [("a.mp4", "a")]),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("taker", _TAKEN)
def test_odd_values_are_refused_in_words(
    taker: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a TypeError of Python's nor a message that fills the screen."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXUS_OFFLINE", "1")
    told = []
    for odd in ODD:
        try:
            _TAKEN[taker](odd)
        except (NexusError, OSError) as error:
            told.append(str(error))

    assert all(len(text) < 3000 for text in told)
