"""Clips on disk: video files, and folders of frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nexus.data.formats.dataset import InputFile, find_inputs
from nexus.data.video.file_reader import VideoNotFoundError
from nexus.data.video.opening import frame_files

_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg")
    + (".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".gif")
)


def find_clips(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    leave_out: str | os.PathLike[str] | None = None,
) -> list[InputFile]:
    """Return the clips of a folder and the folders in it, or of several of them.

    Args:
        sources: A folder, or clips and folders. A folder with pictures in it is a clip itself; of
            others those files are taken that end like a video, in the order of their names. Files
            are taken whatever their ending.
        leave_out: A folder that is not looked into, such as the one written into.

    Raises:
        VideoNotFoundError: There is no such file or folder.
        InputError: A folder without clips.
    """
    hint = "a clip is a video file, or a folder of frames"
    return find_inputs(sources, leave_out, _clips_below, "a clip", hint, VideoNotFoundError)


def holds_clips(folder: str | os.PathLike[str]) -> bool:
    """Say whether a path is a folder of clips, and not a clip itself."""
    path = Path(folder)
    return path.is_dir() and not frame_files(path) and any(_clips_below(path, None))


def _clips_below(folder: Path, barred: Path | None) -> Iterator[Path]:
    if folder.resolve() == barred:
        return
    if frame_files(folder):
        yield folder
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _clips_below(entry, barred)
        elif entry.suffix.lower() in _SUFFIXES and entry.is_file():
            yield entry
