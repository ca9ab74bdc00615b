"""Learning from images: prompts in, masks out, corrected over several rounds."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import NexusWarning
from nexus.core.progress import Progress
from nexus.core.types import ImageEmbedding, Prompt
from nexus.data.clicks.game import Game, Target, best_answers
from nexus.data.clicks.sampling import centre_click
from nexus.data.truth import open_images
from nexus.data.truth.labelled import Truth
from nexus.data.truth.notes import counted_masks, noticed_in, warn_of_masks
from nexus.eval.metrics import dice
from nexus.models.frame import geometry_of
from nexus.models.pretrained import PretrainedModel
from nexus.models.promptable import PromptableModel, decode_alike
from nexus.ops.boxes import tight_box
from nexus.train.config import EvaluateSettings, Measure, TrainingSettings
from nexus.train.figures import ObjectFigure
from nexus.train.images.embedding_cache import EmbeddingCache, digest_of
from nexus.train.images.plan import Call, ObjectPlan
from nexus.train.images.rounds import rounds_of
from nexus.train.images.sets import (
    ObjectView,
    SetImage,
    View,
    counted_truths,
    gather_objects,
    object_views,
    sample_digest,
    views_of,
)
from nexus.train.processes import Processes
from nexus.train.sets import Given, split_sets
from nexus.train.task import Losses, Task


class ImageTask(Task):
    """Objects of images, pointed at; where the encoder is frozen each view is encoded once.

    That clicks are taught shows on the model's policy from now on. `given` are images instead of
    those of the settings.
    """

    noun = "images"
    parts = ("dice", "bce", "focal", "iou", "keep")
    figures_are = (
        "mean Dice coefficients over objects, at the size of the original image. Prompts and "
        "answers are those of `nexus evaluate --protocol box`, `click` and `clicks`"
    )

    def __init__(
        self, settings: TrainingSettings, model: PretrainedModel, given: Given | None = None
    ) -> None:
        prompts, data = settings.prompts, settings.data
        self._policy = model.policy
        if prompts.clicks:
            model.policy = dataclasses.replace(
                model.policy, box_only=False, candidates=prompts.candidates
            )
        self.settings = settings
        self.model = model
        self.given = given
        self.base: PretrainedModel | None = None
        if settings.loss.keep:
            # All but the encoder, which is frozen and so is the base's too.
            shared = {id(model.image_encoder): model.image_encoder}
            self.base = copy.deepcopy(model, shared).eval()
        # Rounded embeddings to learn from, exact ones to measure.
        self._caches: tuple[EmbeddingCache, EmbeddingCache] | None = None
        if not settings.adapt.encoder_learns:
            cache = settings.cache
            folder = None if cache.folder is None else Path(cache.folder)
            learnt, exact = (EmbeddingCache(model, folder, d) for d in (cache.dtype, "float32"))
            self._caches = learnt, exact
        clicks = f"{settings.evaluate.clicks} error-driven clicks"
        if not settings.evaluate.mask_prompt:
            clicks += ", without the mask so far, which the protocol brings"
        self.measures = {"box": "box", "one_click": "one click", "clicks": clicks}
        largest = f"the {data.most_objects} largest objects of an image"
        self.rule = f"{largest}, none under {data.min_area} pixels"

    def prepare(self, processes: Processes) -> None:
        """Read the sets, make the views, and encode them all where the encoder is frozen."""
        settings, recipe = self.settings, self.settings.optimizer
        data, augment = settings.data, settings.augment
        learnt, held_out = split_sets(open_images, data, self.given)
        views = [v for image in learnt for v in views_of(image, data, augment, settings.seed)]
        plain = [View(image, "plain", data, augment, 0) for image in held_out]
        if self._caches is not None and processes.count > 1:
            self._encode_share(views, plain, processes)
            processes.wait()
        digest, ready = hashlib.sha256(), []
        frame_hw: tuple[int, int] | None = None
        with Progress(
            len(views) + len(plain), label="prepare", unit="views", stream=processes.messages
        ) as progress:
            for place, view in enumerate([*views, *plain]):
                sample, taught = view.read(), place < len(views)
                name = f"{view.image.name}/{view.name}" if taught else view.image.name
                digest.update(sample_digest(name, sample).encode())
                pixels = digest_of(sample.image)
                if self._caches is not None:
                    self._caches[not taught].add(sample.image, pixels)
                if taught:
                    frame_hw = frame_hw or self._frame_hw(view)
                    geometry = geometry_of(sample.size_hw, self.model.policy)
                    ready.append((view, object_views(view, pixels, sample, geometry, frame_hw)))
                progress.advance()
        self.masks = counted_masks(
            (image.set_title, image.labelled, noticed_in(image.labelled.load_truths()))
            for image in (*learnt, *held_out)
        )
        if processes.is_first:
            warn_of_masks(self.masks)
        objects = gather_objects(ready)
        self.counts = {"objects": len(objects), "images": len(learnt)}
        self.held_out = plain
        self.digest = digest.hexdigest()[:32]
        self.plan = ObjectPlan(
            objects,
            settings.prompts,
            data.balance,
            seed=settings.seed,
            rows=recipe.rows,
            accumulation=recipe.accumulation,
        )

    def calls(self, step: int, process: int, processes: int) -> list[Call]:
        """Return the decoder calls of a step that fall to one process."""
        return self.plan.calls(step, process, processes)

    def losses(self, call: Call) -> tuple[str, Losses]:
        """Point at the objects of a call, and correct the answers, round by round."""
        rounds = rounds_of(
            call,
            partial(decode_alike, self.model),
            self._embed(call.views),
            self.settings.prompts,
            self.settings.loss,
            self.model.policy.logit_limit,
            None if self.base is None else partial(decode_alike, self.base),
        )
        return call.kind, rounds

    def measure(self, item: View) -> list[ObjectFigure]:
        """Measure the objects of a held-out image."""

        def embed() -> ImageEmbedding:
            pixels = item.read().image
            if self._caches is None:
                return self.model.encode_image(pixels, max_pixels=None)
            return self._caches[1].load(self._caches[1].add(pixels))

        truths = counted_truths(item.image, item.settings)
        return measure_image(self.model, item.image, truths, embed, self.settings.evaluate)

    @contextmanager
    def as_it_came(self) -> Iterator[None]:
        """Give the model its own policy, by which a click may have several answers."""
        taught, self.model.policy = self.model.policy, self._policy
        try:
            with warnings.catch_warnings():  # that it cannot take clicks yet is why it is taught
                warnings.filterwarnings("ignore", ".* trained on box prompts alone", NexusWarning)
                yield
        finally:
            self.model.policy = taught

    def _encode_share(
        self, views: Sequence[View], plain: Sequence[View], processes: Processes
    ) -> None:
        """Encode what falls to this process; the others find it in the caches."""
        shares = [processes.share_of(part) for part in (views, plain)]
        total = sum(len(mine) for mine in shares)
        with Progress(total, label="encode", unit="views", stream=processes.messages) as progress:
            for mine, cache in zip(shares, self._caches or (), strict=True):
                for view in mine:
                    cache.add(view.read().image)
                    progress.advance()

    def _frame_hw(self, view: View) -> tuple[int, int]:
        """Return the size of the decoder's masks, four times that of the features."""
        gh, gw = self.model.encode_image(view.read().image, max_pixels=None).features.shape[-2:]
        return 4 * gh, 4 * gw

    def _embed(self, rows: Sequence[ObjectView]) -> list[ImageEmbedding]:
        """Read the embeddings of some rows; or encode each image once, in one batch."""
        if self._caches is not None:
            return [self._caches[0].load(row.digest) for row in rows]
        views = {row.digest: row.view for row in rows}
        pixels = [view.read().image for view in views.values()]
        embeddings = self.model.frontend.embed(self.model.image_encoder, pixels, max_pixels=None)
        found = dict(zip(views, embeddings, strict=True))
        return [found[row.digest] for row in rows]


def measure_image(
    model: PromptableModel,
    image: SetImage,
    truths: Sequence[Truth],
    embed: Callable[[], ImageEmbedding],
    settings: EvaluateSettings,
) -> list[ObjectFigure]:
    """Measure all objects of one image, one after the other under each measure.

    Masks come from `model.predict_batch` and are compared at the size of the original image, so
    that the figures are those anybody gets with the resulting weights: `one_click` is the protocol
    `click` of `nexus.eval.protocols`, answered as `predict` does unasked, with the best of three
    masks by predicted score where the policy has candidates. `embed` encodes the image, or reads
    its embedding.
    """
    if not truths:
        return []
    embedding, ignored = embed(), image.labelled.ignored()
    found: dict[Measure, list[NDArray[np.bool_]]] = {"one_click": [], "clicks": []}
    if "box" in settings.measures:
        boxes = [Prompt(box=tight_box(truth.mask)) for truth in truths]
        found["box"] = [masks.best for masks in model.predict_batch(embedding, boxes, False)]
    rounds = settings.clicks if "clicks" in settings.measures else 1
    for truth in truths if {"one_click", "clicks"} & set(settings.measures) else ():
        game = Game([Target(truth.mask, ignored, [centre_click(truth.mask)])], rounds)
        given = []
        while game.playing:
            answers = model.predict_batch(embedding, game.prompts)
            given.append(answers[0].best)
            game.take(best_answers(answers, settings.mask_prompt))
        found["one_click"].append(given[0])
        found["clicks"].append(given[-1])
    return [
        ObjectFigure(
            image.set_title,
            image.name,
            truth.object_id,
            measure,
            float(dice(mask, truth.mask, ignored)),
        )
        for measure in settings.measures
        for truth, mask in zip(truths, found[measure], strict=True)
    ]
