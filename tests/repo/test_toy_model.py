"""A model that is new to Nexus runs through everything, for an entry in the table of models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.core.errors import UnknownModelError
from nexus.core.types import Prompt
from nexus.core.weights.hub import UrlSource, WeightFile
from nexus.eval.run import evaluate
from nexus.models.cv import SAM, load_model
from nexus.models.decoding import Candidates, EncodedImages
from nexus.models.frame import FramePrompts
from nexus.models.frontend import Frontend
from nexus.models.policy import Policy
from nexus.models.pretrained import PretrainedModel
from nexus.models.registry import FAMILIES, MODELS, ModelSpec
from nexus.nn.encoder import ImageEncoder
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.batched import predict_images
from nexus.train.config import ModelSettings
from nexus.train.loop import fine_tune
from tests.eval.scenes import images
from tests.train.tiny_run import draw_set, tiny_settings

POLICY = Policy(input_side=64)


class ToyEncoder(ImageEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, kernel_size=16, stride=16)

    def encode(self, x: Tensor) -> Tensor:
        return self.patches(x)


class Toy(PretrainedModel):
    """Masks are where an image looks as it does in the middle of the prompt."""

    families, variants = ("toy",), {"toy": None}

    def __init__(self, config: None, variant: str = "toy", policy: Policy = POLICY) -> None:
        super().__init__(ToyEncoder(), Frontend(variant, policy))
        self.mask_decoder = nn.Conv2d(8, 3, kernel_size=1)

    def score(
        self, images: EncodedImages, prompts: FramePrompts, multimask_output: bool
    ) -> Candidates:
        features = images.maps[0].expand(len(prompts.point_labels), -1, -1, -1)
        given = (prompts.point_labels >= 0).unsqueeze(-1)
        middle = (prompts.point_coords * given).sum(1) / given.sum(1)
        x, y = (middle / 16).long().clamp(0, features.shape[-1] - 1).unbind(-1)
        there = features[torch.arange(len(x)), :, y, x]
        logits = F.interpolate(
            self.mask_decoder((features - there[..., None, None]).square()), scale_factor=4
        )[:, : 3 if multimask_output else 1]
        return Candidates.of_logits(logits, logits.sigmoid().mean((2, 3)))


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights of a toy that stands in the table."""
    monkeypatch.setitem(FAMILIES, "toy", f"{__name__}:Toy")
    file = WeightFile("toy.pt", (UrlSource("https://example.org/toy.pt"),))
    spec = ModelSpec("toy", "toy", "toy", file, POLICY, "MIT", "Toys", "0000.00000", 6179, "a toy")
    monkeypatch.setitem(MODELS, "toy", spec)
    torch.manual_seed(0)
    torch.save(Toy(None).state_dict(), tmp_path / "toy.pt")
    return tmp_path / "toy.pt"


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_the_table_finds_its_class(checkpoint: Path) -> None:
    """By its name; a wrong class leads to the right one."""
    model = load_model("toy", checkpoint, device="cpu")

    assert type(model) is Toy
    assert sum(weight.numel() for weight in model.parameters()) == 6179
    with pytest.raises(UnknownModelError, match=f"one of Toy\nhint: from {__name__} import Toy"):
        SAM.from_pretrained("toy")


def test_it_predicts_and_learns(checkpoint: Path) -> None:
    """Mixed prompts on one image, prompts on several, and masks with gradients are the same."""
    model = load_model("toy", checkpoint, device="cpu")
    prompts = [Prompt([[9, 9]]), Prompt(box=[5, 5, 40, 30]), Prompt([[30, 9], [50, 9]], [1, 0])]
    answers = model.predict_batch(model.encode_image(image()), prompts)
    _, together = predict_images(model, [image()[::-1], image()], [prompts[:1], prompts])
    logits = model([image()], [prompts], multimask_output=False)
    logits.square().mean().backward()

    assert [masks.masks.shape for masks in answers] == [(3, 48, 64), (1, 48, 64), (1, 48, 64)]
    for ours, theirs in zip(together, answers, strict=True):
        np.testing.assert_allclose(ours.low_res_logits, theirs.low_res_logits, atol=1e-5)
    np.testing.assert_allclose(logits[0, 1].detach().numpy(), answers[1].low_res_logits, atol=1e-5)
    assert all(weight.grad is not None for weight in model.parameters())


def test_it_finds_masks(checkpoint: Path) -> None:
    """Each automatic mask is a candidate of its point."""
    model = load_model("toy", checkpoint, device="cpu")
    options = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}
    generator = SAMAutomaticMaskGenerator(model, points_per_side=2, **options)
    records = generator.generate(image())

    assert len(records) == 12
    for record in records:
        candidates = model.predict(image(), record["point_coords"][0]).masks
        assert any(np.array_equal(record["segmentation"], mask) for mask in candidates)


def test_it_is_evaluated(checkpoint: Path) -> None:
    """Boxes and clicks are scored for every object."""
    model = load_model("toy", checkpoint, device="cpu")
    result = evaluate(model, images(2), ["box", "clicks"], clicks=2)

    assert len(result.rows) == 8
    assert 0 <= result.mean("iou", "clicks") <= 1
    assert result.failures == []


def test_it_is_fine_tuned(checkpoint: Path, tmp_path: Path) -> None:
    """A run loads it by its name, and what it writes loads as one."""
    draw_set(tmp_path / "shapes")
    settings = tiny_settings(
        tmp_path, model=ModelSettings("toy", checkpoint=str(checkpoint), device="cpu")
    )
    result = fine_tune(settings, tmp_path / "out")
    before = load_model("toy", checkpoint, device="cpu").state_dict()
    after = load_model("toy", tmp_path / "out" / "last.safetensors", device="cpu").state_dict()

    assert result.steps == 6
    assert not torch.equal(before["mask_decoder.weight"], after["mask_decoder.weight"])
    assert torch.equal(
        before["image_encoder.patches.weight"], after["image_encoder.patches.weight"]
    )
