"""Promises of the model API at full size, with real weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nexus.models.cv import MedSAM
from tests.models.test_promptable import mixed_prompts

IMAGE = Path(__file__).parents[2] / "examples" / "images" / "retina.jpg"
BOX = (112, 530, 330, 764)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:lite_medsam was trained:nexus.core.errors.NexusWarning"),
]


@pytest.fixture(scope="module")
def medsam(lite_medsam_weights: Path) -> MedSAM:
    return MedSAM.from_checkpoint(lite_medsam_weights, variant="lite_medsam", device="cpu")


def test_the_demo_finds_the_optic_disc(medsam: MedSAM) -> None:
    """The mask fills most of its box, touches no corner, and the model is sure of it."""
    masks = medsam.predict(image=IMAGE, prompt=BOX)
    x0, y0, x1, y1 = BOX
    inside = masks.best[y0:y1, x0:x1]

    assert masks.best_score > 0.9
    assert inside.sum() > 0.98 * masks.best.sum()
    assert 0.5 < inside.mean() < 0.85
    assert not inside[[0, 0, -1, -1], [0, -1, 0, -1]].any()


@pytest.mark.filterwarnings("ignore:all points are background")
def test_sixty_four_mixed_prompts_equal_single_predictions(medsam: MedSAM) -> None:
    """A batch of every kind of prompt gives the logits and scores of single calls."""
    embedding = medsam.encode_image(IMAGE)
    prompts = mixed_prompts(64, embedding.original_size_hw, (256, 256))
    batch = medsam.predict_batch(embedding, prompts)

    for prompt, masks in zip(prompts, batch, strict=True):
        single = medsam.predict(image_embedding=embedding, prompt=prompt)
        np.testing.assert_allclose(masks.low_res_logits, single.low_res_logits, rtol=0, atol=1e-4)
        np.testing.assert_allclose(masks.iou_scores, single.iou_scores, rtol=0, atol=1e-4)


def test_eight_threads_give_the_bits_of_one(medsam: MedSAM) -> None:
    """Eight images at once on one model: the same bits as one after another."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (200 + 9 * i, 300 - 7 * i, 3), dtype=np.uint8) for i in range(8)]

    def work(image: np.ndarray) -> bytes:
        masks = medsam.predict(image=image, prompt=(20, 30, 150, 140))
        return masks.low_res_logits.tobytes() + masks.masks.tobytes()

    serial = [work(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(work, images))

    assert threaded == serial
