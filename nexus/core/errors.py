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
|   `-- EmbeddingError                   an image embedding made by another model
`-- MissingDependencyError (ImportError) an optional package that is not installed

NexusWarning (UserWarning)               a result is given, but less than what was asked for
"""

from __future__ import annotations


class NexusError(Exception):
    """Base of every error raised on purpose by Nexus.

    Args:
        message: What was expected and what came instead.
        hint: What to do about it; shown on a `hint:` line of its own.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\nhint: {hint}")

    def __reduce__(self) -> tuple[type[NexusError], tuple[str, str | None]]:
        """Pickle by the two arguments, so that the error survives a worker process."""
        return type(self), (self.message, self.hint)


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
    """An image embedding was made by another model."""


class MissingDependencyError(NexusError, ImportError):
    """An optional package is needed and not installed."""


class NexusWarning(UserWarning):
    """A result is given, but something about it is weaker than what was asked for."""
