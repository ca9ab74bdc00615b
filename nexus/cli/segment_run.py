"""The work of `nexus segment`: image after image, to files, to a report and to notes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.cli import options as shared
from nexus.cli.segment_results import Results, Task
from nexus.core.errors import NexusError, NexusWarning
from nexus.core.progress import Progress

if TYPE_CHECKING:
    from nexus.core.types import Masks, Prompt
    from nexus.data.prompt_files import ImagePrompt
    from nexus.models.promptable import PromptableModel

_FAILURES = (NexusError, OSError, MemoryError)
# More at a time would hold the full-size masks of hundreds of objects, three for each, at once.
_PROMPTS_AT_ONCE = 64


@dataclass
class Run:
    """One run of the verb: what it was asked for, and what it has done so far."""

    out: Path
    model_name: str
    load: Callable[[], PromptableModel]
    multimask: bool | None
    max_pixels: int | None
    with_labels: bool
    show_paths: bool
    on_terminal: bool = field(default_factory=lambda: sys.stderr.isatty())
    reports: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def segment_all(self, plan: Sequence[Task], results: Results) -> Path | None:
        """Segment every image; one that fails is reported and passed over.

        Returns:
            The COCO file, or None if nothing was done.
        """
        annotations_file = None
        done = 0
        try:
            with Progress(len(plan), label="segment", unit="images") as bar:
                for task in plan:
                    done += self._try(task, results, bar)
                    bar.advance()
        finally:  # an interrupted run keeps what it has done
            self._tell_notes()
            if done:
                annotations_file = results.finish()
                self._show([annotations_file])
        return annotations_file

    def _try(self, task: Task, results: Results, bar: Progress) -> bool:
        """Segment an image, and return whether that went well."""
        report: dict[str, Any] = {"image": task.source.label, "size_hw": None, "objects": []}
        self.reports.append({**report, "overlay_file": None, "error": None})
        try:
            image = task.source.load(self.max_pixels)
            task.prompts.check((image.shape[0], image.shape[1]))
        except _FAILURES as error:
            self._fail(task, error, bar)
            return False
        model = self.load()  # not before an image can be read: it may be large
        try:
            files = self._segment(model, task, image, results)
        except _FAILURES as error:
            self._fail(task, error, bar)
            return False
        self._show(files)
        return True

    def _segment(
        self, model: PromptableModel, task: Task, image: Any, results: Results
    ) -> list[Path]:
        """Write what is found in an image, and note it; return the files."""
        from nexus.data.images.loading import write_mask, write_picture

        size_hw = (image.shape[0], image.shape[1])
        objects = task.prompts.objects
        answers = self._answers(model, image, [each.prompt for each in objects])
        files, found, annotations = [], [], []
        for each, (best, annotation, box_xyxy, notes) in zip(objects, answers, strict=True):
            files.append(write_mask(self.out / task.mask(each.number), best))
            kept = {k: v for k, v in annotation.items() if k not in ("id", "image_id")}
            own = {"category": each.category, "model": self.model_name}
            annotations.append({**kept, **own})
            for note in notes:
                self.notes.setdefault(note, []).append(f"{task.source.title} object {each.number}")
            found.append(
                {
                    "object": each.number,
                    "category": each.category,
                    "prompt": _as_json(each.prompt),
                    "score": annotation["score"],
                    "box_xyxy": box_xyxy,
                    "area": annotation["area"],
                    "rle": annotation["segmentation"],
                    "mask_file": str(files[-1]),
                    "notes": list(notes),
                }
            )
        scores = [annotation["score"] for annotation in annotations]
        masks = [best for best, *_ in answers]
        picture = _overlay(image, masks, objects, scores if self.with_labels else None)
        files.append(write_picture(self.out / task.overlay, picture))
        results.note(task, size_hw, annotations)
        report = {"size_hw": [*size_hw], "objects": found, "overlay_file": str(files[-1])}
        self.reports[-1].update(report)
        return files

    def _answers(
        self, model: PromptableModel, image: Any, prompts: Sequence[Prompt]
    ) -> list[tuple[Any, dict[str, Any], list[float], tuple[str, ...]]]:
        """Return the best mask of each prompt, its annotation, box and notes."""
        answers: list[tuple[Any, dict[str, Any], list[float], tuple[str, ...]]] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NexusWarning)
            embedding = model.encode_image(image, max_pixels=self.max_pixels)
            for start in range(0, len(prompts), _PROMPTS_AT_ONCE):
                part = prompts[start : start + _PROMPTS_AT_ONCE]
                given = model.predict_batch(embedding, part, multimask_output=self.multimask)
                answers += map(_best, given)
        noted = {note for *_, notes in answers for note in notes}
        for warning in caught:  # what is a note of the results is told with them
            if str(warning.message) not in noted:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        return answers

    def _tell_notes(self) -> None:
        for note, places in self.notes.items():
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            shared.note(f"note: {', '.join(places[:3])}{more}: {note}")

    def _show(self, files: Sequence[Path]) -> None:
        """Print paths at once; the progress line, if there is one, makes room and comes back."""
        if self.on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        for file in files if self.show_paths else ():
            print(file, flush=True)

    def _fail(self, task: Task, error: Exception, bar: Progress) -> None:
        """Say that an image failed, and note it."""
        told = error if isinstance(error, NexusError) else NexusError(str(error) or "out of memory")
        self.reports[-1]["error"] = {"message": told.message, "hint": told.hint}
        bar.say(f"error: {task.source.title}: {told}")


def _best(masks: Masks) -> tuple[Any, dict[str, Any], list[float], tuple[str, ...]]:
    annotation = masks.to_coco()[masks.best_index]
    box_xyxy = masks.boxes_xyxy[masks.best_index].tolist()
    return masks.best.copy(), annotation, box_xyxy, masks.notes


def _as_json(prompt: Prompt) -> dict[str, Any]:
    parts = {"points": prompt.points, "labels": prompt.labels, "box": prompt.box}
    return {key: part.tolist() for key, part in parts.items() if part is not None}


def _overlay(
    image: Any, masks: Sequence[Any], objects: Sequence[ImagePrompt], scores: Sequence[float] | None
) -> Any:
    """Draw masks and prompts, and with scores what the objects are called."""
    import numpy as np

    from nexus.data.prompt_files import DEFAULT_CATEGORY
    from nexus.ops.captions import Caption
    from nexus.ops.draw import overlay

    # A box has the colour of the mask in its place, so those with boxes come first.
    order = sorted(range(len(masks)), key=lambda place: objects[place].prompt.box is None)
    prompts = [objects[place].prompt for place in order]
    clicked = [prompt for prompt in prompts if prompt.points is not None]
    captions = None
    if scores is not None:
        captions = [
            Caption(
                objects[place].number,
                objects[place].category if objects[place].category != DEFAULT_CATEGORY else None,
                scores[place],
            )
            for place in order
        ]
    return overlay(
        image,
        np.stack([masks[place] for place in order]),
        boxes_xyxy=[prompt.box for prompt in prompts if prompt.box is not None],
        points_xy=np.concatenate([prompt.points for prompt in clicked]) if clicked else None,
        labels=np.concatenate([prompt.labels for prompt in clicked]) if clicked else None,
        captions=captions,
    )
