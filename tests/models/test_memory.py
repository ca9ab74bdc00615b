"""What a frame looks back at."""

from __future__ import annotations

import pytest
import torch

from nexus.models.memory import Recall, Remembered, recall


def seen(*frames: int) -> dict[int, Remembered]:
    """Remember an object on frames, its memory and pointer filled with the frame's index."""
    return {t: Remembered(torch.full((2, 4), float(t)), torch.full((8,), float(t))) for t in frames}


def frames_of(looked_at: Recall) -> tuple[list[int], list[int]]:
    memories = [int(memory[0, 0]) for memory in looked_at.memories]
    return memories, [int(pointer[0]) for pointer in looked_at.pointers]


def test_prompted_frames_come_first_then_the_six_before() -> None:
    """Memories reach six frames back and pointers fifteen; both take every prompted frame."""
    looked_at = recall(20, seen(0, 25), seen(*range(1, 20)))

    assert frames_of(looked_at) == (
        [0, 25, 14, 15, 16, 17, 18, 19],
        [0, *range(19, 4, -1)],
    )
    assert looked_at.ages == (0, 0, 6, 5, 4, 3, 2, 1)
    assert looked_at.pointer_ages == (20, *range(1, 16))


def test_backwards_the_frames_after_are_recent() -> None:
    """Ages count in the direction of tracking, and a prompted frame behind it is looked at."""
    looked_at = recall(3, seen(1, 5), seen(2, 4, 6), reverse=True)

    assert frames_of(looked_at) == ([1, 5, 6, 4], [5, 4, 6])
    assert looked_at.ages == (0, 0, 3, 1)
    assert looked_at.pointer_ages == (2, 1, 3)


def test_missing_frames_are_left_out() -> None:
    """An object tracked since a short while ago has a short memory."""
    looked_at = recall(9, seen(6), seen(7, 8))

    assert frames_of(looked_at) == ([6, 7, 8], [6, 8, 7])
    assert looked_at.ages == (0, 2, 1)


def test_limits_are_arguments() -> None:
    """Three memories are the prompted frames and two recent ones; three pointers likewise."""
    looked_at = recall(9, seen(0), seen(*range(1, 9)), max_memories=3, max_pointers=3)

    assert frames_of(looked_at) == ([0, 7, 8], [0, 8, 7])


@pytest.mark.parametrize(
    ("most", "kept"), [(None, [0, 4, 8, 20]), (3, [4, 8, 20]), (2, [8, 20]), (1, [8])]
)
def test_the_nearest_prompted_frames_are_kept(most: int | None, kept: list[int]) -> None:
    """One on either side first, then by distance; they stay in the order they came in."""
    looked_at = recall(15, seen(0, 4, 8, 20), {}, max_conditioning=most)

    assert [
        t for t, age in zip(frames_of(looked_at)[0], looked_at.ages, strict=True) if not age
    ] == (kept)


def test_a_prompted_frame_left_out_is_an_ordinary_recent_one() -> None:
    """If it is recent enough it is still looked at, with its age."""
    looked_at = recall(10, seen(7, 9), {}, max_conditioning=1)

    assert frames_of(looked_at) == ([9, 7], [9, 7])
    assert looked_at.ages == (0, 3)
    assert looked_at.pointer_ages == (1, 3)
