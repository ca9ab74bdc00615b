"""Small layers the larger blocks share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Normalise the channels of a (B, C, H, W) map at every pixel."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.over_last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, C, H, W)

    def over_last(self, x: Tensor) -> Tensor:
        """Normalise (..., C), channels last."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class ConvNorm(nn.Module):
    """A convolution without bias, then batch normalisation; one convolution when not training."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if not self.folds:
            return self.bn(self.c(x))
        weight, bias = self.folded()
        return self.c._conv_forward(x, weight, bias)

    @property
    def folds(self) -> bool:
        """Whether it is one convolution now: fixed statistics, and nothing stands in for it."""
        return not self.bn.training and type(self.c) is nn.Conv2d

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the one convolution this amounts to outside training."""
        bn = self.bn
        mean, variance = cast(Tensor, bn.running_mean), cast(Tensor, bn.running_var)
        scale = bn.weight * (variance + bn.eps).rsqrt()
        return self.c.weight * scale[:, None, None, None], bn.bias - mean * scale


class PatchEmbed(nn.Module):
    """Project patches of an image to tokens: (B, 3, S, S) to (B, gh, gw, C)."""

    def __init__(self, width: int, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1).contiguous()  # (B, gh, gw, C)


def mlp_block(dim: int, hidden: int, activation: nn.Module) -> nn.Sequential:
    """Build two linear layers with an activation between, named as in SAM's checkpoints."""
    lin1, lin2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
    return nn.Sequential(OrderedDict(lin1=lin1, act=activation, lin2=lin2))


class MLP(nn.Module):
    """`depth` linear layers, an activation between them and, if asked, a sigmoid at the end."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        out: int,
        depth: int,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ) -> None:
        super().__init__()
        widths = [dim, *[hidden] * (depth - 1), out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.sigmoid_output, self.activation = False, activation

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        x = last(x)
        return torch.sigmoid(x) if self.sigmoid_output else x


def neck(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build SAM's neck: 1 x 1 and 3 x 3 convolutions, each normalised; (B, C, h, w) in and out."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )


def affine_of(linear: nn.Module, in_features: int) -> tuple[Tensor, Tensor]:
    """Return weight (out, in) and bias (out,) of the affine map a module computes.

    A plain `nn.Linear` is read; anything standing in for one (a LoRA layer, a quantised layer)
    is evaluated on the unit vectors, so that what it adds is never lost.
    """
    if type(linear) is nn.Linear:
        weight = linear.weight
        return weight, weight.new_zeros(len(weight)) if linear.bias is None else linear.bias
    like = next(linear.parameters(), torch.zeros(1))
    probe = torch.zeros(in_features + 1, in_features, dtype=like.dtype, device=like.device)
    probe[:-1].fill_diagonal_(1)
    response = linear(probe)
    bias = response[-1]
    return (response[:-1] - bias).transpose(0, 1), bias
