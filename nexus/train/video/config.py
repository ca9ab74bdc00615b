"""What a run on videos is asked to do: `task: video`; blocks that images have too are theirs.

Rates, decay and clipping of the gradient are by default those of the original's fine-tuning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nexus.train.config import (
    AdaptSettings,
    MeasuringSettings,
    ModelSettings,
    OptimizerSettings,
    Policy,
    RunSettings,
    SetsSettings,
    ranged,
)
from nexus.train.video.clip_sampling import ClipSettings
from nexus.train.video.loss import VideoLossSettings

VideoMeasure = Literal["j", "f"]


@dataclass(frozen=True)
class VideoModelSettings(ModelSettings):
    """What is fine-tuned: a model that tracks."""

    name: str = "sam2.1_hiera_tiny"


@dataclass(frozen=True)
class VideoAdaptSettings(AdaptSettings):
    """Which weights learn: by default all, memory's among them, but those of the image encoder."""

    policy: Policy = "all_but_encoder"


@dataclass(frozen=True)
class VideoOptimizerSettings(OptimizerSettings):
    """How the weights learn; `rows` are clips, whose gradients are averaged."""

    learning_rate: float = ranged(5e-6, 0, 1)
    encoder_share: float = ranged(0.6, 0, 1)
    warmup_steps: int = ranged(0, 0)
    final_share: float = ranged(0.1, 0, 1)
    weight_decay: float = ranged(0.1, 0, 1)
    clip: float | None = ranged(0.1, 1e-6)
    rows: int = ranged(1, 1)
    ema: float | None = ranged(None, 0, 0.99999)


@dataclass(frozen=True)
class VideoEvaluateSettings(MeasuringSettings):
    """What is measured of held-out objects, tracked from the masks of their first frames.

    Attributes:
        measures: 'j' (IoU of the masks) and 'f' (of their boundaries), means over frames.
    """

    measures: tuple[VideoMeasure, ...] = ("j", "f")
    every: int = ranged(0, 0)
    choose: tuple[VideoMeasure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VideoTrainingSettings(RunSettings):
    """A whole run on videos.

    Attributes:
        gradient_frames: As in `nexus.train.video.clip_forward.clip_logits`.
        checkpointing: As there.
    """

    # A file must name sets; a caller may bring videos.
    data: SetsSettings | None = field(default=None, metadata={"required": True})
    optimizer: VideoOptimizerSettings
    model: VideoModelSettings = VideoModelSettings()
    adapt: VideoAdaptSettings = VideoAdaptSettings()
    evaluate: VideoEvaluateSettings = VideoEvaluateSettings()
    clips: ClipSettings = field(default_factory=ClipSettings)
    loss: VideoLossSettings = field(default_factory=VideoLossSettings)
    gradient_frames: int | None = ranged(None, 0)
    checkpointing: bool = False
