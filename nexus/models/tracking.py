"""What a model that tracks offers callers: sessions, streams, and one frame after the other.

The work is that of `nexus.predict.video`, a room above; it is imported when it is asked for, and
here alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from nexus.core.types import ImageEmbedding, Masks, Prompt, PromptLike
from nexus.core.types.masks import FrameMasks, PromptedMasks
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, ImageLike
from nexus.data.video.opening import VideoLike
from nexus.models.memory import Seed, TrackMemory
from nexus.models.tracking_step import MemoryModel

if TYPE_CHECKING:
    from nexus.predict.video import VideoSession


class TrackingModel(MemoryModel):
    """A promptable model that also tracks objects through videos, and still remembers nothing."""

    def video(
        self,
        source: VideoLike,
        *,
        input_side: int | None = None,
        rate: float | None = None,
        max_pixels: int | None = DEFAULT_MAX_PIXELS,
        state_device: str | torch.device | None = None,
        frame_count: int | None = None,
        history_bytes: int | None = None,
        folder: str | os.PathLike[str] | None = None,
        cached_frames: int = 4,
    ) -> VideoSession:
        """Open a session, which remembers what is tracked in a video.

        Args:
            source: A video file, a folder of frames, a stack, a list or an iterator of frames.
            input_side: Side of the model frame; None takes the model's.
            rate: Frames per second of sources without times of their own; None is 25.
            max_pixels: Largest height x width of a frame; None for no limit.
            state_device: Where memories lie; None takes the model's device.
            frame_count: Number of frames of an iterator that does not tell, if it is known. In
                clips shorter than 16 frames the ages of object pointers are scaled by it, as in
                the original.
            history_bytes: Most bytes on disk for each object, for tracking again from any frame;
                None is 2 GiB, some 8,000 frames at the trained input side.
            folder: Where the files of the session lie; None takes that for temporary files.
            cached_frames: Encoded frames that are kept, 30 MB each at the trained input side.

        Raises:
            VideoError: Not a video, or without frames.
            InputError: An input side, rate or device that cannot be.
        """
        return _room().open_session(
            self,
            source,
            rate=rate,
            max_pixels=max_pixels,
            input_side=input_side,
            state_device=state_device,
            frame_count=frame_count,
            history_bytes=history_bytes,
            folder=folder,
            cached_frames=cached_frames,
        )

    def load_session(
        self, path: str | os.PathLike[str], source: VideoLike, **options: Any
    ) -> VideoSession:
        """Go on with a session that `VideoSession.save` wrote, on the video it was saved with.

        Options are those of `video`.

        Raises:
            FileNotFoundError: There is no such file.
            InputError: No session, or one of another model, input side or source.
            CheckpointError: The file is damaged.
        """
        session = self.video(source, **options)
        try:
            session.load(path)
        except BaseException:
            session.close()
            raise
        return session

    def stream(
        self,
        frames: VideoLike,
        prompt: PromptLike | Mapping[int, PromptLike],
        *,
        input_side: int | None = None,
        frame_count: int | None = None,
    ) -> Iterator[FrameMasks]:
        """Track what a prompt points at on the first frame, frame by frame as they come.

        Frames are an iterator such as a camera, or any other video. The prompt is for frame 0, in
        original pixels, for one object with the id 1; or prompts by id. Other arguments are those
        of `video`.

        Raises:
            PromptError: A prompt is malformed or does not fit the first frame.
            VideoError: There is no frame; or, later, one cannot be had.
        """
        return _room().stream(self, frames, prompt, input_side=input_side, frame_count=frame_count)

    def track(
        self,
        image: ImageLike,
        prev_mask: Any = None,
        memory: TrackMemory | None = None,
        *,
        input_side: int | None = None,
        frame_count: int | None = None,
    ) -> FrameMasks:
        """Track objects from the frame before into the next one; nothing is kept but the result.

        Args:
            image: The next frame.
            prev_mask: What `predict` or `track` gave for the frame before. A bool mask (H, W) or
                masks (K, H, W) remember nothing: they are redrawn on this frame, which becomes
                the first.
            memory: `memory` of the result to go on from; None or an empty one means that of
                `prev_mask`.
            input_side: As in `video`; the same for all frames.
            frame_count: As in `video`.

        Returns:
            The objects on this frame, with `memory` for the next.

        Raises:
            InputError: Nothing to go on from.
            EmbeddingError: The memory is another model's.
            VideoError: A frame of another size than those before.
        """
        return _room().track(
            self, image, prev_mask, memory, input_side=input_side, frame_count=frame_count
        )

    @property
    def memory(self) -> TrackMemory:
        """A new, empty memory: `track` then goes on from what `prev_mask` carries."""
        return TrackMemory()

    def predict(
        self,
        image: ImageLike | None = None,
        prompt: PromptLike | None = None,
        *,
        image_embedding: ImageEmbedding | None = None,
        multimask_output: bool | None = None,
    ) -> Masks:
        """Segment the object a prompt points at; arguments and errors as in `SAM.predict`.

        Returns:
            Masks that also carry a memory, so that `track` can go on from them.
        """
        masks = super().predict(
            image, prompt, image_embedding=image_embedding, multimask_output=multimask_output
        )
        # A copy of pixels, as a camera may write its next frame into the same memory.
        copied: Any = getattr(image, "copy", None) or getattr(image, "clone", lambda: image)
        seed = Seed(copied() if image_embedding is None else image_embedding, Prompt.of(prompt))
        values = {field.name: getattr(masks, field.name) for field in fields(Masks)}
        return PromptedMasks(**values, memory=TrackMemory(seed=seed))


def _room() -> ModuleType:
    """Return the room above that does the work."""
    from nexus.predict import video

    return video
