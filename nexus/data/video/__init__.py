"""Videos in and out: numbered RGB frames, each with its time in seconds."""

from nexus.data.video.opening import VideoLike, open_video
from nexus.data.video.source import FrameIndexError, VideoSource
from nexus.data.video.video_writer import VideoWriter

__all__ = ["FrameIndexError", "VideoLike", "VideoSource", "VideoWriter", "open_video"]
