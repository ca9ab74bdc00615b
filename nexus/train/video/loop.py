"""Fine-tune SAM 2 and EdgeTAM on videos: short clips, with memory, as the originals are trained.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714, appendix D.2). Clips come
from `clip_sampling`, the forward pass is `clip_forward`, the loss `loss`.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from nexus.core.errors import CheckpointError, InputError, NexusError
from nexus.core.files import claimed, replacing
from nexus.core.progress import Progress
from nexus.core.weights.checkpoint import load_strict
from nexus.data.truth.labelled import LabelledVideo
from nexus.models.cv.sam2 import SAM2
from nexus.train.config import Checked, OptimizerSettings, ranged
from nexus.train.logs import STEPS, draw_curve
from nexus.train.schedule import decayed_groups, learning_rate
from nexus.train.video.clip_forward import clip_logits
from nexus.train.video.clip_sampling import (
    ClickTeacher,
    ClipSample,
    ClipSettings,
    draw_clip,
    usable_videos,
)
from nexus.train.video.loss import VideoLossSettings, video_loss
from nexus.train.weights import save_checkpoint

WEIGHTS, STATE = "model.safetensors", "last.pt"
"""Files of a run: what it taught, and what it goes on from if it is taken up again."""


@dataclass(frozen=True)
class VideoTrainingSettings(Checked):
    """How a model learns from videos.

    Rates, decay and clipping of the gradient are by default those of the original's fine-tuning.

    Attributes:
        clips: How clips are drawn.
        loss: Weights of the loss.
        steps: How many.
        clips_per_step: Clips whose gradients are averaged in a step.
        learning_rate: The highest; it falls as a cosine.
        warmup_steps: It rises over so many.
        final_share: It ends at this share of the highest.
        weight_decay: Of matrices; biases and norms have none.
        clip_norm: Largest norm of the gradient; None does not clip.
        train_encoder: The image encoder learns too; else it is run without gradients.
        encoder_share: Its learning rate, as a share of the others'.
        gradient_frames: As in `nexus.train.clips.clip_logits`.
        checkpointing: As in `nexus.train.clips.clip_logits`.
        dtype: Number format of the arithmetic; weights stay as they are.
        seed: Clips and prompts follow from it.
        checkpoint_every: Steps between states that a killed run can go on from.
    """

    clips: ClipSettings = dataclasses.field(default_factory=ClipSettings)
    loss: VideoLossSettings = dataclasses.field(default_factory=VideoLossSettings)
    steps: int = ranged(1000, 1)
    clips_per_step: int = ranged(1, 1)
    learning_rate: float = ranged(5e-6, 0, 1)
    warmup_steps: int = ranged(0, 0)
    final_share: float = ranged(0.1, 0, 1)
    weight_decay: float = ranged(0.1, 0, 1)
    clip_norm: float | None = ranged(0.1, 1e-6)
    train_encoder: bool = False
    encoder_share: float = ranged(0.6, 0, 1)
    gradient_frames: int | None = ranged(None, 0)
    checkpointing: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = ranged(0, 0)
    checkpoint_every: int = ranged(100, 1)


@dataclass(frozen=True)
class VideoStep:
    """What a step of training was like.

    Attributes:
        step: Its number, from 1.
        loss: The weighted sum of the four that follow.
        focal: Of the best candidates.
        dice: Of the best candidates.
        iou: Absolute error of the predicted IoUs.
        object_score: Cross entropy of the object scores.
        learning_rate: Of this step.
        gradient_norm: Before it was clipped.
        clips: What was learnt from: video and first frame, and the kind of prompt.
    """

    step: int
    loss: float
    focal: float
    dice: float
    iou: float
    object_score: float
    learning_rate: float
    gradient_norm: float
    clips: str


def fine_tune_video(
    model: SAM2,
    clips: Sequence[LabelledVideo],
    settings: VideoTrainingSettings | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    on_step: Callable[[VideoStep], None] | None = None,
    progress: bool = False,
) -> list[VideoStep]:
    """Teach a model from labelled videos; it is changed in place.

    The same settings, videos and weights give the same steps. Batch norms keep their statistics.

    Args:
        model: The model, on the device it is to learn on.
        clips: The videos; those with one annotated frame or none are left out.
        settings: How; None for the defaults.
        out: Folder for the weights (`model.safetensors`, official keys, read by
            `SAM2.from_checkpoint`), the state, `steps.csv` and the learning curve; None writes
            nothing.
        resume: Go on from the state in `out`, if there is one.
        on_step: Called after each step.
        progress: Show how far it is on stderr.

    Returns:
        All steps, those of an earlier run that was taken up included.

    Raises:
        InputError: No usable video; or a state in `out` that is not to be taken up, or that is of
            a run with other settings.
        CheckpointError: The state is damaged or another model's.
        NexusError: The loss is not finite any more, or another run is writing into `out`.
    """
    settings = settings or VideoTrainingSettings()
    videos = usable_videos(clips)
    folder = None if out is None else Path(out)
    with nullcontext() if folder is None else claimed(folder):
        with _learning(model, settings) as parameters, ExitStack() as stack:
            optimizer = _optimizer(parameters, settings)
            log = _taken_up(model, optimizer, settings, folder, resume)
            bar = None
            if progress:
                bar = stack.enter_context(
                    Progress(settings.steps, label="train", unit="steps", done=len(log))
                )
            for step in range(len(log), settings.steps):
                log.append(_step(model, optimizer, parameters, videos, settings, step))
                last = step + 1 == settings.steps
                if folder is not None and (last or (step + 1) % settings.checkpoint_every == 0):
                    _write_state(model, optimizer, settings, log, folder)
                if bar is not None:
                    bar.advance()
                if on_step is not None:
                    on_step(log[-1])
        if folder is not None:
            save_checkpoint(model, folder / WEIGHTS, {"format": "pt", "variant": model.variant})
            draw_curve(folder)
    return log


@contextmanager
def _learning(
    model: SAM2, settings: VideoTrainingSettings
) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Let the weights learn, by name, and the model behave as in training; undone afterwards."""
    config, training = model.config, model.training
    learnt = {name: p.requires_grad for name, p in model.named_parameters()}
    frozen = set() if settings.train_encoder else set(model.image_encoder.parameters())
    try:
        # A hard mask in memory has no gradient, and no other candidate may stand in for the one
        # that is taught.
        model.config = dataclasses.replace(
            config, stability=None, binarize_clicks=False, fill_hole_area=0
        )
        model.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(parameter not in frozen)
        yield {name: p for name, p in model.named_parameters() if p.requires_grad}
    finally:
        model.config = config
        model.train(training)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(learnt[name])
            parameter.grad = None


def _step(
    model: SAM2,
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, torch.nn.Parameter],
    videos: Sequence[LabelledVideo],
    settings: VideoTrainingSettings,
    step: int,
) -> VideoStep:
    """Learn from the clips of one step, numbered from 0."""
    rate = _rate(settings, step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, float] = {}
    told = []
    for row in range(settings.clips_per_step):
        sample = draw_clip(videos, settings.clips, settings.seed, step, row)
        losses = _clip_losses(model, sample, settings)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / settings.clips_per_step
        told.append(f"{sample.video}:{sample.indices[0]} {sample.kind}")
        (losses["loss"] / settings.clips_per_step).backward()  # type: ignore[no-untyped-call]
    limit = float("inf") if settings.clip_norm is None else settings.clip_norm
    norm = float(torch.nn.utils.clip_grad_norm_(list(parameters.values()), limit))
    if not norm < float("inf"):
        raise NexusError(
            f"expected finite losses, got {sums['loss']:g} with a gradient of norm {norm:g} at "
            f"step {step + 1}, from {'; '.join(told)}",
            hint="lower learning_rate, or train in float32",
        )
    optimizer.step()
    return VideoStep(
        step=step + 1,
        learning_rate=rate,
        gradient_norm=norm,
        clips="; ".join(told),
        **sums,
    )


def _clip_losses(
    model: SAM2, sample: ClipSample, settings: VideoTrainingSettings
) -> dict[str, Tensor]:
    prompts = sample.prompts()
    half = settings.dtype == "bfloat16"
    with torch.autocast(model.device.type, torch.bfloat16, enabled=half):
        shown = clip_logits(
            model,
            sample.frames,
            {0: prompts},
            correct=ClickTeacher(sample, prompts),
            gradient_frames=settings.gradient_frames,
            checkpointing=settings.checkpointing,
        )
    return video_loss(shown, sample, settings.loss)


def _optimizer(
    parameters: Mapping[str, torch.nn.Parameter], settings: VideoTrainingSettings
) -> torch.optim.Optimizer:
    groups = []
    for of_encoder, share in ((True, settings.encoder_share), (False, 1.0)):
        mine = [
            (n, p) for n, p in parameters.items() if n.startswith("image_encoder.") == of_encoder
        ]
        decayed = decayed_groups(mine, settings.weight_decay)
        groups += [{**group, "share": share} for group in decayed]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _rate(settings: VideoTrainingSettings, step: int) -> float:
    schedule = OptimizerSettings(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        final_share=settings.final_share,
    )
    return learning_rate(schedule, step, step / settings.steps)


def _write_state(
    model: SAM2,
    optimizer: torch.optim.Optimizer,
    settings: VideoTrainingSettings,
    log: Sequence[VideoStep],
    folder: Path,
) -> None:
    """Write all a run goes on from as one file, and the log for people beside it."""
    rows = [dataclasses.asdict(one) for one in log]
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "settings": _told(settings),
        "log": rows,
    }
    with replacing(folder / STATE) as temporary:
        torch.save(state, temporary)
    with replacing(folder / STEPS) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _taken_up(
    model: SAM2,
    optimizer: torch.optim.Optimizer,
    settings: VideoTrainingSettings,
    folder: Path | None,
    resume: bool,
) -> list[VideoStep]:
    """Fill model and optimizer from the state in a folder; return the steps done so far."""
    path = None if folder is None else folder / STATE
    if path is None or not path.is_file():
        return []
    if not resume:
        raise InputError(
            f"expected a folder without an earlier run, got {path}",
            hint="resume=True goes on with it; or choose another folder",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        told, log = json.loads(state["settings"]), [VideoStep(**row) for row in state["log"]]
        weights, moments = state["model"], state["optimizer"]
    # What torch answers a file that is cut off or of another kind with.
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        pickle.UnpicklingError,
    ) as error:
        raise CheckpointError(
            f"expected the whole state of a run, got a damaged file: {path}",
            hint="begin anew in another folder",
        ) from error
    mine = json.loads(_told(settings))
    changed = [name for name in mine if mine[name] != told.get(name)]
    if changed:
        raise InputError(
            f"expected the settings that {path} was made with, got another "
            + ", ".join(f"{name} ({told.get(name)} then, {mine[name]} now)" for name in changed),
            hint="take up a run as it was, or begin anew in another folder",
        )
    load_strict(model, weights, what=model.variant, source=str(path))
    optimizer.load_state_dict(moments)
    return log


def _told(settings: VideoTrainingSettings) -> str:
    return json.dumps(dataclasses.asdict(settings), sort_keys=True)
