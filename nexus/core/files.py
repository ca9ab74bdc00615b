"""Write files so that a reader never meets half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a fresh path beside `path`; rename it onto `path` when the block succeeds.

    The parent folder is created. If the block raises, `path` keeps its former content and the
    temporary file is removed. The temporary name keeps the suffix of `path`, for writers that
    choose a format by it.

    Raises:
        OSError: The folder cannot be created or written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.stem}.{uuid.uuid4().hex[:12]}.part{target.suffix}"
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
