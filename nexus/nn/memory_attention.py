"""SAM 2's memory attention: the features of a frame look at what is remembered of each object.

Follows "SAM 2: Segment Anything in Images and Videos" (arXiv 2408.00714), section 4 and appendix
D.1; in EdgeTAM's form "EdgeTAM: On-Device Track Anything Model" (arXiv 2501.07256). Parameter
names are those of the official checkpoints. The result is the original's; the arithmetic differs:

- all objects go through in one call, each with as many memory tokens as it has: the first
  layer's self-attention, which no object has entered yet, runs once for all of them;
- values are not projected before they are averaged, sum_i a_i (W m_i) = W (sum_i a_i m_i), so
  that on a CPU attention over memories of 64 channels costs two thirds of that over 256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nexus.nn.batching import alike, in_parts, memories_at_once
from nexus.nn.layers import affine_of
from nexus.nn.position import axial_rotations, rotate

_BLOCK_BYTES = 16 << 20  # scores of one block of queries
_INPUT_POSITION_SHARE = 0.1  # how much of the position code joins the features


@dataclass(frozen=True)
class MemoryTokens:
    """What one object is remembered by.

    Attributes:
        tokens: (S, M) memory of frames one after the other, then object pointers.
        positions: (S, M) their position code in image and time.
        frames: How many frames' memories there are, at least one, all of one length.
        pointers: How many of the tokens, the last ones, are object pointers.
    """

    tokens: Tensor
    positions: Tensor
    frames: int
    pointers: int


class MemoryAttention(nn.Module):
    """Condition the C-channel features of a frame on the memories of K objects.

    `tokens_2d` is the side of the grid that the last tokens of a frame's memory lie on, if that is
    not the grid of the features; the tokens before them have no place.
    """

    def __init__(
        self,
        dim: int = 256,
        memory_dim: int = 64,
        hidden: int = 2048,
        depth: int = 4,
        tokens_2d: int | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MemoryAttentionLayer(dim, memory_dim, hidden) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.tokens_2d = tokens_2d

    def forward(
        self, features: Tensor, positions: Tensor, memories: Sequence[MemoryTokens]
    ) -> Tensor:
        """Condition the features of a frame: (K, C, gh, gw).

        Args:
            features: (1, C, gh, gw).
            positions: (C, gh, gw) position code.
            memories: One for each of K objects, of any lengths.
        """
        _, C, gh, gw = features.shape
        turns = axial_rotations((gh, gw), C, features.device)
        side = self.tokens_2d
        key_turns = turns if side is None else axial_rotations((side, side), C, features.device)
        x = features + _INPUT_POSITION_SHARE * positions.to(features.dtype)
        x = x.flatten(2).transpose(1, 2)  # (1, L, C)
        first, *later = (cast(MemoryAttentionLayer, layer) for layer in self.layers)
        x = first.look_around(x, turns)
        conditioned = []
        for part in in_parts(memories, memories_at_once(features.device)):
            each = first.look_back(x, part, turns, key_turns)  # (n, L, C)
            for layer in later:
                each = layer.look_back(layer.look_around(each, turns), part, turns, key_turns)
            conditioned.append(self.norm(each))
        x = conditioned[0] if len(conditioned) == 1 else torch.cat(conditioned)  # (K, L, C)
        return x.transpose(1, 2).unflatten(2, (gh, gw))


class MemoryAttentionLayer(nn.Module):
    """Pixels attend to each other, then to their object's memory; arguments as in `recall`."""

    def __init__(self, dim: int, memory_dim: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = RotaryAttention(dim, dim)
        self.cross_attn_image = RotaryAttention(dim, memory_dim)
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def look_around(self, x: Tensor, turns: Tensor) -> Tensor:
        """Let pixels attend to each other."""
        return x + self.self_attn(self.norm1(x), turns)

    def look_back(
        self, x: Tensor, memories: Sequence[MemoryTokens], turns: Tensor, key_turns: Tensor
    ) -> Tensor:
        """Let pixels attend to memories: (1 or K, L, C) to (K, L, C)."""
        x = x + self.cross_attn_image.recall(self.norm2(x), memories, turns, key_turns)
        return x + self.linear2(F.relu(self.linear1(self.norm3(x))))


class RotaryAttention(nn.Module):
    """Attention of one head with rotary positions."""

    def __init__(self, dim: int, memory_dim: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(memory_dim, dim)
        self.v_proj = nn.Linear(memory_dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        """Let the (B, L, C) pixels of each frame attend to each other."""
        q, k = rotate(self.q_proj(x), turns), rotate(self.k_proj(x), turns)
        return self.out_proj(attend(q, k, self.v_proj(x)))

    def recall(
        self, x: Tensor, memories: Sequence[MemoryTokens], turns: Tensor, key_turns: Tensor
    ) -> Tensor:
        """Let (1 or K, L, C) pixels attend to K memories: (K, L, C).

        The pixels turn by (L, C / 2) rotations, the last tokens of each frame's memory by
        `key_turns`.
        """
        queries = rotate(self.q_proj(x), turns).expand(len(memories), -1, -1)
        if x.device.type != "cpu" or torch.is_grad_enabled() or x.dtype != torch.float32:
            return self.out_proj(self._recall_alike(queries, memories, key_turns))
        weight, bias = affine_of(self.v_proj, memories[0].tokens.shape[1])
        averaged = torch.stack(
            [
                _attend_by_blocks(query, self._keys(memory, key_turns), memory.tokens)
                for query, memory in zip(queries, memories, strict=True)
            ]
        )
        return self.out_proj(F.linear(averaged, weight, bias))

    def _recall_alike(
        self, queries: Tensor, memories: Sequence[MemoryTokens], key_turns: Tensor
    ) -> Tensor:
        """Attend with the fused kernel, once for all objects with equally many tokens."""
        results: dict[int, Tensor] = {}
        for members in alike([len(memory.tokens) for memory in memories]):
            keys = torch.stack([self._keys(memories[k], key_turns) for k in members])
            values = self.v_proj(torch.stack([memories[k].tokens for k in members]))
            chosen = queries if len(members) == len(queries) else queries[members]
            results.update(zip(members, attend(chosen, keys, values), strict=True))
        return torch.stack([results[index] for index in range(len(memories))])

    def _keys(self, memory: MemoryTokens, turns: Tensor) -> Tensor:
        """Return the (S, C) keys of a memory; frames are rotated, pointers are not."""
        keys: Tensor = self.k_proj(memory.tokens + memory.positions)
        end = len(keys) - memory.pointers
        frames = keys[:end].view(memory.frames, -1, keys.shape[1])
        first_placed = frames.shape[1] - len(turns)
        placed = rotate(frames[:, first_placed:], turns)
        frames = torch.cat([frames[:, :first_placed], placed], dim=1)
        return torch.cat([frames.flatten(0, 1), keys[end:]])


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from (B, L, C) to (B, S, C) with one head."""
    return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None]).squeeze(1)


def _attend_by_blocks(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend from (L, C) to (S, C) with values (S, M), a block of queries at a time: (L, M)."""
    block = max(1, _BLOCK_BYTES // (len(keys) * queries.element_size()))
    parts = (queries * queries.shape[-1] ** -0.5).split(block)
    return torch.cat([(part @ keys.t()).softmax(-1) @ values for part in parts])
