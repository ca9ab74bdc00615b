from __future__ import annotations

import filecmp
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nexus.core.errors import InputError
from nexus.core.files import uninterrupted
from nexus.data.tracks.track_rows import read_track_csv, read_track_jsonl, read_track_png
from nexus.data.tracks.track_writer import TrackWriter, overlay_tracks, paint_tracks
from nexus.data.video.opening import open_video
from nexus.data.video.video_writer import VideoWriter
from nexus.ops.labels import label_palette

COUNT = 7
SIZE_HW = (4, 6)
IDS = [3, 7]


def masks_of(index: int) -> np.ndarray:
    """Two objects: one moves right by a pixel a frame, the other is gone in frame 4."""
    masks = np.zeros((2, *SIZE_HW), np.bool_)
    masks[0, 1:3, index % 5 : index % 5 + 2] = True
    masks[1, 0:2, 0:3] = index != 4
    return masks


def write(writer: TrackWriter, index: int) -> None:
    writer.write(index, index / 25, IDS, masks_of(index), [0.9, 0.5 + index / 100], [3.5, -1.25])


def written(folder: Path, **options: Any) -> Path:
    with TrackWriter(folder, **options) as writer:
        for index in range(COUNT):
            write(writer, index)
    return folder


def frames_in(folder: Path) -> dict[str, list[int]]:
    """Return the frame numbers of each output."""
    log = (folder / "frames.csv").read_text().splitlines()[1:]
    return {
        "png": sorted(int(path.stem) for path in (folder / "masks").glob("*.png")),
        "jsonl": sorted({row.frame for row in read_track_jsonl(folder / "tracks.jsonl")}),
        "csv": sorted({row.frame for row in read_track_csv(folder / "tracks.csv")}),
        "log": sorted(int(line.split(",")[0]) for line in log),
    }


def same(one: Path, other: Path) -> bool:
    """Say whether two folders hold the same files, byte for byte."""
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    others = sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file())
    return names == others and filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def test_every_output_holds_the_masks(tmp_path: Path) -> None:
    """JSONL gives each mask back, CSV its box, area and scores, PNG the label map."""
    folder = written(tmp_path / "tracks")
    rows = list(read_track_jsonl(folder / "tracks.jsonl"))
    cells = list(read_track_csv(folder / "tracks.csv"))

    assert len(rows) == len(cells) == 2 * COUNT
    for place, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        index, which = divmod(place, 2)
        mask = masks_of(index)[which]
        np.testing.assert_array_equal(row.mask, mask)
        assert (row.frame, row.time_s, row.object_id) == (index, index / 25, IDS[which])
        assert row.area == mask.sum()
        assert row.object_score_logit == [3.5, -1.25][which]
        assert row.iou_score == pytest.approx([0.9, 0.5 + index / 100][which], rel=1e-5)
        assert (cell.frame, cell.time_s, cell.object_id) == (row.frame, row.time_s, row.object_id)
        assert cell.box_xyxy == row.box_xyxy
        assert (cell.area, cell.iou_score) == (row.area, row.iou_score)
        assert cell.object_score_logit == row.object_score_logit
    assert rows[0].box_xyxy == (0, 1, 2, 3)
    assert rows[9].box_xyxy == (0, 0, 0, 0)
    assert rows[9].area == 0
    labels = read_track_png(folder / "masks" / "00000.png")
    assert labels.tolist() == [
        [7, 7, 7, 0, 0, 0],
        [3, 3, 7, 0, 0, 0],
        [3, 3, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_outputs_are_those_asked_for(tmp_path: Path) -> None:
    """Only the formats asked for are written, and `finalise` names them."""
    with TrackWriter(tmp_path / "a", formats=("csv",)) as writer:
        write(writer, 0)
        paths = writer.finalise()
    whole = TrackWriter(tmp_path / "b").finalise()

    assert paths == [tmp_path / "a" / "tracks.csv"]
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["frames.csv", "tracks.csv"]
    assert [path.name for path in whole] == ["masks", "tracks.jsonl", "tracks.csv"]


def test_label_maps_have_the_davis_palette(tmp_path: Path) -> None:
    """PNG are palette images with the colours that DAVIS tools expect."""
    folder = written(tmp_path / "tracks")
    palette = label_palette()
    with Image.open(folder / "masks" / "00000.png") as image:
        mode, stored = image.mode, image.getpalette()

    assert mode == "P"
    assert stored == palette.ravel().tolist()
    assert palette[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert palette[[15, 20, 255]].tolist() == [[192, 128, 128], [0, 64, 128], [224, 224, 192]]
    assert len(np.unique(palette, axis=0)) == 256


def test_the_higher_score_lies_on_top() -> None:
    """Where masks overlap the higher score wins, the first of equal ones, and unknown loses."""
    masks = np.ones((3, 1, 1), np.bool_)

    assert paint_tracks([1, 2, 3], masks, np.array([0.1, 0.9, 0.3])) == 2
    assert paint_tracks([1, 2, 3], masks, np.array([0.5, 0.5, 0.3])) == 1
    assert paint_tracks([1, 2, 3], masks, np.array([np.nan, 0.2, 0.1])) == 2
    assert paint_tracks([1, 2, 3], masks, np.array([np.nan, np.nan, np.nan])) == 1


def test_tensors_and_unknown_scores_are_taken(tmp_path: Path) -> None:
    """Tensors do as arrays do, logits of shape (K, 1) too; scores not known are empty cells."""
    with TrackWriter(tmp_path / "tracks") as writer:
        masks = torch.from_numpy(masks_of(0))
        scores = torch.tensor([0.25, 0.5], dtype=torch.bfloat16, requires_grad=True)
        writer.write(0, 0.0, torch.tensor(IDS), masks, scores, torch.tensor([[1.0], [2.0]]))
        writer.write(1, 0.1, IDS, masks, [float("nan"), 0.5])
    rows = list(read_track_csv(tmp_path / "tracks" / "tracks.csv"))

    assert [row.iou_score for row in rows] == [0.25, 0.5, None, 0.5]
    assert [row.object_score_logit for row in rows] == [1.0, 2.0, None, None]
    assert [row.iou_score for row in read_track_jsonl(tmp_path / "tracks" / "tracks.jsonl")] == [
        0.25,
        0.5,
        None,
        0.5,
    ]


def test_frames_without_objects_count(tmp_path: Path) -> None:
    """A frame in which nothing is tracked has an empty label map, and is a finished frame."""
    with TrackWriter(tmp_path / "tracks") as writer:
        writer.write(0, 0.0, [], np.zeros((0, *SIZE_HW), np.bool_))
        write(writer, 1)
    with TrackWriter(tmp_path / "tracks", resume=True) as writer:
        frames = writer.frames

    assert frames == (0, 1)
    assert frames_in(tmp_path / "tracks")["png"] == [0, 1]
    assert not read_track_png(tmp_path / "tracks" / "masks" / "00000.png").any()


def test_frames_may_come_in_any_order_but_once(tmp_path: Path) -> None:
    """Tracking backward writes earlier frames later; the same frame twice is an error."""
    with TrackWriter(tmp_path / "tracks") as writer:
        for index in (3, 4, 2, 1):
            write(writer, index)
        with pytest.raises(InputError, match="got 4, which is written already"):
            write(writer, 4)

    assert writer.frames == (3, 4, 2, 1)
    assert frames_in(tmp_path / "tracks")["log"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"index": -1}, "got -1, which is negative"),
        ({"index": 1.5}, r"expected whole numbers for a frame and its objects, got 1\.5"),
        ({"object_ids": [3, 3]}, r"expected different object_ids, got \[3, 3\]"),
        ({"object_ids": ["a", "b"]}, "expected whole numbers"),
        ({"object_ids": [3, 256]}, r"in 1\.\.255 for PNG label maps, got 256"),
        ({"object_ids": [0, 1]}, r"in 1\.\.255 for PNG label maps, got 0"),
        ({"object_ids": [3]}, r"K = 1 as the object_ids, got shape \(2, 4, 6\)"),
        ({"masks": masks_of(0).astype(float)}, "and bool, .* float64"),
        ({"masks": masks_of(0)[:, 1:]}, r"masks of \(4, 6\) .* got \(3, 6\)"),
        ({"iou_scores": [1.0]}, r"expected iou_scores of shape \(2,\), got shape \(1,\)"),
        ({"object_score_logits": [1.0]}, "expected object_score_logits of shape"),
    ],
)
def test_what_does_not_fit_writes_nothing(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Wrong arguments are errors, and no output has anything of the frame."""
    good: dict[str, Any] = {"index": 1, "time_s": 0.1, "object_ids": IDS, "masks": masks_of(1)}
    with TrackWriter(tmp_path / "tracks") as writer:
        write(writer, 0)
        with pytest.raises(InputError, match=message):
            writer.write(**{**good, **changed})

    assert set(map(tuple, frames_in(tmp_path / "tracks").values())) == {(0,)}


def test_large_numbers_go_to_jsonl(tmp_path: Path) -> None:
    """Without PNG any whole number may name an object; the PNG error says so."""
    with pytest.raises(InputError) as caught, TrackWriter(tmp_path / "a") as writer:
        writer.write(0, 0.0, [1, 1000], masks_of(0))
    with TrackWriter(tmp_path / "b", formats=["jsonl", "csv"]) as writer:
        writer.write(0, 0.0, [-1, 1000], masks_of(0))

    assert "formats=('jsonl', 'csv')" in str(caught.value.hint)
    rows = read_track_jsonl(tmp_path / "b" / "tracks.jsonl")
    assert [row.object_id for row in rows] == [-1, 1000]


def test_finalised_tracks_are_refused(tmp_path: Path) -> None:
    """After `finalise` nothing can be written."""
    writer = TrackWriter(tmp_path / "tracks")
    writer.finalise()
    writer.finalise()

    with pytest.raises(InputError, match="finalised already"):
        write(writer, 0)


def test_a_folder_with_tracks_is_not_touched(tmp_path: Path) -> None:
    """Existing results are refused unless told to resume or overwrite; other files always stay."""
    folder = written(tmp_path / "tracks")
    (folder / "masks" / "notes.png").write_bytes(b"mine")
    copy = shutil.copytree(folder, tmp_path / "copy")

    with pytest.raises(InputError, match=r"got '.*tracks' with frames\.csv") as caught:
        TrackWriter(folder)
    assert same(folder, copy)
    assert "resume=True" in str(caught.value.hint)
    with TrackWriter(folder, overwrite=True) as writer:
        assert writer.frames == ()
        write(writer, 2)
    assert frames_in_without(folder, "notes") == {(2,)}
    assert (folder / "masks" / "notes.png").read_bytes() == b"mine"


def frames_in_without(folder: Path, name: str) -> set[tuple[int, ...]]:
    """Return the frames of all outputs, a foreign file set aside."""
    foreign = folder / "masks" / f"{name}.png"
    foreign.rename(folder / name)
    found = {tuple(frames) for frames in frames_in(folder).values()}
    (folder / name).rename(foreign)
    return found


def test_what_is_no_folder_of_tracks_is_not_resumed(tmp_path: Path) -> None:
    """Files that only have the names of tracks are neither resumed nor emptied."""
    (tmp_path / "tracks.csv").write_text("mine\n")

    with pytest.raises(InputError, match=r"with tracks\.csv"):
        TrackWriter(tmp_path)
    with pytest.raises(InputError, match=r"expected a folder with frames\.csv to resume"):
        TrackWriter(tmp_path, resume=True)
    assert (tmp_path / "tracks.csv").read_text() == "mine\n"


def test_other_formats_cannot_be_resumed(tmp_path: Path) -> None:
    """A run is resumed with the formats it began with."""
    folder = written(tmp_path / "tracks", formats=("jsonl",))

    with pytest.raises(
        InputError, match="to list png, jsonl, csv, got columns .*width,jsonl_bytes"
    ):
        TrackWriter(folder, resume=True)
    with pytest.raises(InputError, match="formats among png, jsonl, csv, got gif"):
        TrackWriter(tmp_path / "x", formats=["gif"])
    with pytest.raises(InputError, match="got none"):
        TrackWriter(tmp_path / "x", formats=[])


def test_a_new_folder_can_be_resumed(tmp_path: Path) -> None:
    """Resuming where there is nothing yet starts afresh."""
    with TrackWriter(tmp_path / "tracks", resume=True) as writer:
        write(writer, 0)

    assert writer.frames == (0,)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_frame_is_in_all_outputs_or_in_none(
    call: int, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure between two outputs takes the frame back; Ctrl-C lets it be finished."""
    original: Callable[..., int] = TrackWriter._append
    calls = []

    def append(self: TrackWriter, name: str, data: bytes) -> int:
        calls.append(name)
        if len(calls) == 3 * 3 + call + 1:
            if error is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            else:
                original(self, name, data[: len(data) // 2])
                raise OSError(28, "No space left on device")
        return original(self, name, data)

    monkeypatch.setattr(TrackWriter, "_append", append)
    with pytest.raises(error):
        written(tmp_path / "tracks")

    expected = (0, 1, 2, 3) if error is KeyboardInterrupt else (0, 1, 2)
    assert {tuple(frames) for frames in frames_in(tmp_path / "tracks").values()} == {expected}


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("part", ["_picture", "_append", "_write_png"])
@pytest.mark.parametrize("when", [0, 4])
def test_ctrl_c_leaves_video_and_tracks_with_the_same_frames(
    part: str, when: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one uninterrupted block a frame, Ctrl-C anywhere in it leaves equal frame counts."""
    owner = VideoWriter if part == "_picture" else TrackWriter
    original: Callable[..., Any] = getattr(owner, part)

    def interrupted(self: Any, *arguments: Any) -> Any:
        if index == when:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(owner, part, interrupted)
    index = 0

    def run() -> None:
        nonlocal index
        with (
            VideoWriter(tmp_path / "overlay.mp4", SIZE_HW) as video,
            TrackWriter(tmp_path / "tracks") as tracks,
        ):
            for index in range(COUNT):
                with uninterrupted():
                    video.write(np.zeros((*SIZE_HW, 3), np.uint8), index / 25)
                    write(tracks, index)

    with pytest.raises(KeyboardInterrupt):
        run()

    expected = tuple(range(when + 1))
    assert {tuple(frames) for frames in frames_in(tmp_path / "tracks").values()} == {expected}
    with open_video(tmp_path / "overlay.mp4") as written_video:
        assert written_video.frame_count == when + 1


@pytest.mark.parametrize("seed", range(40))
def test_a_crash_at_any_point_can_be_resumed(seed: int, tmp_path: Path) -> None:
    """Whatever bytes a crash leaves of the last frames, resuming ends as an undisturbed run."""
    rng = random.Random(seed)
    whole = written(tmp_path / "whole")
    folder = shutil.copytree(whole, tmp_path / "crashed")
    log = (folder / "frames.csv").read_bytes()
    finished = rng.randrange(COUNT)
    lines = log.split(b"\n")
    cells = lines[finished].split(b",") if finished else []
    unfinished = lines[finished + 1]
    left = rng.choice([0, rng.randrange(len(unfinished)), len(unfinished) - 1, len(unfinished)])
    partial = len(b"\n".join(lines[: finished + 1]) + b"\n") + left
    (folder / "frames.csv").write_bytes(log[:partial])
    for place, name in ((6, "tracks.jsonl"), (7, "tracks.csv")):
        data = (folder / name).read_bytes()
        start = int(cells[place]) if cells else 0
        (folder / name).write_bytes(data[: start + rng.choice([rng.randrange(200), len(data)])])
    for index in range(finished, COUNT):
        path = folder / "masks" / f"{index:05}.png"
        chance = rng.random()
        if chance < 0.3:
            path.unlink()
        elif chance < 0.6:
            path.rename(path.with_name(f".{index:05}.0123456789ab.part.png"))

    with TrackWriter(folder, resume=True) as writer:
        before = writer.frames
        between = {tuple(frames) for frames in frames_in(folder).values()}
        for index in range(len(before), COUNT):
            write(writer, index)

    assert before == tuple(range(finished))
    assert between == {before}
    assert same(folder, whole)


def test_a_missing_file_takes_its_frames_with_it(tmp_path: Path) -> None:
    """A label map that was lost, or is not whole, ends what counts as finished."""
    folder = written(tmp_path / "tracks")
    (folder / "masks" / "00004.png").write_bytes(b"half")

    with TrackWriter(folder, resume=True) as writer:
        assert writer.frames == (0, 1, 2, 3)
    assert {tuple(frames) for frames in frames_in(folder).values()} == {(0, 1, 2, 3)}


def test_resuming_keeps_the_size(tmp_path: Path) -> None:
    """Frames of another size are refused also after a resume."""
    folder = written(tmp_path / "tracks")

    with (
        TrackWriter(folder, resume=True) as writer,
        pytest.raises(InputError, match=r"expected masks of \(4, 6\) .* got \(8, 6\)"),
    ):
        writer.write(COUNT, 1.0, [1], np.zeros((1, 8, 6), np.bool_))


def test_an_object_always_has_its_colour() -> None:
    """The overlay colours an object by its number, whichever others are there."""
    frame = np.full((8, 8, 3), 100, np.uint8)
    masks = np.zeros((2, 8, 8), np.bool_)
    masks[0, 1:3, 1:3] = masks[1, 5:7, 5:7] = True

    both = overlay_tracks(frame, [1, 2], masks)
    swapped = overlay_tracks(frame, [2, 1], masks[::-1])
    alone = overlay_tracks(frame, [2], masks[1:])

    np.testing.assert_array_equal(both, swapped)
    np.testing.assert_array_equal(both[5:7, 5:7], alone[5:7, 5:7])
    assert (both[1, 1] != both[5, 5]).any()
    np.testing.assert_array_equal(both[0], frame[0])
    np.testing.assert_array_equal(overlay_tracks(frame, [], masks[:0]), frame)


def test_the_overlay_shows_the_order_of_the_label_map() -> None:
    """Of two masks on one place the one with the higher score is seen."""
    frame = np.full((8, 8, 3), 100, np.uint8)
    masks = np.ones((2, 8, 8), np.bool_)
    top = overlay_tracks(frame, [1, 2], masks, [0.9, 0.1])[4, 4]
    other = overlay_tracks(frame, [1, 2], masks, [0.1, 0.9])[4, 4]

    assert int(top[2]) - int(top[0]) > 0  # blue
    assert int(other[0]) - int(other[2]) > 0  # orange
