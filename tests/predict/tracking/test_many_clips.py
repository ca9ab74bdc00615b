from __future__ import annotations

import json
import shutil
import signal
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nexus.core.errors import InputError, NexusError, NexusWarning, VideoError
from nexus.core.files import claimed
from nexus.data.tracks.track_rows import read_track_csv, read_track_jsonl
from nexus.data.video.opening import open_video
from nexus.data.video.video_writer import VideoWriter
from nexus.predict.tracking import ObjectPrompt, TrackOptions, TrackResult, track_video
from tests.cli import tracking
from tests.cli.tracking import SquareModel
from tests.models.tiny_sam2 import tiny_sam2

COUNT, SIZE = 6, (24, 32)
PROMPT = ObjectPrompt(0, 1, [[5, 4]], [1])
NAMES = ["overlay.mp4", "masks", "tracks.jsonl", "tracks.csv", "frames.csv"]
QUIET = TrackOptions(overlay=False)


def frames(seed: int) -> np.ndarray:
    """Return frames of noise, other ones for each seed."""
    return np.random.default_rng(seed).integers(0, 200, (COUNT, *SIZE, 3), dtype=np.uint8)


def write_frames(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames(seed)):
        Image.fromarray(frame).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Return a folder of three clips: a video file, and two folders of frames."""
    folder = tmp_path / "clips"
    folder.mkdir()
    with VideoWriter(folder / "a.mp4", SIZE) as video:
        for index, frame in enumerate(frames(0)):
            video.write(frame, float(Fraction(index, 25)))
    write_frames(folder / "b", 1)
    write_frames(folder / "more" / "c", 2)
    return folder


def tables(out: Path) -> dict[str, bytes]:
    """Return the tracks below a folder, by path; the pictures of a video are not exact."""
    found = [*out.rglob("tracks.*"), *out.rglob("masks/*.png"), *out.rglob("frames.csv")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found}


def frames_done(out: Path) -> list[int]:
    return sorted({row.frame for row in read_track_csv(out / "tracks.csv")})


def test_each_clip_has_a_folder_of_its_own(clips: Path, tmp_path: Path) -> None:
    """All files of each are there, and the result names them and what was made of each clip."""
    out = tmp_path / "out"
    result = track_video(SquareModel(), clips, [PROMPT], out)

    assert [clip.name for clip in result.clips] == ["a.mp4", "b", "more/c"]
    assert not result.failures
    assert result.files == [out / clip / name for clip in "abc" for name in NAMES]
    assert [clip.report["frames"] for clip in result.clips] == [COUNT] * 3
    for clip in "abc":
        assert frames_done(out / clip) == list(range(COUNT))
        with open_video(out / clip / "overlay.mp4") as overlay:
            assert overlay.frame_count == COUNT


def test_one_clip_goes_into_the_folder_itself(clips: Path, tmp_path: Path) -> None:
    """A path, an array and an open source are one clip; its settings lie beside the results."""
    sources: list[Any] = [clips / "a.mp4", frames(0), open_video(clips / "b")]
    for number, source in enumerate(sources):
        out = tmp_path / str(number)
        result = track_video(SquareModel(), source, [PROMPT], out)

        assert result.files == [out / name for name in NAMES]
        assert json.loads((out / "track.json").read_text())["model"] == "SquareModel"
        assert frames_done(out) == list(range(COUNT))


def test_clips_have_prompts_of_their_own(clips: Path, tmp_path: Path) -> None:
    """They are found by the file's name or the clip's; a clip without any stops all."""
    prompts = {"a.mp4": [PROMPT], "b": [ObjectPrompt(2, 7, [[9, 9]], [1])], "c": [PROMPT]}
    (tmp_path / "prompts.json").write_text(
        json.dumps({name: [p.as_json() for p in each] for name, each in prompts.items()})
    )
    track_video(SquareModel(), clips, prompts, tmp_path / "1", QUIET)
    track_video(SquareModel(), clips, tmp_path / "prompts.json", tmp_path / "2", QUIET)

    assert {row.object_id for row in read_track_csv(tmp_path / "1" / "b" / "tracks.csv")} == {7}
    assert frames_done(tmp_path / "1" / "b") == [2, 3, 4, 5]
    assert tables(tmp_path / "1") == tables(tmp_path / "2")
    with pytest.raises(InputError, match="expected at least one prompt for every clip, got none"):
        track_video(SquareModel(), clips, {"a": [PROMPT]}, tmp_path / "3")
    assert not (tmp_path / "3").exists()


def test_a_clip_that_fails_leaves_the_others(clips: Path, tmp_path: Path) -> None:
    """A broken file, a prompt outside, and a frame that cannot be read are each told."""
    (clips / "x.mp4").write_bytes(b"x")
    (clips / "b" / "4.png").write_bytes((clips / "b" / "4.png").read_bytes()[:200])
    prompts = {name: [PROMPT] for name in ("a", "b", "x")} | {"c": [ObjectPrompt(99, 1, [[5, 4]])]}
    with pytest.warns(NexusWarning, match="3 of 4 clips could not .* the first: b: ") as caught:
        result = track_video(SquareModel(), clips, prompts, tmp_path / "out", QUIET)

    assert len(caught) == 1
    assert [clip.name for clip in result.failures] == ["b", "more/c", "x.mp4"]
    assert "4.png" in str(result.failures[0].message)
    assert "expected a frame number in 0..5" in str(result.failures[1].message)
    assert "x.mp4" in str(result.failures[2].message)
    assert frames_done(tmp_path / "out" / "a") == list(range(COUNT))
    assert frames_done(tmp_path / "out" / "b") == list(range(4))
    assert result.failures[0].files[-1] == tmp_path / "out" / "b" / "frames.csv"


def again(clips: Path, out: Path, **options: Any) -> tuple[TrackResult, int]:
    """Run once more; return the result, and the sessions that were opened."""
    model = SquareModel()
    sessions = []
    model.video = lambda *a, **k: sessions.append(1) or SquareModel.video(model, *a, **k)  # type: ignore[method-assign, func-returns-value]
    overwrite = options.pop("overwrite", False)
    options["overlay"] = False
    result = track_video(model, clips, [PROMPT], out, TrackOptions(**options), overwrite=overwrite)
    return result, len(sessions)


def test_a_second_run_does_what_is_left(clips: Path, tmp_path: Path) -> None:
    """Clips that are done are passed over; one that was mended or removed is done, as is a new."""
    out = tmp_path / "out"
    (clips / "x.mp4").write_bytes(b"x")
    with pytest.warns(NexusWarning, match="1 of 4 clips"):
        first, opened = again(clips, out)
    shutil.copy(clips / "a.mp4", clips / "x.mp4")
    second, mended = again(clips, out)
    done = tables(out)
    shutil.rmtree(out / "b")
    _, removed = again(clips, out)
    write_frames(clips / "z", 3)
    third, new = again(clips, out)

    assert (opened, mended, removed, new) == (3, 1, 1, 1)
    assert [bool(clip.message) for clip in first.clips] == [False, False, False, True]
    assert second.clips[:3] == first.clips[:3] == third.clips[:3]
    assert {name: data for name, data in tables(out).items() if name[0] != "z"} == done
    assert again(clips, out)[1] == 0


def test_what_was_asked_for_otherwise_is_not_gone_on_with(clips: Path, tmp_path: Path) -> None:
    """Other options or another model need another folder, other prompts a clip's removal."""
    out = tmp_path / "out"
    again(clips, out)
    done = tables(out)
    with pytest.raises(InputError, match=r"begun, got others: stop 3 \(was None\)"):
        again(clips, out, stop=3)
    with pytest.raises(InputError, match="expected the settings .* model.class 'SAM2'"):
        track_video(tiny_sam2(), clips, [PROMPT], out, QUIET)
    other = {"a": [ObjectPrompt(0, 2, [[5, 4]], [1])], "b": [PROMPT], "c": [PROMPT]}
    with pytest.warns(NexusWarning, match="a.mp4: expected prompts as in the run to go on with"):
        track_video(SquareModel(), clips, other, out, QUIET)

    assert tables(out) == done
    assert again(clips, out, overwrite=True, stop=3)[1] == 3
    assert frames_done(out / "c") == [0, 1, 2]


def test_processes_come_to_the_same(clips: Path, tmp_path: Path) -> None:
    """Two workers write what one run writes, byte for byte, and tell the same failure."""
    (clips / "x.mp4").write_bytes(b"x")
    prompts = [ObjectPrompt(0, 1, box=[4, 4, 16, 14]), ObjectPrompt(2, 4, [[20, 9]], [1])]
    results = []
    for workers in (1, 2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NexusWarning)
            results.append(
                track_video(
                    tiny_sam2(), clips, prompts, tmp_path / str(workers), QUIET,
                    workers=workers, threads=1,
                )
            )  # fmt: skip

    assert [clip.message for clip in results[0].clips] == [
        clip.message for clip in results[1].clips
    ]
    assert len(results[1].failures) == 1
    assert len(tables(tmp_path / "1")) == 3 * (COUNT + 3)
    assert tables(tmp_path / "1") == tables(tmp_path / "2")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_comes_to_the_same(clips: Path, tmp_path: Path) -> None:
    """Two actors on a local cluster write what one run writes."""
    pytest.importorskip("ray")
    track_video(tiny_sam2(), clips, [PROMPT], tmp_path / "1", QUIET, threads=1)
    track_video(
        tiny_sam2(), clips, [PROMPT], tmp_path / "2", QUIET, workers=2, threads=1, ray="local"
    )

    assert tables(tmp_path / "1") == tables(tmp_path / "2")


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that has Ctrl-C pressed before the frame of a number, counted over all."""
    shown, seen = tracking.MovingSquares.shown, []

    def stop(number: int) -> None:
        def interrupted(self: Any, index: int) -> Any:
            seen.append(index)
            if len(seen) == number:
                signal.raise_signal(signal.SIGINT)
            return shown(self, index)

        monkeypatch.setattr(tracking.MovingSquares, "shown", interrupted)

    return stop


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_run_goes_on_within_a_clip(
    clips: Path, tmp_path: Path, stop_at: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Done clips are kept, the one at hand is gone on with from its session, and all is as once."""
    out = tmp_path / "out"
    track_video(SquareModel(), clips, [PROMPT], tmp_path / "once")
    stop_at(1 + COUNT + 4)  # a prompt is answered as well
    with pytest.raises(KeyboardInterrupt):
        track_video(SquareModel(), clips, [PROMPT], out, progress=True)
    held, begun = frames_done(out / "b"), (out / "c").exists()
    model = SquareModel()
    result = track_video(model, clips, [PROMPT], out)

    assert "1 of 3 clips is done and kept; the same command goes on" in capsys.readouterr().err
    assert held == [0, 1, 2]
    assert not begun
    assert model.loaded == [out / "b" / "session.safetensors"]
    assert not result.failures
    assert tables(out) == tables(tmp_path / "once")


@pytest.mark.usefixtures("ctrl_c")
def test_one_clip_goes_on_too(clips: Path, tmp_path: Path, stop_at: Callable[[int], None]) -> None:
    """The same call goes on where it was; the model must be the same."""
    out = tmp_path / "out"
    stop_at(4)
    with pytest.raises(KeyboardInterrupt):
        track_video(SquareModel(), clips / "b", [PROMPT], out)
    held = frames_done(out)
    with pytest.raises(InputError, match="expected model as in the run to go on with"):
        track_video(tiny_sam2(), clips / "b", [PROMPT], out)
    track_video(SquareModel(), clips / "b", [PROMPT], out)

    assert held == [0, 1, 2]
    assert frames_done(out) == list(range(COUNT))


def test_a_clip_that_ends_early_is_told_in_a_warning(clips: Path, tmp_path: Path) -> None:
    """What there is of it is written, and stands on the result with the reason."""
    (clips / "b" / "4.png").write_bytes((clips / "b" / "4.png").read_bytes()[:200])
    with pytest.warns(NexusWarning, match="1 of 1 clip could not be used to their end.*4.png"):
        result = track_video(SquareModel(), clips / "b", [PROMPT], tmp_path / "out")

    assert result.failures == result.clips
    assert result.clips[0].report["frames"] == 4
    assert frames_done(tmp_path / "out") == [0, 1, 2, 3]


def test_wrong_calls_are_refused(clips: Path, tmp_path: Path) -> None:
    """A model for images, a camera, formats there are not, and a folder in use are named."""
    out = tmp_path / "out"
    with pytest.raises(InputError, match="expected a model that tracks, got object"):
        track_video(object(), clips, [PROMPT], out)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="expected a clip that can be read again, got an iterator"):
        track_video(SquareModel(), iter(frames(0)), [PROMPT], out)
    with pytest.raises(InputError, match="expected formats among png, jsonl, got none"):
        TrackOptions(formats=())
    with pytest.raises(InputError, match="expected a number of workers of 1 or more, got 0"):
        track_video(SquareModel(), clips, [PROMPT], out, workers=0)
    for held in (out, out / "b"):
        source = clips if held == out else clips / "b"
        with claimed(held), pytest.raises(NexusError, match="another run is using"):
            track_video(SquareModel(), source, [PROMPT], held)


def test_jsonl_alone_has_masks_for_any_number(clips: Path, tmp_path: Path) -> None:
    """Label maps end at 255; the other format does not."""
    prompt = ObjectPrompt(0, 4096, [[5, 4]], [1])
    options = TrackOptions(formats=("jsonl",), overlay=False)
    track_video(SquareModel(), clips / "b", [prompt], tmp_path / "out", options)

    rows = list(read_track_jsonl(tmp_path / "out" / "tracks.jsonl"))
    assert rows[0].object_id == 4096
    with pytest.raises(InputError, match="expected objects numbered 1 to 255 for png, got 4096"):
        track_video(SquareModel(), clips / "b", [prompt], tmp_path / "png")
