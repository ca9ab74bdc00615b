"""Learning from clips: what they teach, what stays as it is, and what loads afterwards."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.errors import InputError
from nexus.core.weights.checkpoint import read_checkpoint
from nexus.data.truth import open_videos
from nexus.eval.metrics import iou
from nexus.models.cv.edgetam import EdgeTAM
from nexus.models.cv.sam2 import SAM2, SAM2Config
from nexus.train.config import LoraSettings
from nexus.train.loop import TrainingResult, fine_tune
from nexus.train.processes import Processes
from nexus.train.video.clip_forward import clip_logits
from nexus.train.video.clip_sampling import ClipSettings, draw_clip
from nexus.train.video.config import (
    VideoAdaptSettings,
    VideoOptimizerSettings,
    VideoTrainingSettings,
)
from nexus.train.video.loss import video_loss
from nexus.train.video.task import VideoTask
from tests.models.tiny import tiny_sam
from tests.models.tiny_sam2 import TINY_EDGETAM, TINY_SAM2, tiny_sam2
from tests.train.moving_square import draw_davis, moving_square
from tests.train.tiny_run import tiny_video_settings

CONFIGS = pytest.mark.parametrize("config", [TINY_SAM2, TINY_EDGETAM], ids=["sam2", "edgetam"])
CLICKS = ClipSettings(frames=3, first={"click": 1.0}, clicks=0, reverse=0.0, flip=0.0)
CORRECTED = ClipSettings(frames=2, clicks=1, corrected_frames=1)
FULL = VideoAdaptSettings("full")


def learn(model: SAM2, folder: Path, objects: int = 1, **values: Any) -> TrainingResult:
    """Teach a model from one drawn video, writing nothing; rates and blocks can be replaced."""
    blocks = {name: values.pop(name) for name in list(values) if name in _BLOCKS}
    rates = {"steps": 4, "learning_rate": 8e-3, "weight_decay": 0.0, "clip": 1.0, **values}
    settings = VideoTrainingSettings(
        optimizer=VideoOptimizerSettings(**rates), **{"clips": CORRECTED, **blocks}
    )
    videos = [moving_square(folder, objects=objects)]
    return fine_tune(settings, None, data=(videos, []), model=model, progress=False)


_BLOCKS = {field.name for field in dataclasses.fields(VideoTrainingSettings)}


def loss_of(model: SAM2, folder: Path) -> float:
    """Return the loss of a click on the first frame of the drawn clip."""
    sample = draw_clip([moving_square(folder)], CLICKS, 99)
    with torch.no_grad():
        shown = clip_logits(model, sample.frames, {0: sample.prompts()})
    return float(video_loss(shown, sample)["loss"])


@CONFIGS
def test_the_loss_halves_on_a_moving_square(config: SAM2Config, tmp_path: Path) -> None:
    """A few steps more than halve the loss of a clip that is tracked from one click."""
    model = tiny_sam2(config=config)
    before = loss_of(model, tmp_path)
    log = learn(model, tmp_path, clips=CLICKS, adapt=FULL, steps=9).log

    assert [row["step"] for row in log] == list(range(1, 10))
    assert loss_of(model, tmp_path) < before / 2
    assert log[-1]["loss"] < log[0]["loss"] / 2


def test_a_frozen_encoder_stays_as_it_is(tmp_path: Path) -> None:
    """By default all parts but the encoder change, memory's among them."""
    model = tiny_sam2()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learn(model, tmp_path)
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}

    assert not any(name.startswith("image_encoder.") for name in changed)
    for part in ("memory_attention.", "memory_encoder.", "sam_mask_decoder.", "obj_ptr_proj."):
        assert any(name.startswith(part) for name in changed)


@pytest.mark.parametrize("policy", ["decoder", "lora"])
def test_less_than_all_can_learn(tmp_path: Path, policy: str) -> None:
    """As for images, the decoder alone or adapters in the encoder, through memory all the same."""
    model = tiny_sam2()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    adapt = VideoAdaptSettings(policy, LoraSettings(rank=2, where="encoder"))  # type: ignore[arg-type]

    learn(model, tmp_path, adapt=adapt, steps=2)

    now = {name.replace(".base_layer", ""): p for name, p in model.named_parameters()}
    changed = {name for name, p in now.items() if not torch.equal(p, before.get(name, p * 0))}
    part = {"decoder": "sam_mask_decoder.", "lora": "image_encoder."}[policy]
    assert changed
    assert all(name.startswith(part) for name in changed)
    assert all((".lora_" in name) == (policy == "lora") for name in changed)


def test_statistics_of_batch_norms_are_kept(tmp_path: Path) -> None:
    """EdgeTAM's running means are those it came with, also where all of it learns."""
    model = tiny_sam2(config=TINY_EDGETAM)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    learn(model, tmp_path, adapt=FULL, steps=1)

    assert any("running_mean" in name for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_the_same_seed_gives_the_same_steps(tmp_path: Path) -> None:
    """Two runs are equal to the last digit, one with another seed is not."""
    one, same, other = (
        [
            {**row, "seconds": None}
            for row in learn(tiny_sam2(), tmp_path, objects=2, steps=2, seed=seed).log
        ]
        for seed in (0, 0, 1)
    )

    assert one == same
    assert one != other


def test_rates_warm_up_and_fall(tmp_path: Path) -> None:
    """Half the rate in the first of two steps of warm-up, then a cosine."""
    log = learn(tiny_sam2(), tmp_path, warmup_steps=2).log

    assert log[0]["learning_rate"] == pytest.approx(4e-3)
    rates = [row["learning_rate"] for row in log[1:]]
    assert rates == sorted(rates, reverse=True)


def test_the_log_names_what_was_learnt_from(tmp_path: Path) -> None:
    """Each clip of a step is told by its video, its first frame and what it began with."""
    row = learn(tiny_sam2(), tmp_path, steps=1, rows=2).log[0]

    clips = row["drawn"].split("; ")
    assert len(clips) == 2
    assert all(clip.startswith("square:") for clip in clips)
    assert {clip.split()[1] for clip in clips} <= {"mask", "click", "box"}
    assert set(row) > {"loss", "focal", "dice", "iou", "object_score", "gradient_norm"}


def test_bfloat16_learns_too(tmp_path: Path) -> None:
    """Its first loss is that of float32 within its precision, and weights stay float32."""
    exact = learn(tiny_sam2(), tmp_path, steps=2).log
    model = tiny_sam2()
    log = learn(model, tmp_path, steps=2, dtype="bfloat16").log

    assert log[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.05)
    assert log[0]["loss"] != exact[0]["loss"]
    assert model.no_mem_embed.dtype == torch.float32


def test_checkpointing_and_cuts_run_in_the_loop(tmp_path: Path) -> None:
    """Checkpointing changes no loss; cutting off memories changes those after the first step."""
    plain, spare, cut = (
        learn(tiny_sam2(), tmp_path, steps=2, **values).log
        for values in ({}, {"checkpointing": True}, {"gradient_frames": 0})
    )

    losses = [row["loss"] for row in plain]
    assert [row["loss"] for row in spare] == pytest.approx(losses, rel=1e-4)
    assert cut[0]["loss"] == pytest.approx(losses[0], rel=1e-6)
    assert cut[0]["gradient_norm"] != pytest.approx(plain[0]["gradient_norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("config", "cls", "variant"),
    [(TINY_SAM2, SAM2, "sam2.1_hiera_tiny"), (TINY_EDGETAM, EdgeTAM, "edgetam")],
)
def test_weights_load_like_official_ones(
    config: SAM2Config,
    cls: type[SAM2],
    variant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`from_checkpoint` reads what a run wrote: the weights that the model has."""
    model, out = tiny_sam2(config=config), tmp_path / "run"
    settings = VideoTrainingSettings(optimizer=VideoOptimizerSettings(steps=1), clips=CORRECTED)
    data = [moving_square(tmp_path / "video")], []
    fine_tune(settings, out, data=data, model=model)
    monkeypatch.setattr(cls, "variants", {variant: config})
    loaded = cls.from_checkpoint(out / "last.safetensors", variant=variant, device="cpu")

    assert all(torch.equal(loaded.state_dict()[n], t) for n, t in model.state_dict().items())
    assert set(read_checkpoint(out / "best.safetensors")) == set(model.state_dict())
    card = (out / "MODEL_CARD.md").read_text()
    assert "8 annotated frames in 1 video that the caller brought" in card


def test_figures_are_those_of_a_session(tmp_path: Path) -> None:
    """J by hand, frame after frame of a session, is what the measure says."""
    draw_davis(tmp_path / "drawn", ("a", "b"), frames=4)
    settings, model = tiny_video_settings(tmp_path), tiny_sam2()
    task = VideoTask(
        settings, model, (open_videos("davis2017", tmp_path / "drawn", split="val"),) * 2
    )
    task.prepare(Processes("cpu"))
    item = task.held_out[0]

    (found,) = task.measure(item)

    video, scores = item.labelled, []
    with model.video(list(video.frames)) as session:
        session.add(0, 1, mask=video.masks(0)[1])
        for frame in session.propagate(start=0):
            if frame.index:
                scores.append(iou(frame.mask(1), video.masks(frame.index)[1]))
    assert (found.item, found.object_id, found.measure) == ("drawn/a", 1, "j")
    assert found.value == pytest.approx(np.mean(scores))


def test_videos_are_needed() -> None:
    """Without a usable video there is nothing to learn from, and neither without any set."""
    settings = VideoTrainingSettings(optimizer=VideoOptimizerSettings(steps=1))
    with pytest.raises(InputError, match="at least two annotated frames, got none among 0"):
        fine_tune(settings, None, data=([], []), model=tiny_sam2())
    with pytest.raises(
        InputError, match=r"data\.sets of videos, or videos of your own, got neither"
    ):
        fine_tune(settings, None, model=tiny_sam2())


def test_a_model_without_memory_is_refused(tmp_path: Path) -> None:
    """SAM cannot track, and that is said before anything is learnt."""
    with pytest.raises(InputError, match="expected a model that tracks, got 'tiny"):
        fine_tune(tiny_video_settings(tmp_path), tmp_path / "out", model=tiny_sam())
