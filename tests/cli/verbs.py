"""The verbs that write into a folder, each over drawn inputs and with a tiny model.

It also runs as a program, `python verbs.py VERB ROOT [ARGUMENTS...]`: the command `nexus` with
that verb, which touches ROOT/begun when the model is first asked and goes on once ROOT/go is there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nexus.models.cv
import nexus.train.loop
from nexus.models.cv import SAM
from nexus.models.policy import LITE_MEDSAM_POLICY
from tests.cli.tracking import SquareModel
from tests.models.tiny import TINY, TINY_POLICY, tiny_sam
from tests.predict.painter import draw_images
from tests.train.tiny_run import draw_set

TRAIN = """\
model: {name: lite_medsam, device: cpu}
data: {root: ROOT, held_out: 0.34, min_area: 20, sets: [{folder: shapes}]}
prompts: {first: {box: 1}}
optimizer: {steps: 1, rows: 1}
evaluate: {measures: [box]}
cache: {folder: ROOT/embeddings}
"""


def _segment(root: Path) -> list[str]:
    draw_images(root / "in", 2)
    return [str(root / "in"), "--box", "2,2,20,20", "--box", "5,5,30,30"]


def _generate(root: Path) -> list[str]:
    draw_images(root / "in", 2)
    every = ["--set", "points_per_side=2", "--set", "pred_iou_thresh=-9"]
    every += ["--set", "stability_score_thresh=0", "--min-predicted-iou", "-9"]
    return [str(root / "in"), "--workers", "1", *every]


def _track(root: Path) -> list[str]:
    for index in range(3):
        frame = np.full((24, 32, 3), 40 * index, np.uint8)
        path = root / "clip" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(frame).save(path)
    return [str(root / "clip"), "--point", "1:5,4"]


def _evaluate(root: Path) -> list[str]:
    draw_set(root / "shapes", images=2)
    return ["--dataset", "folder", "--root", str(root / "shapes"), "--protocol", "clicks",
            "--clicks", "2"]  # fmt: skip


def _train(root: Path) -> list[str]:
    draw_set(root / "shapes")
    (root / "run.yaml").write_text(TRAIN.replace("ROOT", str(root)))
    return [str(root / "run.yaml")]


VERBS: dict[str, Callable[[Path], list[str]]] = {
    "segment": _segment,
    "generate": _generate,
    "track": _track,
    "evaluate": _evaluate,
    "train": _train,
}
"""Verb -> a function that draws its inputs into a folder, and returns its arguments but --out."""


def command(verb: str, root: Path, out: Path, *more: str) -> list[str]:
    """Draw the inputs of a verb, and return the arguments of `nexus`."""
    root.mkdir(exist_ok=True)
    return [verb, *VERBS[verb](root), "--out", str(out), *more]


def use_tiny_models(
    verb: str, patch: pytest.MonkeyPatch, asked: Callable[[], None] = lambda: None
) -> None:
    """Let what loads models give tiny ones; `asked` is called whenever one is asked."""

    def load(*_: Any, **__: Any) -> Any:
        if verb == "track":
            return _Squares(asked)
        model = tiny_sam()
        if verb == "train":
            model = SAM(TINY, "lite_medsam", LITE_MEDSAM_POLICY)
            model.load_state_dict(tiny_sam().state_dict())
            model.policy = TINY_POLICY
        model.image_encoder.patch_embed.register_forward_pre_hook(lambda *_: asked())
        return model

    patch.setattr(nexus.models.cv, "load_model", load)
    patch.setattr(nexus.train.loop, "load_model", load)


class _Squares(SquareModel):
    """A model whose sessions say that they are opened."""

    def __init__(self, asked: Callable[[], None]) -> None:
        super().__init__()
        self.asked = asked

    def video(self, *arguments: Any, **options: Any) -> Any:
        self.asked()
        return super().video(*arguments, **options)


if __name__ == "__main__":
    from nexus.cli.main import main

    name, place = sys.argv[1], Path(sys.argv[2])

    def wait() -> None:
        """Say that the work has begun, and wait until it may go on."""
        (place / "begun").touch()
        while not (place / "go").exists():
            time.sleep(0.01)

    use_tiny_models(name, pytest.MonkeyPatch(), wait)
    sys.argv[1:] = [name, *sys.argv[3:]]
    main()
