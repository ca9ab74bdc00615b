"""What a session remembers, and where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nexus.predict.video.memory_bank import HistoryFile, ObjectTrack, Seen

CPU = torch.device("cpu")


def seen(value: float, size: int = 4) -> Seen:
    return Seen(
        torch.full((3,), value),
        value / 10,
        -value,
        prompted=False,
        reverse=True,
        low_res_logits=torch.full((size, size), value),
        memory=torch.full((2, 2), value),
    )


def track(history_bytes: int = 1 << 20, folder: Path | None = None) -> ObjectTrack:
    return ObjectTrack(2, 4, CPU, torch.float32, history_bytes, folder)


def test_a_file_gives_back_what_it_took(tmp_path: Path) -> None:
    """All but memory tokens, frames in any order, the newer of two of one number."""
    file = HistoryFile(tmp_path, 100, (4, 4), 3)
    for index in (7, 3, 50):
        file.write(index, seen(float(index)))
    file.write(3, seen(4.0))
    one = file.read(3)
    head = file.read(50, with_mask=False)

    assert one is not None
    assert one.low_res_logits is not None
    assert torch.equal(one.low_res_logits, torch.full((4, 4), 4.0))
    assert (one.pointer.tolist(), one.memory) == ([4.0] * 3, None)
    assert (one.reverse, one.prompted, one.object_score_logit) == (True, False, -4.0)
    assert head is not None
    assert head.low_res_logits is None
    assert head.iou_score == pytest.approx(5.0)
    assert sorted(file.frames()) == [3, 7, 50]
    assert file.read(4) is None
    assert file.read(107) is None


def test_a_file_is_of_bounded_size(tmp_path: Path) -> None:
    """A newer frame takes the place of an older one, which is then lost."""
    file = HistoryFile(tmp_path, 10, (4, 4), 3)
    for index in range(25):
        file.write(index, seen(float(index)))

    assert sorted(file.frames()) == list(range(15, 25))
    assert file.read(14) is None
    assert file.lost(14)
    assert not file.lost(15)
    assert file._file.seek(0, 2) == 10 * (4 + 3 + 16) * 4


def test_a_closed_file_is_gone(tmp_path: Path) -> None:
    """Nothing stays in its folder, whether it is closed or forgotten."""
    file = HistoryFile(tmp_path, 10, (4, 4), 3)
    file.write(0, seen(1.0))
    file.close()
    HistoryFile(tmp_path, 10, (4, 4), 3).write(0, seen(1.0))

    assert list(tmp_path.iterdir()) == []


def test_a_window_stays_whole() -> None:
    """The newest frames keep memory and mask, some more their pointer, all their mask on disk."""
    one = track()
    for index in range(10):
        one.put(index, seen(float(index)))
    newest, older, oldest = one.get(9), one.get(7, with_mask=False), one.get(2)

    assert newest is not None
    assert newest.memory is not None
    assert older is not None
    assert older.low_res_logits is None
    assert oldest is not None
    assert oldest.low_res_logits is not None
    assert oldest.memory is None
    assert one.frames_of("tracked") == list(range(10))
    assert not one.lost(2)


def test_without_a_file_older_frames_are_forgotten() -> None:
    """As for a camera, whose older frames are never asked for."""
    one = track(history_bytes=0)
    for index in range(10):
        one.put(index, seen(float(index)))

    assert [t for t in range(10) if one.get(t) is not None] == [6, 7, 8, 9]
    assert one.frames_of("tracked") == [8, 9]
    assert not one.lost(2)


def test_settled_frames_stay() -> None:
    """Of what kind they are is told; held ones can be let go."""
    one = track()
    one.put(1, seen(1.0))
    one.put(1, seen(1.0), "held")
    one.put(0, seen(0.0), "conditioning")
    one.put(5, seen(5.0), "corrected")
    before = [one.is_settled(t) for t in (0, 1, 2, 5)]
    one.release_held()

    assert before == [True, True, False, True]
    assert not one.is_settled(1)
    assert one.get(1) is not None
    assert one.frames_of("corrected") == [5]
    assert [set(kind) for kind in one.past([0, 1, 2, 5])] == [{0}, {1, 5}]


def test_a_memory_can_be_given_back() -> None:
    """To a frame on disk as to a settled one."""
    one = track()
    for index in range(6):
        one.put(index, seen(float(index)))
    one.put(9, seen(9.0), "conditioning")
    one.refresh(0, torch.ones(2, 2))
    one.refresh(9, torch.zeros(2, 2))
    again, settled = one.get(0), one.get(9)

    assert again is not None
    assert again.memory is not None
    assert settled is not None
    assert settled.memory is not None
    assert settled.memory.sum() == 0


def test_settled_frames_do_not_keep_their_batch() -> None:
    """A row of sixteen objects is copied, or all sixteen would stay in memory."""
    one, batch = track(), torch.zeros(16, 4, 4)
    row = Seen(batch[0, 0], 0.0, 0.0, True, False, batch[1], batch[2])
    one.put(0, row, "conditioning")
    kept = one.conditioning[0]

    for tensor in (kept.pointer, kept.low_res_logits, kept.memory):
        assert tensor is not None
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_restored_frames_are_of_their_kind() -> None:
    """What `frames_of` gave can be taken over by another track."""
    one = track()
    for kind, index in (("tracked", 2), ("corrected", 3), ("held", 4), ("conditioning", 5)):
        one.put(index, seen(float(index)), kind)

    assert [one.frames_of(kind) for kind in ("conditioning", "corrected", "held", "tracked")] == [
        [5],
        [3],
        [4],
        [2],
    ]
