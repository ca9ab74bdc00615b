"""SAM against transformers' implementation, weights shared through its own file layout."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.errors import CheckpointError, WeightsNotFoundError
from nexus.core.types import Prompt
from nexus.models.cv.sam import SAM

SIDE = 160
SIZES: dict[str, dict[str, Any]] = {
    "vision_config": {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "mlp_dim": 128,
        "mlp_ratio": 4.0,
        "global_attn_indexes": [1],
        "window_size": 3,
        "image_size": SIDE,
        "output_channels": 16,
    },
    "prompt_encoder_config": {
        "hidden_size": 16,
        "image_size": SIDE,
        "mask_input_channels": 8,
    },
    "mask_decoder_config": {
        "hidden_size": 16,
        "mlp_dim": 32,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": 24,
    },
}


def their_sam(seed: int = 0) -> Any:
    """Build transformers' SAM in the tiny size, every entry drawn at random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import SamConfig, SamModel

        config = SamConfig(**json.loads(json.dumps(SIZES)))
        # Their position code takes half the hidden size and the embedding grid from the config.
        config.vision_config.num_pos_feats = 8
        config.prompt_encoder_config.image_embedding_size = SIDE // 16
        torch.manual_seed(seed)
        model = SamModel(config).eval()
    with torch.no_grad():
        for parameter in [*model.parameters(), *model.buffers()]:
            if parameter.is_floating_point():
                parameter.normal_(std=0.3 if parameter.ndim > 1 else 0.1)
        model.shared_image_embedding.positional_embedding.copy_(
            model.prompt_encoder.shared_embedding.positional_embedding
        )
        for norm in (m for m in model.modules() if type(m).__name__.endswith("LayerNorm")):
            norm.weight.add_(1)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as transformers writes it."""
    path = tmp_path_factory.mktemp("hf") / "tiny"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        their_sam().save_pretrained(path)
    return path


def their_masks(model: Any, frame: torch.Tensor, prompt: Prompt, several: bool) -> Any:
    """Run transformers' SAM on a preprocessed frame and a prompt in frame coordinates."""
    inputs: dict[str, torch.Tensor] = {}
    if prompt.points is not None and prompt.labels is not None:
        inputs["input_points"] = torch.tensor(prompt.points)[None, None]
        inputs["input_labels"] = torch.tensor(prompt.labels)[None, None]
    if prompt.box is not None:
        inputs["input_boxes"] = torch.tensor(prompt.box)[None, None]
    if prompt.mask is not None:
        inputs["input_masks"] = torch.tensor(prompt.mask)[None, None]
    with torch.no_grad():
        return model(pixel_values=frame, multimask_output=several, **inputs)


def compare(ours: SAM, theirs: Any) -> None:
    """Hold features, logits and scores of every kind of prompt against transformers'."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    embedding = ours.encode_image(image)
    mean, std = (torch.tensor(v) for v in (ours.policy.pixel_mean, ours.policy.pixel_std))
    frame = ((torch.from_numpy(image).float() - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = theirs.get_image_embeddings(frame)

    torch.testing.assert_close(embedding.features[None], features, rtol=0, atol=2e-4)
    prompts = [
        Prompt([[20, 30]], [1]),
        Prompt([[20, 30], [90, 140]], [1, 0]),
        Prompt(box=[12, 20, 80, 99]),
        Prompt([[20, 30]], [1], mask=generator.normal(0, 3, (40, 40)).astype(np.float32)),
    ]
    for prompt in prompts:
        for several in (True, False):
            masks = ours.predict_with_embedding(embedding, prompt, several)
            expected = their_masks(theirs, frame, prompt, several)
            np.testing.assert_allclose(
                masks.low_res_logits, expected.pred_masks[0, 0].numpy(), rtol=0, atol=2e-3
            )
            np.testing.assert_allclose(
                masks.iou_scores, expected.iou_scores[0, 0].numpy(), rtol=0, atol=1e-3
            )


def test_their_file_layout_gives_their_masks(folder: Path) -> None:
    """A folder written by transformers loads here and predicts what it predicts there."""
    ours = SAM.from_checkpoint(folder, device="cpu")

    assert ours.policy.input_side == SIDE
    compare(ours, their_sam())


def test_relative_positions_of_another_side(folder: Path) -> None:
    """Tables trained for other sides are interpolated as transformers does."""
    theirs, ours = their_sam(), SAM.from_checkpoint(folder, device="cpu")
    torch.manual_seed(1)
    for their_layer, our_block in zip(
        theirs.vision_encoder.layers, ours.image_encoder.blocks, strict=True
    ):
        for name, length in (("rel_pos_h", 31), ("rel_pos_w", 9)):
            table = torch.randn(length, 8)
            setattr(their_layer.attn, name, torch.nn.Parameter(table))
            setattr(our_block.attn, name, torch.nn.Parameter(table.clone()))

    compare(ours, theirs)


def test_a_file_in_their_layout_loads_with_a_variant(folder: Path, tmp_path: Path) -> None:
    """Their names are recognised in a lone file too; sizes of another model are refused."""
    with pytest.raises(CheckpointError, match="sam_vit_b"):
        SAM.from_checkpoint(folder / "model.safetensors", variant="sam_vit_b")


def test_a_folder_of_another_architecture_is_refused(tmp_path: Path) -> None:
    """The message names what config.json says it is, or that there is none."""
    with pytest.raises(
        CheckpointError,
        match=r"config.json and model.safetensors or pytorch_model.bin in .* got nothing",
    ):
        SAM.from_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="model_type is 'bert', not 'sam'"):
        SAM.from_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"expected the config.json of a SAM"):
        SAM.from_checkpoint(tmp_path)


def test_a_hub_id_that_is_not_cached_is_refused_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Offline, the message says what to fetch."""
    monkeypatch.setenv("NEXUS_OFFLINE", "1")
    with pytest.raises(WeightsNotFoundError, match=r"hf download facebook/sam-vit-none"):
        SAM.from_pretrained("facebook/sam-vit-none")
