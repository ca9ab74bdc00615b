"""The memory encoder."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nexus.nn.memory_encoder import ConvNeXtBlock, MemoryEncoder


@pytest.fixture(scope="module")
def encoder() -> MemoryEncoder:
    torch.manual_seed(0)
    model = MemoryEncoder(dim=8, out=4).eval()
    with torch.no_grad():
        for layer in model.fuser.layers:
            layer.gamma.fill_(1)
    return model


def test_a_mask_at_stride_1_becomes_a_memory_at_stride_16(encoder: MemoryEncoder) -> None:
    """Each object's mask meets the same features."""
    with torch.no_grad():
        memory = encoder(torch.randn(1, 8, 3, 4), torch.randn(5, 1, 48, 64))

    assert memory.shape == (5, 4, 3, 4)


def test_one_frame_serves_all_objects(encoder: MemoryEncoder) -> None:
    """Features given once do what features given for each object do."""
    features, masks = torch.randn(1, 8, 3, 4), torch.randn(3, 1, 48, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            encoder(features, masks), encoder(features.expand(3, -1, -1, -1), masks)
        )


def test_a_block_is_the_plain_formula() -> None:
    """Depth-wise convolution, normalisation over channels, two layers, scale, residual."""
    torch.manual_seed(0)
    block = ConvNeXtBlock(8)
    x = torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        block.gamma.copy_(torch.randn(8))
        y = block.dwconv(x)
        y = (y - y.mean(1, keepdim=True)) / (y.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
        y = torch.einsum("bchw,dc->bdhw", y, block.pwconv1.weight)
        y = F.gelu(y + block.pwconv1.bias[:, None, None])
        y = torch.einsum("bchw,dc->bdhw", y, block.pwconv2.weight)
        y = (y + block.pwconv2.bias[:, None, None]) * block.gamma[:, None, None]

        torch.testing.assert_close(block(x), x + y, rtol=1e-4, atol=1e-5)
