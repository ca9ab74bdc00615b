"""Objects tracked through clips into folders: the verb `track`, as a library has it."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError, NexusWarning
from nexus.core.outputs import Outputs, output_folder
from nexus.core.steps import ProgressLike
from nexus.core.words import counted
from nexus.data.formats.dataset import InputFile
from nexus.data.tracks.track_writer import LOG
from nexus.data.video.clip_files import find_clips, holds_clips
from nexus.data.video.opening import VideoLike
from nexus.predict.dataset.settings import describe_model
from nexus.predict.jobs import Job
from nexus.predict.ledger import file_stamp, open_ledger
from nexus.predict.pool import Pool
from nexus.predict.tracking.clip_run import SETTINGS, ClipRun, ClipTracks, TrackOptions, open_clip
from nexus.predict.tracking.object_prompts import ObjectPrompt, PromptsLike, prompts_of_clips
from nexus.predict.tracking.outputs import result_files, track_names

if TYPE_CHECKING:
    from nexus.models.cv.sam2 import SAM2


@dataclass(frozen=True)
class TrackResult:
    """What there is of the clips, in their order.

    Attributes:
        clips: One for each; `message` says why one is less than what was asked for.
    """

    clips: list[ClipTracks]

    @property
    def failures(self) -> list[ClipTracks]:
        """The clips that could not be used, or not to their end."""
        return [clip for clip in self.clips if clip.message is not None]

    @property
    def files(self) -> list[Path]:
        """The files and folders of the results of all clips."""
        return [path for clip in self.clips for path in clip.files]


def track_video(
    model: SAM2,
    clips: VideoLike,
    prompts: PromptsLike,
    output_dir: str | os.PathLike[str],
    options: TrackOptions | None = None,
    *,
    workers: int = 1,
    threads: int | None = None,
    ray: str | None = None,
    progress: ProgressLike = False,
    overwrite: bool = False,
) -> TrackResult:
    """Track objects through a clip, or through many, and write what they are on each frame.

    Of one clip the results lie in the folder itself; many clips have a folder each in it. A run
    that was interrupted or killed goes on when it is started again: clips and frames that are done
    are passed over. A clip that cannot be used is told in a warning (with `progress`, on stderr)
    and on the result, and the others are done.

    Args:
        model: A SAM 2 or EdgeTAM.
        clips: A video file, a folder of frames or any other source of `open_video` is one clip; a
            folder of those, and a list of paths, are many.
        prompts: `ObjectPrompt`s for every clip; or by the name of a clip, that of its file below
            the folder, or its own without the ending; or a JSON or CSV file of either.
        output_dir: Written into: `overlay.mp4`, `masks/`, `tracks.jsonl`, `tracks.csv`,
            `frames.csv`, `track.json`, all for each clip.
        options: Formats, frames, direction.
        workers: Processes that track, a clip each, sharing the memory of the weights.
        threads: Of PyTorch in each; None shares the cores out evenly. The results are the same for
            any number of workers with the same number of threads.
        ray: Track on a Ray cluster: its address, or "local" for one of this machine.
        progress: Show frames (of many, clips) done and the time that is left on stderr; or a
            function of those done and those in all.
        overwrite: Remove what Nexus made in the folder and begin anew, and replace files of others.

    Raises:
        InputError: No clips, or prompts or options that do not fit; or the folder holds other
            results, or files of others that would be replaced.
        NexusError: Another run is using the folder, or a worker process died.
        MissingDependencyError: PyAV or Ray is wanted and not installed.
        OSError: A file cannot be written.
    """
    options, folder, names = options or TrackOptions(), Path(output_dir), _names_of(model)
    pool = Pool(workers, threads, ray)
    a_path = (str, os.PathLike)
    if isinstance(clips, a_path):
        many = holds_clips(clips)
    else:
        many = isinstance(clips, (list, tuple)) and all(isinstance(one, a_path) for one in clips)
    if many:
        paths: Any = clips
        found = find_clips(paths, leave_out=folder)
        joined = prompts_of_clips(prompts, [(clip.file_name, clip.name) for clip in found])
        result = track_clips(
            *(model, found, joined, folder, options, names, pool),
            progress=progress,
            overwrite=overwrite,
        )
    else:
        with open_clip(clips, options) as source:
            called = (source.path.name, source.path.stem) if source.path else (source.name,) * 2
            (alone,) = prompts_of_clips(prompts, [called])
            with ClipRun(source, alone, folder, options, names, overwrite) as run:
                result = TrackResult([run.track(model, progress=progress)])
    if result.failures and progress is not True:
        first = result.failures[0]
        warnings.warn(
            f"{len(result.failures)} of {counted(len(result.clips), 'clip')} could not be used to "
            f"their end; the first: {first.name}: {first.message}",
            NexusWarning,
            stacklevel=2,
        )
    return result


def track_clips(
    model: SAM2,
    clips: Sequence[InputFile],
    prompts: Sequence[list[ObjectPrompt]],
    folder: Path,
    options: TrackOptions,
    names: Mapping[str, Any],
    pool: Pool,
    *,
    progress: ProgressLike = False,
    overwrite: bool = False,
) -> TrackResult:
    """Track through the clips that are left, each into a folder of its own.

    Clips are those of `find_clips`, prompts those of `prompts_of_clips`; `names` is what
    `track.json` says of the model. The rest is as in `track_video`, errors too.
    """
    jobs, tracks = [], []
    work = TrackWork(model, options, names, overwrite)
    with (
        output_folder(folder, verb="track", overwrite=overwrite) as outputs,
        open_ledger(outputs, {**options.kept(), "model": describe_model(model)}) as ledger,
    ):
        _check_folders(outputs, clips, options)
        for clip, each in zip(clips, prompts, strict=True):
            place = folder / clip.name
            state = [file_stamp(clip.path), [prompt.as_json() for prompt in each]]
            known = ledger.read(clip.file_name) if clip.file_name in ledger else {}
            done = known.get("state") == state and (place / LOG).exists()
            # A stamp that no record has, where the clip or its prompts are others now, or its
            # results were removed so that they are made anew.
            stamp = known["stamp"] if done else time.time_ns()
            jobs.append(Job(clip.file_name, (clip.path, place, each, state), str(clip.path), stamp))
            outputs.has_run_below(place)
        ledger.fill(jobs, work, pool, unit="clips", progress=progress)
        for clip in clips:
            error = ledger.failures.get(clip.file_name)
            report = {} if error else dict(ledger.read(clip.file_name)["report"])
            told = (error.message, error.hint) if error else ()
            files = result_files(folder / clip.name)
            tracks.append(ClipTracks(clip.file_name, files, report, *told))
    return TrackResult(tracks)


def _check_folders(outputs: Outputs, clips: Sequence[InputFile], options: TrackOptions) -> None:
    """Refuse to begin if a clip's folder is used, or has a file that would be replaced."""
    for clip in clips:
        place = outputs.folder / clip.name
        if place.exists():
            with output_folder(
                place, verb=outputs.verb, overwrite=outputs.overwrite, clear=False
            ) as below:
                below.reserve([*track_names(options), SETTINGS])


@dataclass(frozen=True)
class TrackWork:
    """What is done with each clip, in any process."""

    model: SAM2
    options: TrackOptions
    names: Mapping[str, Any]
    overwrite: bool = False

    def __call__(self, item: tuple[Path, Path, list[ObjectPrompt], list[Any]]) -> dict[str, Any]:
        """Track through one clip, from where an earlier run has come to; return its record.

        Raises:
            NexusError: The clip cannot be used, or not to its end.
        """
        # The file, the folder of its results, its prompts, and the state of all that.
        path, folder, prompts, state = item
        with (
            open_clip(path, self.options) as source,
            ClipRun(source, prompts, folder, self.options, self.names, self.overwrite) as run,
        ):
            tracks = run.track(self.model)
        if run.failure is not None:
            raise run.failure
        return {"state": state, "report": tracks.report}


def _names_of(model: Any) -> dict[str, Any]:
    """Return what `track.json` says of a model, which tells it from others."""
    if not hasattr(model, "video"):
        raise InputError(
            f"expected a model that tracks, got {type(model).__name__}",
            hint="SAM2 and EdgeTAM do",
        )
    described = describe_model(model)
    name = described.get("variant", described["class"])
    return {"model": name, "checkpoint": None, "weights": described.get("weights")}
