"""Objects tracked through videos: what is remembered of them, for how long, and where.

`session` follows a whole video, with prompts at any time; `frame_by_frame` goes on from the last
result and keeps nothing. A session keeps what it knows of an object in `memory_bank`, encodes again
what has left it, and is saved to a file (`session_file`). The steps that both put
together are in `nexus.models.tracking_step`.
"""

from nexus.models.memory import TrackMemory
from nexus.predict.video.frame_by_frame import track
from nexus.predict.video.session import SessionSettings, VideoSession, open_session, stream

__all__ = [
    "SessionSettings",
    "TrackMemory",
    "VideoSession",
    "open_session",
    "stream",
    "track",
]
