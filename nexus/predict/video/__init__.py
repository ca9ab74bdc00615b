"""Video sessions: what is remembered of objects, and each step of tracking."""

from nexus.predict.video.session import SessionSettings, VideoSession

__all__ = ["SessionSettings", "VideoSession"]
