"""A video session: prompts at any time on any frame, masks of all objects frame by frame.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714) and the habits of the
official video predictor: a prompt on a frame that was not tracked yet makes it a conditioning
frame, which every other frame looks back at; on a tracked frame it is a correction. A session uses
as much RAM after an hour of video as after a minute.
"""

from __future__ import annotations

import dataclasses
import operator
import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import ArrayLike, NDArray

from nexus.core.device import resolve_device
from nexus.core.errors import InputError, NexusWarning
from nexus.core.types import Prompt, PromptLike
from nexus.core.types.masks import FrameMasks
from nexus.data.images.loading import DEFAULT_MAX_PIXELS
from nexus.data.video.opening import VideoLike, open_video
from nexus.data.video.source import FrameIndexError, VideoSource
from nexus.models.memory import FrameFeatures, ObjectOutputs
from nexus.models.policy import check_input_side
from nexus.models.tracking_step import MemoryModel, answer, check_prompt, condition, remember, show
from nexus.predict.video.frame_by_frame import FIRST_ID
from nexus.predict.video.memory_bank import ObjectTrack, Seen
from nexus.predict.video.session_file import identity_of, load_tracks, save_tracks


@dataclass(frozen=True)
class SessionSettings:
    """What a session may be told beside its model and source.

    The attributes are what `SAM2.video` calls so.
    """

    input_side: int | None = None
    state_device: str | torch.device | None = None
    frame_count: int | None = None
    cached_frames: int = 4
    history_bytes: int = 2 << 30
    folder: str | os.PathLike[str] | None = None


class VideoSession:
    """Objects tracked through a video; made by `SAM2.video`.

    Attributes:
        model: The model, which remembers nothing itself.
        source: The video.
        settings: What the session was told.
    """

    def __init__(
        self, model: MemoryModel, source: VideoSource, settings: SessionSettings | None = None
    ) -> None:
        self.model = model
        self.source = source
        self.settings = settings or SessionSettings()
        count = source.frame_count
        self._span = model.config.pointer_span(
            self.settings.frame_count if count is None else count
        )
        self._tracks: dict[int, ObjectTrack] = {}
        self._frames: OrderedDict[int, FrameFeatures] = OrderedDict()
        self._newest = -1  # the last frame of the source that was read
        self._round = 0

    @property
    def object_ids(self) -> tuple[int, ...]:
        """The caller's ids, in the order the objects were first prompted."""
        return tuple(self._tracks)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the frames, pixels."""
        return self.source.size_hw

    def add(
        self,
        frame_index: int,
        object_id: int,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | torch.Tensor | None = None,
        *,
        prompt: PromptLike | None = None,
    ) -> FrameMasks:
        """Point at an object on a frame, for the first time or to correct it.

        A new prompt on a frame takes the place of the object's earlier one there, of whatever
        kind; points and boxes start from the mask that is there. Other frames show the change
        when they are propagated over again.

        Args:
            frame_index: The frame.
            object_id: Any whole number; a new one starts a new object.
            points: (N, 2) XY in original pixels.
            labels: (N,) 1 foreground, 0 background; None for all foreground.
            box: (4,) x0, y0, x1, y1 in original pixels.
            mask: A bool (H, W) mask, alone, is taken as it is, and an empty one says that the
                object is not in the frame; float logits of an earlier result are a rough mask.
            prompt: All of this in any spelling of a prompt, instead.

        Returns:
            The masks of all objects on that frame.

        Raises:
            PromptError: The prompt is malformed or does not fit the frame.
            VideoError: There is no such frame, or it cannot be read.
            InputError: An id that is no whole number. The session is unchanged after any error.
        """
        parts = (points, labels, box, mask)
        if prompt is not None and any(part is not None for part in parts):
            raise InputError("expected prompt= or its parts, got both")
        asked = Prompt(*parts) if prompt is None else Prompt.of(prompt)
        object_id = _whole(object_id, "object_id")
        t = self.source.checked(frame_index)
        check_prompt(asked, self.size_hw)
        track = self._tracks.get(object_id) or self.new_track()
        known = track.get(t)
        # A prompt on a frame the object was tracked on is a correction: it is answered from what
        # is looked back at, and later frames see it as one recent frame among others. Anywhere
        # else, also where a conditioning frame is prompted anew, nothing is looked back at, and
        # from then on every frame of the video looks at it.
        corrects = known is not None and t not in track.conditioning
        reverse = known is not None and corrects and known.reverse
        with torch.no_grad():
            frame = self._features(t)
            features = self.model.without_memory(frame)
            if corrects:
                features = self._conditioned(t, [track], reverse)
            there = None if known is None else known.low_res_logits
            previous = None if there is None else there.unsqueeze(0)
            outputs = answer(self.model, frame, features, [asked], previous)
            (seen,) = self._remembered(frame, outputs, prompted=True, reverse=reverse)
        track.release_held()
        track.put(t, seen, "corrected" if corrects else "conditioning")
        self._tracks[object_id] = track
        # The others are kept as they are on a corrected frame, which the original does too.
        for other in self._tracks.values() if corrects else ():
            seen_there = None if other.is_settled(t) else other.get(t)
            if seen_there is not None and seen_there.low_res_logits is not None:
                other.put(t, seen_there, "held")
        return self._shown(t, frame)

    def propagate(
        self, start: int | None = None, stop: int | None = None, reverse: bool = False
    ) -> Iterator[FrameMasks]:
        """Track all objects through the video, a frame each time the next one is asked for.

        Prompts may be added and objects removed in between; the next frame heeds them. Frames a
        caller corrected keep their masks.

        Args:
            start: First frame; None takes the first conditioning frame, in reverse the last. A
                source that only goes forward goes on where it is.
            stop: Frame to stop before; None goes to the end, in reverse to frame 0.
            reverse: Go back in time.

        Raises:
            InputError: There is no object; or stop lies on the wrong side of start; or the
                source cannot go back.
            VideoError: There is no frame `start`; or, later, a frame cannot be read.
        """
        if not self._tracks:
            raise InputError(
                "expected at least one object to track, got none",
                hint="session.add(frame_index=0, object_id=1, points=[[x, y]]) comes first",
            )
        if reverse and not self.source.seekable:
            raise InputError(
                f"expected a source that can go back, got {self.source.name}",
                hint="collect its frames in a list, or write them to a file",
            )
        if start is None:
            frames = [t for track in self._tracks.values() for t in track.conditioning]
            first = max(frames) if reverse else min(frames)
            if not self.source.seekable and first not in self._frames:
                first = max(first, self._newest)
        else:
            first = self.source.checked(start)
        last = None if stop is None else _whole(stop, "stop")
        if last is not None and (last > first if reverse else last < first):
            side = "at most" if reverse else "at least"
            raise InputError(
                f"expected stop to be {side} start, which is {first}, got {stop}",
                hint="leave stop out to go to the end; reverse=True goes back in time",
            )
        return self._run(first, last, reverse)

    def remove(self, object_id: int) -> None:
        """Forget an object; it is not on frames that come after.

        Raises:
            InputError: There is no such object.
        """
        if object_id not in self._tracks:
            raise InputError(f"expected one of the ids {list(self._tracks)}, got {object_id!r}")
        self._tracks.pop(object_id).forget()

    def reset(self) -> None:
        """Forget all objects; a propagation that is under way ends."""
        for track in self._tracks.values():
            track.forget()
        self._tracks.clear()
        self._round += 1

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write objects, prompts and what is remembered of all frames to one safetensors file.

        Load it with `SAM2.load_session`.

        Raises:
            InputError: The source cannot be read again, so that nothing could go on from the file.
            OSError: The file cannot be written.
        """
        save_tracks(path, self._identity(), self._tracks)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over what an earlier session saved; see `SAM2.load_session`."""
        tracks = load_tracks(path, self._identity(), self.new_track)
        self.reset()
        self._tracks.update(tracks)

    def object_pointer(self, object_id: int, frame_index: int) -> NDArray[Any]:
        """Return the (C,) pointer of an object on a frame it was prompted or tracked on.

        Raises:
            InputError: Nothing is known of that object there.
        """
        track = self._tracks.get(object_id)
        seen = None if track is None else track.get(frame_index, with_mask=False)
        if seen is None:
            raise InputError(
                f"expected a frame that object {object_id!r} was prompted or tracked on, "
                f"got {frame_index!r}"
            )
        pointer: NDArray[Any] = seen.pointer.float().cpu().numpy()
        return pointer

    def tracks(self) -> Mapping[int, ObjectTrack]:
        """Return what is remembered, by id."""
        return self._tracks

    def close(self) -> None:
        """Forget everything and close the source."""
        self.reset()
        self._frames.clear()
        self.source.close()

    def __enter__(self) -> VideoSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VideoSession({self.model.variant}, {self.source!r}, objects {self.object_ids})"

    def new_track(self) -> ObjectTrack:
        """Return the empty track of an object that this session could have."""
        config, device = self.model.config, self.settings.state_device
        return ObjectTrack(
            config.max_memories + 1,
            max(config.max_pointers, config.max_memories) + 1,
            self.model.device if device is None else resolve_device(device),
            next(self.model.parameters()).dtype,
            self.settings.history_bytes if self.source.seekable else 0,
            self.settings.folder,
        )

    def _identity(self) -> dict[str, Any]:
        return identity_of(self.model, self.source, self.settings.input_side)

    def _run(self, first: int, stop: int | None, reverse: bool) -> Iterator[FrameMasks]:
        t, step, this_round = first, -1 if reverse else 1, self._round
        notes: tuple[str, ...] = ()
        behind = [first - step * age for age in range(1, self.model.config.max_memories)]
        lost = [k for k, track in self._tracks.items() if any(track.lost(u) for u in behind)]
        if lost:
            note = (
                f"frames before {first} of objects {lost} are no longer remembered, and tracking "
                "goes on without them; a session with more than history_bytes="
                f"{self.settings.history_bytes} remembers more"
            )
            warnings.warn(note, NexusWarning, stacklevel=2)
            notes = (note,)
        while t != stop and self._tracks and self._round == this_round:
            if t not in self._frames and not self.source.has(t):
                return
            with torch.no_grad():
                try:
                    frame = self._features(t)
                except FrameIndexError:  # its end turned out to be damaged, and a warning said so
                    return
                # Those that have an answer of their own there are left alone.
                wanted = [track for track in self._tracks.values() if not track.is_settled(t)]
                if wanted:
                    outputs = self.model.decode_objects(
                        frame, self._conditioned(t, wanted, reverse)
                    )
                    found = self._remembered(frame, outputs, prompted=False, reverse=reverse)
                    for track, seen in zip(wanted, found, strict=True):
                        track.put(t, seen)
            yield dataclasses.replace(self._shown(t, frame), notes=notes)
            t, notes = t + step, ()

    def _features(self, t: int) -> FrameFeatures:
        """Return an encoded frame, from the cache or the source."""
        if t in self._frames:
            self._frames.move_to_end(t)
            return self._frames[t]
        embedding = self.model.encode_frames(
            [self.source.frame(t)], input_side=self.settings.input_side, max_pixels=None
        )[0]
        self._newest = t
        while len(self._frames) >= max(1, self.settings.cached_frames):
            self._frames.popitem(last=False)
        frame = self._frames[t] = self.model.frame_features(embedding)
        return frame

    def _conditioned(self, t: int, tracks: list[ObjectTrack], reverse: bool) -> torch.Tensor:
        """Condition the features of a frame on what is remembered of some objects."""
        sign = -1 if reverse else 1
        self._revive(t, tracks, sign)
        reach = range(1, max(self._span, self.model.config.max_memories))
        pasts = [track.past(t - sign * age for age in reach) for track in tracks]
        return condition(self.model, self._features(t), t, pasts, self._span, reverse=reverse)

    def _revive(self, t: int, tracks: list[ObjectTrack], sign: int) -> None:
        """Encode again the memories that have left RAM but are looked back at from frame t.

        All objects that lack the memory of a frame get it in one call; `sign` is -1 back in time.
        """
        near = [t - sign * age for age in range(self.model.config.max_memories - 1, 0, -1)]
        prompted = {u for track in tracks for u in track.conditioning}
        # A frame is encoded again only where tracking begins away from where it ended, and then
        # once: what is revived, or is there already, becomes the newest of the window, nearest
        # frames last, so that none of them pushes out another before t has looked at them all.
        for u in [*sorted(prompted - set(near)), *near]:
            lacking = []
            for track in tracks:
                if u not in near and u not in track.conditioning:
                    continue
                seen = track.get(u, with_mask=False)
                if seen is None or seen.memory is not None:
                    track.touch(u)
                    continue
                whole = track.get(u)
                if whole is not None and whole.low_res_logits is not None:
                    lacking.append((track, whole, whole.low_res_logits))
            if lacking:
                memories = remember(
                    self.model,
                    self._features(u),
                    torch.stack([logits for _, _, logits in lacking]),
                    torch.tensor([[seen.object_score_logit] for _, seen, _ in lacking]),
                    [seen.prompted for _, seen, _ in lacking],
                )
                for (track, _, _), memory in zip(lacking, memories, strict=True):
                    track.refresh(u, memory)

    def _remembered(
        self, frame: FrameFeatures, outputs: ObjectOutputs, prompted: bool, reverse: bool
    ) -> list[Seen]:
        logits, scores = outputs.low_res_logits, outputs.object_score_logits
        memory = remember(self.model, frame, logits, scores, [prompted] * len(logits))
        rows = zip(outputs.object_pointer, outputs.rows(), memory, strict=True)
        return [
            Seen(pointer, iou, score, prompted, reverse, mask, tokens)
            for pointer, (mask, iou, score), tokens in rows
        ]

    def _shown(self, t: int, frame: FrameFeatures) -> FrameMasks:
        seen = {object_id: track.get(t) for object_id, track in self._tracks.items()}
        objects = {k: None if known is None else known.row for k, known in seen.items()}
        return show(self.model, frame, t, self.source.time_s(t), objects)


def open_session(
    model: MemoryModel,
    source: VideoLike,
    *,
    rate: float | None = None,
    max_pixels: int | None = DEFAULT_MAX_PIXELS,
    **settings: Any,
) -> VideoSession:
    """Open a source and a session on it: arguments as in `SAM2.video`, errors too.

    Settings are those of `SessionSettings`, where None stands for the default.
    """
    if settings.get("frame_count") is None and not hasattr(source, "frame_count"):
        # An iterator over a list tells how much is left; a generator or a camera tells nothing.
        settings["frame_count"] = operator.length_hint(source, 0) or None
    if settings.get("input_side") is not None:
        check_input_side(settings["input_side"])
    told = SessionSettings(**{name: each for name, each in settings.items() if each is not None})
    return VideoSession(model, open_video(source, rate=rate, max_pixels=max_pixels), told)


def stream(
    model: MemoryModel, frames: VideoLike, prompt: Any, **settings: Any
) -> Iterator[FrameMasks]:
    """Track what a prompt points at on the first frame; see `SAM2.stream`."""
    by_id = {FIRST_ID: prompt}
    # A single prompt may be a mapping too, whose keys are words.
    if isinstance(prompt, Mapping) and prompt and not any(isinstance(k, str) for k in prompt):
        by_id = {_whole(object_id, "object_id"): each for object_id, each in prompt.items()}
    prompts = {object_id: Prompt.of(each) for object_id, each in by_id.items()}
    session = open_session(model, frames, **settings)
    for object_id, each in prompts.items():
        session.add(0, object_id, prompt=each)
    return session.propagate()


def _whole(value: Any, name: str) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise InputError(f"expected {name} to be a whole number, got {value!r}")
