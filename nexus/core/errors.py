"""What Nexus raises; a message says what was expected, what came, and what to do about it.

NexusError
|-- InputError (ValueError)              an argument a caller can correct
|   |-- ImageError                       an image that cannot be read or used
|   |   `-- ImageNotFoundError (FileNotFoundError)   a path without a file
|   |-- VideoError                       a video or frame that cannot be read or used
|   |-- PromptError                      points, boxes or masks that make no sense
|   `-- UnknownModelError                a model name that is not in the table
|-- WeightsError                         weights that cannot be used
|   |-- WeightsNotFoundError (FileNotFoundError)   not cached and not obtainable now
|   |-- DownloadError (OSError)          a source failed, or what came is not what it promised
|   |-- CheckpointError                  damaged, unsafe, or another model's file
|   `-- EmbeddingError                   an image embedding damaged, or made by another model
|       `-- EmbeddingNotFoundError (FileNotFoundError)   a path without a file
`-- MissingDependencyError (ImportError) an optional package that is not installed

NexusWarning (UserWarning)               a result is given, but less than what was asked for
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LONGEST_VALUE, _LONGEST_TEXT = 80, 1200
_ONE_SLASH = re.compile(r"\b(https?|ftp|file|rtsp|s3|gs):/(?=[^/\s])")
_spelling: list[Callable[[str], str]] = [str]


def shown(value: object) -> str:
    """Return a value for a message: its `repr` on one line, the middle left out of a long one.

    >>> shown([0.0, 1.0]), len(shown("x" * 1000))
    ('[0.0, 1.0]', 80)
    """
    try:
        text = repr(value)
    except Exception:  # of a foreign class; the error that is told matters more
        return f"a {type(value).__name__}"
    return _cut(text if isinstance(value, str) else " ".join(text.split()), _LONGEST_VALUE)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    end = (longest - 5) // 3
    return f"{text[: longest - 5 - end]} ... {text[-end:]}"


def _told(text: str) -> str:
    """Return a text cut to a screen, with the slash in addresses that pathlib takes off."""
    return _ONE_SLASH.sub(r"\1://", _cut(text, _LONGEST_TEXT))


@contextmanager
def arguments_spelled(spell: Callable[[str], str]) -> Iterator[None]:
    """Let errors and warnings name arguments as `spell` writes them, within the block.

    Texts have an argument in backticks, as Python takes it: `overwrite=True`. The command line
    makes options of them. What is pickled or raised stays as it is.
    """
    _spelling.append(spell)
    try:
        yield
    finally:
        _spelling.pop()


class NexusError(Exception):
    """Base of every error raised on purpose by Nexus.

    Args:
        message: What was expected and what came instead; very long ones are cut.
        hint: What to do about it; shown on a `hint:` line of its own. An argument to give stands
            in backticks, as in `overwrite=True`.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        self._message = _told(message)
        self._hint = None if hint is None else _told(hint)
        super().__init__(self._message if hint is None else f"{self._message}\nhint: {self._hint}")

    @property
    def message(self) -> str:
        """What was expected and what came instead."""
        return _spelling[-1](self._message)

    @property
    def hint(self) -> str | None:
        """What to do about it."""
        return None if self._hint is None else _spelling[-1](self._hint)

    def __str__(self) -> str:
        return self.message if self._hint is None else f"{self.message}\nhint: {self.hint}"

    def __reduce__(self) -> tuple[type[NexusError], tuple[str, str | None]]:
        """Pickle by the two arguments, so that the error survives a worker process."""
        return type(self), (self._message, self._hint)


class InputError(NexusError, ValueError):
    """An argument is wrong in a way its caller can correct."""


class ImageError(InputError):
    """An image cannot be read, or its type, shape, size or value range is not usable."""


class VideoError(InputError):
    """A video, or one frame of it, cannot be read or used."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """An image is given by a path and there is no such file."""


class PromptError(InputError):
    """A prompt is malformed, or does not fit the image it is meant for."""


class UnknownModelError(InputError):
    """A model name is not in the table of models."""


class WeightsError(NexusError):
    """Weights cannot be used."""


class WeightsNotFoundError(WeightsError, FileNotFoundError):
    """Weights are not in the cache and cannot be fetched now."""


class DownloadError(WeightsError, OSError):
    """A source failed, or what it sent has the wrong size or digest."""


class CheckpointError(WeightsError):
    """A checkpoint file is damaged, unsafe to read, or belongs to another model."""


class EmbeddingError(WeightsError):
    """An image embedding is damaged, or was made by another model."""


class EmbeddingNotFoundError(EmbeddingError, FileNotFoundError):
    """An image embedding is given by a path and there is no such file."""


class MissingDependencyError(NexusError, ImportError):
    """An optional package is needed and not installed."""


class NexusWarning(UserWarning):
    """A result is given, but something about it is weaker than what was asked for."""

    def __str__(self) -> str:
        return _spelling[-1](_told(super().__str__()))
