"""What every image encoder has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nexus.core.errors import InputError


class ImageEncoder(nn.Module):
    """Base of image encoders: preprocessed batches give features, raw images an embedding.

    Attributes:
        raw_image_encoder: Called with this encoder and whatever is not a preprocessed batch; a
            model sets it to its own preprocessing, so that `model.image_encoder(image)` works.
    """

    raw_image_encoder: Callable[[ImageEncoder, Any], Any] | None = None

    def forward(self, x: Any) -> Any:
        """Encode.

        Args:
            x: A (B, 3, S, S) float tensor that is already preprocessed, or any raw image.

        Returns:
            The features of a batch, or the `ImageEmbedding` of a raw image.

        Raises:
            InputError: A raw image, but the encoder does not belong to a model.
        """
        if isinstance(x, Tensor) and x.ndim == 4 and torch.is_floating_point(x):
            return self.encode(x)
        if self.raw_image_encoder is None:
            raise InputError(
                "expected a preprocessed (B, 3, S, S) float tensor, "
                f"got {type(x).__name__} on an encoder without a model",
                hint="raw images go to model.encode_image(image)",
            )
        return self.raw_image_encoder(self, x)

    def encode(self, x: Tensor) -> Any:
        """Return the features of a preprocessed (B, 3, S, S) batch."""
        raise InputError(f"expected an image encoder that encodes, got {type(self).__name__}")
