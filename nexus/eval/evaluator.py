"""What is done with one image or video of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch

from nexus.core.errors import InputError
from nexus.data.truth.labelled import LabelledImage, LabelledVideo, largest_truths
from nexus.data.truth.notes import noticed_in
from nexus.eval.detections import Detection, detection_records
from nexus.eval.efficiency import Stopwatch, peak_accelerator_bytes, peak_memory_bytes
from nexus.eval.protocols import Row, Scene, scene_rows
from nexus.eval.settings import EvaluationSettings
from nexus.eval.vos import SessionTracker, Tracker, video_rows
from nexus.models.promptable import PromptableModel
from nexus.models.tracking import TrackingModel

_Found: TypeAlias = tuple[list[Row], list[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Item:
    """One image or video to do.

    Attributes:
        set_name: Of its set.
        source: Where image and truth come from.
        image_id: Its id in the annotations, for the protocol `detections`.
        detections: Its boxes of a detector.
    """

    set_name: str
    source: LabelledImage | LabelledVideo
    image_id: int = 0
    detections: tuple[Detection, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the run: of the set, then of the image."""
        return f"{self.set_name}/{self.source.name}"


@dataclass(frozen=True)
class Evaluator:
    """A model, or for videos a tracker, with the settings of a run.

    Attributes:
        model: A promptable model; for videos one with sessions, or any `Tracker`.
        settings: Of the run.

    Raises:
        InputError: The model cannot do what the protocols ask for.
    """

    model: PromptableModel | Tracker
    settings: EvaluationSettings

    def __post_init__(self) -> None:
        model, is_video = self.model, self.settings.is_video
        fits = isinstance(model, PromptableModel)
        if is_video:
            fits = isinstance(model, TrackingModel) or (callable(model) and not fits)
        if not fits:
            raise InputError(
                f"expected a {'model for videos' if is_video else 'promptable model'} for the "
                f"protocol {', '.join(self.settings.protocols)}, got "
                f"{getattr(model, 'variant', type(model).__name__)}",
                hint="`nexus models` says which models track" if is_video else None,
            )

    @property
    def device(self) -> torch.device:
        """Where the model is; the CPU for a tracker that does not tell."""
        return torch.device(getattr(self.model, "device", "cpu"))

    def __call__(self, item: Item) -> dict[str, Any]:
        """Return the record of one item: `rows`, `detections`, `costs`; of an image also `masks`.

        Raises:
            NexusError: The image or its truth cannot be read or used.
            OSError: The same.
        """
        watch = Stopwatch(self.device)
        if isinstance(item.source, LabelledVideo):
            rows, found, costs = self._video(item.source, watch)
        else:
            rows, found, costs = self._image(item, item.source, watch)
        group = getattr(item.source, "group", None)
        whose = {"set": item.set_name, "image": item.source.name, "group": group}
        costs |= watch.seconds
        costs["peak_rss_bytes"] = peak_memory_bytes()
        costs["peak_accelerator_bytes"] = peak_accelerator_bytes(self.device)
        noticed = costs.pop("masks", None)
        record = {"rows": [{**whose, **row} for row in rows], "detections": found, "costs": costs}
        return record if noticed is None else {**record, "masks": noticed}

    def _image(self, item: Item, source: LabelledImage, watch: Stopwatch) -> _Found:
        settings, model = self.settings, cast(PromptableModel, self.model)
        image = source.load_image()
        annotated = source.load_truths()
        truths = [truth for truth in annotated if not truth.ignore]
        for truth in truths:
            if truth.mask.shape != image.shape[:2]:
                raise InputError(
                    f"expected masks of {image.shape[0]} x {image.shape[1]} pixels, as "
                    f"{source.name!r} is, got {' x '.join(map(str, truth.mask.shape))}"
                )
        chosen = largest_truths(truths, settings.max_objects, settings.min_area)
        with watch.part("encoder_s"):
            embedding = model.encode_image(image, input_side=settings.input_side, max_pixels=None)
        ignored, spacing_hw = source.ignored(), source.spacing_hw
        scene = Scene(item.name, model, embedding, chosen, ignored, spacing_hw, settings, watch)
        rows, prompts = [], 0
        for each, asked in scene_rows(scene):
            rows += each
            prompts += asked
        found = []
        if "detections" in settings.protocols:
            found = detection_records(scene, item.image_id, item.detections)
            prompts += len(found)
        costs = {"prompts": prompts, "embedding_bytes": embedding.nbytes}
        return rows, found, {**costs, "masks": noticed_in(annotated)}

    def _video(self, source: LabelledVideo, watch: Stopwatch) -> _Found:
        tracker = cast(Tracker, self.model)
        if isinstance(self.model, TrackingModel):
            tracker = SessionTracker(self.model, self.settings.input_side)
        frames = watch.timed("tracker_s", tracker(source))
        rows = video_rows(source, frames, leave_out_last=self.settings.leave_out_last)
        return [{"protocol": "vos", **row} for row in rows], [], {"frames": len(source.frames)}
