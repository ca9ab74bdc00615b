"""The mask decoder as the paper states it: the oracle of the arranged form in `nexus.nn`.

Every projection is applied where the paper applies it, every prompt has its own image, and the
masks come from transposed convolutions. It reads the weights of a `MaskDecoder`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nexus.nn.mask_decoder import MaskDecoder
from nexus.nn.two_way import Attention, TwoWayTransformer


def attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Multi-head attention with every projection in its place."""
    heads, d = attention.heads, attention.head_dim
    q, k, v = attention.q_proj(q), attention.k_proj(k), attention.v_proj(v)
    q, k, v = (x.unflatten(-1, (heads, d)).transpose(1, 2) for x in (q, k, v))
    out = torch.softmax(q @ k.transpose(-1, -2) / d**0.5, -1) @ v
    return attention.out_proj(out.transpose(1, 2).flatten(-2))


def two_way(
    transformer: TwoWayTransformer, tokens: Tensor, image: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """The two-way transformer on (P, t, C) tokens and (P, L, C) images."""
    queries, keys = tokens, image
    for index, layer in enumerate(transformer.layers):
        if index == 0:
            queries = attend(layer.self_attn, queries, queries, queries)
        else:
            q = queries + tokens
            queries = queries + attend(layer.self_attn, q, q, queries)
        queries = layer.norm1(queries)
        update = attend(layer.cross_attn_token_to_image, queries + tokens, keys + positions, keys)
        queries = layer.norm2(queries + update)
        queries = layer.norm3(queries + layer.mlp(queries))
        update = attend(
            layer.cross_attn_image_to_token, keys + positions, queries + tokens, queries
        )
        keys = layer.norm4(keys + update)
    update = attend(transformer.final_attn_token_to_image, queries + tokens, keys + positions, keys)
    return transformer.norm_final_attn(queries + update), keys


def decode(
    decoder: MaskDecoder, image: Tensor, positions: Tensor, sparse: Tensor, dense: Tensor
) -> tuple[Tensor, Tensor]:
    """All masks (P, 1 + M, 4 gh, 4 gw) and scores (P, 1 + M)."""
    P, (gh, gw) = len(sparse), image.shape[-2:]
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(P, -1, -1), sparse], 1)
    source = (image + dense).expand(P, -1, -1, -1).flatten(2).transpose(1, 2)
    tokens, source = two_way(
        decoder.transformer, tokens, source, positions.flatten(2).transpose(1, 2)
    )
    upscaled = decoder.output_upscaling(source.transpose(1, 2).unflatten(-1, (gh, gw)))
    weights = torch.stack(
        [mlp(tokens[:, 1 + m]) for m, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1
    )
    return (weights @ upscaled.flatten(2)).unflatten(-1, upscaled.shape[-2:]), (
        decoder.iou_prediction_head(tokens[:, 0])
    )
