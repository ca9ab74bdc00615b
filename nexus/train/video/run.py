"""A fine-tuning run on videos: what its YAML asks for, and the figures before and after it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nexus.core.errors import InputError
from nexus.data.truth import open_videos
from nexus.data.truth.labelled import LabelledVideo
from nexus.eval.vos import SessionTracker, video_rows
from nexus.models.cv import SAM2, load_model
from nexus.train.config import Checked, ModelSettings, SetSettings, check_titles, ranged
from nexus.train.logs import CURVE, STEPS
from nexus.train.video.loop import WEIGHTS, VideoStep, VideoTrainingSettings, fine_tune_video


@dataclass(frozen=True)
class VideoDataSettings(Checked):
    """The videos.

    Attributes:
        sets: The datasets; `reader` must be one of videos.
        root: Folder that theirs are below; relative to where the command runs.
        held_out: Of n videos of a set, the last floor(n * held_out) by name are held out.
    """

    sets: tuple[SetSettings, ...]
    root: str = "."
    held_out: float = ranged(0.25, 0, 0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_titles(self.sets)


@dataclass(frozen=True)
class VideoRunSettings(Checked):
    """A whole run: the YAML with `task: video`."""

    data: VideoDataSettings
    model: ModelSettings = field(default_factory=lambda: ModelSettings(name="sam2.1_hiera_tiny"))
    training: VideoTrainingSettings = field(default_factory=VideoTrainingSettings)


@dataclass(frozen=True)
class VideoTrainingResult:
    """What came of a run.

    Attributes:
        steps: All steps.
        before: Mean J and mean F of the held-out objects with the model as it came; None where
            nothing was held out.
        after: The same with what it learnt.
        files: What was written.
    """

    steps: list[VideoStep]
    before: tuple[float, float] | None
    after: tuple[float, float] | None
    files: list[Path]


def run_on_videos(
    settings: VideoRunSettings,
    out: str | Path,
    *,
    resume: bool = False,
    model: SAM2 | None = None,
) -> VideoTrainingResult:
    """Fine-tune SAM 2 or EdgeTAM on videos, and track held-out ones before and after.

    Args:
        settings: The run.
        out: Its folder.
        resume: Go on from the state in the folder, if there is one.
        model: Fine-tune this one, in place, instead of what the settings name.

    Raises:
        InputError: A model without a memory, no usable video, or a folder that holds another run.
    """
    learnt, held_out = split_videos(settings.data)
    if model is None:
        asked = settings.model
        loaded = load_model(
            asked.name, asked.checkpoint, device=asked.device, input_side=asked.input_side
        )
        if not isinstance(loaded, SAM2):
            raise InputError(
                f"expected a model that tracks, got {asked.name!r}",
                hint="SAM 2, SAM 2.1 or EdgeTAM; task: images fine-tunes the others",
            )
        model = loaded
    before = mean_j_and_f(model, held_out)
    steps = fine_tune_video(model, learnt, settings.training, out, resume=resume, progress=True)
    after = mean_j_and_f(model, held_out)
    written = (Path(out) / name for name in (WEIGHTS, STEPS, CURVE))
    return VideoTrainingResult(steps, before, after, [path for path in written if path.is_file()])


def split_videos(settings: VideoDataSettings) -> tuple[list[LabelledVideo], list[LabelledVideo]]:
    """Open the sets and return the videos to learn from and those held out, by name.

    Raises:
        InputError: An unknown reader, a folder of another layout, or a set without videos.
    """
    learnt: list[LabelledVideo] = []
    held_out: list[LabelledVideo] = []
    for one in settings.sets:
        videos = _open(one, settings.root, one.split)
        if one.held_out_split is not None:
            learnt += videos
            held_out += _open(one, settings.root, one.held_out_split)
            continue
        kept = len(videos) - math.floor(len(videos) * settings.held_out)
        learnt += videos[:kept]
        held_out += videos[kept:]
    return learnt, held_out


def mean_j_and_f(model: SAM2, videos: Sequence[LabelledVideo]) -> tuple[float, float] | None:
    """Track every object from its first mask; return mean J and F over objects, None for none."""
    tracker = SessionTracker(model)
    rows = [row for video in videos for row in video_rows(video, tracker(video))]
    counted = [row for row in rows if row["j"] is not None]
    if not counted:
        return None
    return float(np.mean([r["j"] for r in counted])), float(np.mean([r["f"] for r in counted]))


def _open(one: SetSettings, root: str, split: str | None) -> list[LabelledVideo]:
    folder = Path(root) / one.folder
    videos = sorted(open_videos(one.reader, folder, split=split), key=lambda video: video.name)
    if not videos:
        raise InputError(f"expected videos in the set {one.title!r}, got none in {str(folder)!r}")
    return videos
