"""Embeddings of a frozen encoder on disk: each image is encoded once, in this run or any later.

A file is named after the encoder (its fingerprint) and the pixels that enter it, so that a view of
an image is an image of its own and no setting can make an old file wrong.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nexus.core.errors import EmbeddingError
from nexus.core.types import ImageEmbedding
from nexus.core.weights.hub import weights_home
from nexus.models.promptable import PromptableModel


def digest_of(image: NDArray[np.generic]) -> str:
    """Return a digest of the pixels, the type and the shape of an image."""
    digest = hashlib.sha256(f"{image.dtype} {image.shape}".encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:32]


class EmbeddingCache:
    """Embeddings of one model in one number format.

    Args:
        model: What encodes; its encoder must not change afterwards.
        folder: Where all models' embeddings are; None takes `embeddings` beside the fetched
            weights.
        dtype: What the files hold; embeddings are given out in float32.
    """

    def __init__(
        self, model: PromptableModel, folder: Path | None = None, dtype: str = "bfloat16"
    ) -> None:
        self.model = model
        self.dtype = dtype
        base = weights_home().parent / "embeddings" if folder is None else folder
        fingerprint = model.frontend.fingerprint(model.image_encoder)
        self.folder = base / f"{model.variant}-{fingerprint}"
        self.encoded = 0

    def path(self, digest: str) -> Path:
        """Return the file of an image, there or not."""
        return self.folder / f"{digest}.{self.dtype}.safetensors"

    def add(self, image: NDArray[np.generic], digest: str | None = None) -> str:
        """Encode an image unless that was done before; return its digest.

        Raises:
            ImageError: The image cannot be used.
            OSError: The file cannot be written.
        """
        digest = digest_of(image) if digest is None else digest
        try:
            ImageEmbedding.load(self.path(digest))
        except (FileNotFoundError, EmbeddingError):  # a damaged one is written again
            self.encoded += 1
            embedding = self.model.encode_image(image, max_pixels=None)
            _cast(embedding, getattr(torch, self.dtype)).save(self.path(digest))
        return digest

    def load(self, digest: str) -> ImageEmbedding:
        """Return the embedding of an image that was added, float32 on the model's device.

        Raises:
            FileNotFoundError: It was not added.
            EmbeddingError: The file is damaged.
        """
        embedding = ImageEmbedding.load(self.path(digest))
        return _cast(embedding, torch.float32).to(self.model.device)


def _cast(embedding: ImageEmbedding, dtype: torch.dtype) -> ImageEmbedding:
    return dataclasses.replace(
        embedding,
        features=embedding.features.to(dtype),
        high_res_features=tuple(finer.to(dtype) for finer in embedding.high_res_features),
    )
