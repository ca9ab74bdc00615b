"""RepViT, against its convolutions and normalisations one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nexus.nn.repvit import ConvNorm, RepViT, RepViTConfig, SqueezeExcite, TokenMixer

TINY = RepViTConfig((8, 8, 16, 16), (1, 2, 1, 1))


def unsettled(module: nn.Module) -> nn.Module:
    """Give every weight and statistic a value of its own."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = 0.3 * torch.randn_like(tensor)
                tensor.copy_(noise.abs() + 0.5 if name.endswith("var") else tensor + noise)
    return module.eval()


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 2, 1), (1, 1, 1), (3, 1, 4)])
def test_folding_changes_nothing(kernel: int, stride: int, groups: int) -> None:
    """One convolution does what the convolution and its normalisation do in turn."""
    layer = unsettled(ConvNorm(4, 8, kernel, stride, groups))
    x = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer.bn(layer.c(x)), rtol=1e-4, atol=1e-5)


def test_the_branches_of_a_token_mixer_are_one_convolution() -> None:
    """3 x 3, 1 x 1 and the identity add up."""
    mixer = unsettled(TokenMixer(6))
    x = torch.randn(2, 6, 7, 7)
    with torch.no_grad():
        apart = mixer.conv.bn(mixer.conv.c(x)) + mixer.conv1.bn(mixer.conv1.c(x)) + x

        torch.testing.assert_close(mixer(x), apart, rtol=1e-4, atol=1e-5)


def test_training_keeps_the_branches() -> None:
    """In training mode the statistics are the batch's and are updated."""
    mixer = unsettled(TokenMixer(6)).train()
    before = copy.deepcopy(mixer.conv.bn.running_mean)
    mixer(torch.randn(2, 6, 7, 7))

    assert not torch.equal(before, mixer.conv.bn.running_mean)


def test_fixed_statistics_fold_while_weights_learn() -> None:
    """With its normalisation in eval mode a mixer that learns computes what one at rest does."""
    mixer = unsettled(TokenMixer(6))
    x = torch.randn(2, 6, 7, 7)
    rested = mixer(x)
    mixer.train()
    mixer.conv.bn.eval()
    mixer.conv1.bn.eval()

    torch.testing.assert_close(mixer(x), rested, rtol=0, atol=0)


def test_channels_are_weighed_by_their_means() -> None:
    """The hidden width is a quarter in multiples of 8, and the weights multiply the map."""
    layer = unsettled(SqueezeExcite(48))
    x = torch.randn(2, 48, 3, 3)
    with torch.no_grad():
        means = x.mean((2, 3))
        hidden = (means @ layer.fc1.weight.flatten(1).t() + layer.fc1.bias).relu()
        weights = (hidden @ layer.fc2.weight.flatten(1).t() + layer.fc2.bias).sigmoid()

        torch.testing.assert_close(layer(x), x * weights[:, :, None, None])
    assert layer.fc1.out_channels == 16
    assert [SqueezeExcite(width).fc1.out_channels for width in (96, 192, 384)] == [24, 48, 96]


def test_each_stage_halves() -> None:
    """Four maps at strides 4 to 32."""
    model = unsettled(RepViT(TINY))
    with torch.no_grad():
        maps = model(torch.randn(1, 3, 64, 64))

    assert [tuple(m.shape) for m in maps] == [
        (1, 8, 16, 16),
        (1, 8, 8, 8),
        (1, 16, 4, 4),
        (1, 16, 2, 2),
    ]
