"""Learning from videos: short clips, tracked with memory as the original is trained.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714, appendix D.2). Clips come
from `clip_sampling`, the forward pass is `clip_forward`, the loss `loss`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias, cast

from nexus.core.errors import InputError
from nexus.data.truth import open_videos
from nexus.data.truth.labelled import LabelledVideo
from nexus.eval.vos import SessionTracker, video_rows
from nexus.models.cv.sam2 import SAM2
from nexus.models.pretrained import PretrainedModel
from nexus.models.tracking import TrackingModel
from nexus.train.figures import ObjectFigure
from nexus.train.plan import Plan
from nexus.train.processes import Processes
from nexus.train.sets import Given, SetItem, split_sets
from nexus.train.task import Losses, Task
from nexus.train.video.clip_forward import clip_logits, habits_of_learning
from nexus.train.video.clip_sampling import ClickTeacher, draw_clip, usable_videos
from nexus.train.video.config import VideoTrainingSettings
from nexus.train.video.loss import video_loss

SetVideo: TypeAlias = SetItem[LabelledVideo]


class VideoTask(Task):
    """Objects of videos, tracked through clips.

    `given` are videos instead of those of the settings.

    Raises:
        InputError: A model that cannot track.
    """

    noun = "videos"
    parts = ("focal", "dice", "iou", "object_score")
    measures: Mapping[str, str] = {"j": "J", "f": "F"}
    figures_are = (
        "means over objects of the means over frames, tracked from the masks of first frames"
    )

    def __init__(
        self, settings: VideoTrainingSettings, model: PretrainedModel, given: Given | None = None
    ) -> None:
        if not isinstance(model, TrackingModel):
            raise InputError(
                f"expected a model that tracks, got {model.variant!r}",
                hint="SAM 2, SAM 2.1 or EdgeTAM; task: images fine-tunes the others",
            )
        self.settings = settings
        self.model = cast(SAM2, model)
        self.given = given
        self.plan = Plan(settings.seed, settings.optimizer.rows, settings.optimizer.accumulation)

    def prepare(self, processes: Processes) -> None:
        """Open the sets; videos with one annotated frame or none are left out of the learnt."""
        learnt, self.held_out = split_sets(open_videos, self.settings.data, self.given)
        self.videos = usable_videos([item.labelled for item in learnt])
        frames = sum(len(video.annotated) for video in self.videos)
        self.counts = {"annotated frames": frames, "videos": len(self.videos)}
        # Of names, sizes of files, what is annotated, and the first label maps.
        digest = hashlib.sha256()
        for item in (*learnt, *self.held_out):
            video = item.labelled
            files = [(path.name, path.stat().st_size) for path in video.frames if path.is_file()]
            shown = (item.name, files, video.annotated, sorted(video.first_frames.items()))
            digest.update(repr(shown).encode())
            for index in video.annotated[:1]:
                digest.update(video.load_labels(index).tobytes())
        self.digest = digest.hexdigest()[:32]

    def calls(self, step: int, process: int, processes: int) -> list[tuple[int, int]]:
        """Return the clips of a step that fall to one process, each as its step and its row."""
        plan = self.plan
        of_step = plan.rows * plan.accumulation * processes
        shares = plan.numbers(step, process, processes)
        return [divmod(number, of_step) for rows in shares for number in rows]

    def losses(self, call: tuple[int, int]) -> tuple[str, Losses]:
        """Draw a clip and track it."""
        sample = draw_clip(self.videos, self.settings.clips, self.settings.seed, *call)
        prompts = sample.prompts()
        shown = clip_logits(
            self.model,
            sample.frames,
            {0: prompts},
            correct=ClickTeacher(sample, prompts),
            habits=habits_of_learning(self.model),
            gradient_frames=self.settings.gradient_frames,
            checkpointing=self.settings.checkpointing,
        )
        losses = video_loss(shown, sample, self.settings.loss)
        parts = {name: float(losses[name].detach()) for name in self.parts}
        return f"{sample.video}:{sample.indices[0]} {sample.kind}", [(losses["loss"], parts)]

    def measure(self, item: SetVideo) -> list[ObjectFigure]:
        """Track the objects of a held-out video, each from its first mask."""
        video = item.labelled
        return [
            ObjectFigure(item.set_title, item.name, row["object_id"], measure, row[measure])
            for row in video_rows(video, SessionTracker(self.model)(video))
            for measure in self.settings.evaluate.measures
            if row[measure] is not None
        ]
