"""Everything a run does once before its first step: read, view, encode, make ready."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nexus.core.progress import Progress
from nexus.core.types import ImageEmbedding
from nexus.data.truth.labelled import Truth
from nexus.models.frame import geometry_of
from nexus.models.promptable import PromptableModel
from nexus.train.config import TrainingSettings
from nexus.train.images.embedding_cache import EmbeddingCache, digest_of
from nexus.train.images.sets import (
    ObjectView,
    SetImage,
    TrainingObject,
    View,
    gather_objects,
    object_views,
    sample_digest,
    split_images,
    views_of,
)
from nexus.train.processes import Processes, share_of


@dataclass(frozen=True)
class HeldOut:
    """A held-out image.

    Attributes:
        image: The image.
        truths: Read the objects that count, the largest first.
        embedding: Encode it, or read its embedding.
    """

    image: SetImage
    truths: Callable[[], list[Truth]]
    embedding: Callable[[], ImageEmbedding]


@dataclass(frozen=True)
class Prepared:
    """What a run learns from and is measured on.

    Attributes:
        objects: To learn from.
        held_out: To measure.
        embed: Encode the images of some rows; with gradients where the encoder learns.
        digest: Of all names, pixels and masks.
        learnt_images: Names of the images learnt from.
    """

    objects: list[TrainingObject]
    held_out: list[HeldOut]
    embed: Callable[[Sequence[ObjectView]], list[ImageEmbedding]]
    digest: str
    learnt_images: list[str]


def prepare(model: PromptableModel, settings: TrainingSettings, processes: Processes) -> Prepared:
    """Read the sets, make the views, and encode them all where the encoder is frozen.

    Several processes share the encoding.

    Raises:
        InputError: A set cannot be opened, or has nothing to learn from.
        ImageError: An image cannot be used.
    """
    learnt, held_out = split_images(settings.data)
    views = [
        view
        for image in learnt
        for view in views_of(image, settings.data, settings.augment, settings.seed)
    ]
    plain = [View(image, "plain", settings.data, settings.augment, 0) for image in held_out]
    caches = None if settings.adapt.encoder_learns else _Encodings(model, settings)
    if caches is not None and processes.count > 1:
        _encode_share(caches, views, plain, processes)
        processes.wait()
    digest = hashlib.sha256()
    frame_hw: tuple[int, int] | None = None
    objects = []
    with Progress(
        len(views) + len(plain), label="prepare", unit="views", stream=processes.messages
    ) as progress:
        for view in views:
            sample = view.read()
            digest.update(sample_digest(f"{view.image.name}/{view.name}", sample).encode())
            name = digest_of(sample.image)
            if caches is not None:
                caches.learnt.add(sample.image, name)
            if frame_hw is None:
                frame_hw = _frame_hw(model, sample.image)
            geometry = geometry_of(sample.size_hw, model.policy)
            objects.append((view, object_views(view, name, sample, geometry, frame_hw)))
            progress.advance()
        for view in plain:
            sample = view.read()
            digest.update(sample_digest(view.image.name, sample).encode())
            if caches is not None:
                caches.exact.add(sample.image)
            progress.advance()
    return Prepared(
        gather_objects(objects),
        [_held_out(model, view, caches) for view in plain],
        _encoding(model) if caches is None else caches.embed,
        digest.hexdigest()[:32],
        [image.name for image in learnt],
    )


class _Encodings:
    """The embeddings of a frozen encoder: rounded ones to learn from, exact ones to measure."""

    def __init__(self, model: PromptableModel, settings: TrainingSettings) -> None:
        folder = None if settings.cache.folder is None else Path(settings.cache.folder)
        self.learnt = EmbeddingCache(model, folder, settings.cache.dtype)
        self.exact = EmbeddingCache(model, folder, "float32")

    def embed(self, rows: Sequence[ObjectView]) -> list[ImageEmbedding]:
        """Read the embeddings of some rows."""
        return [self.learnt.load(row.digest) for row in rows]


def _encode_share(
    caches: _Encodings, views: Sequence[View], plain: Sequence[View], processes: Processes
) -> None:
    """Encode what falls to this process; the others find it in the caches."""
    shares = [
        (share_of(views, processes), caches.learnt),
        (share_of(plain, processes), caches.exact),
    ]
    total = sum(len(mine) for mine, _ in shares)
    with Progress(total, label="encode", unit="views", stream=processes.messages) as progress:
        for mine, cache in shares:
            for view in mine:
                cache.add(view.pixels())
                progress.advance()


def _frame_hw(model: PromptableModel, image: NDArray[np.generic]) -> tuple[int, int]:
    """Return the size of the decoder's masks, four times that of the features."""
    gh, gw = model.encode_image(image, max_pixels=None).features.shape[-2:]
    return 4 * gh, 4 * gw


def _held_out(model: PromptableModel, view: View, caches: _Encodings | None) -> HeldOut:
    def embedding() -> ImageEmbedding:
        pixels = view.pixels()
        if caches is None:
            return model.encode_image(pixels, max_pixels=None)
        return caches.exact.load(caches.exact.add(pixels))

    return HeldOut(view.image, lambda: view.image.chosen(view.settings), embedding)


def _encoding(model: PromptableModel) -> Callable[[Sequence[ObjectView]], list[ImageEmbedding]]:
    """Return how rows are encoded while the encoder learns: each image once, in one batch."""

    def embed(rows: Sequence[ObjectView]) -> list[ImageEmbedding]:
        views = {row.digest: row.view for row in rows}
        pixels = [view.pixels() for view in views.values()]
        embeddings = model.frontend.embed(model.image_encoder, pixels, max_pixels=None)
        found = dict(zip(views, embeddings, strict=True))
        return [found[row.digest] for row in rows]

    return embed
