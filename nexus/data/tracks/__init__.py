"""Tracked objects on disk: rows, label maps and overlays, written whole or not at all."""

from nexus.data.tracks.track_rows import TrackRow, read_track_csv, read_track_jsonl, read_track_png
from nexus.data.tracks.track_writer import TrackWriter

__all__ = ["TrackRow", "TrackWriter", "read_track_csv", "read_track_jsonl", "read_track_png"]
