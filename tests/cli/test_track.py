from __future__ import annotations

import dataclasses
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import nexus.models.cv
from nexus.cli.main import app
from nexus.core.errors import NexusWarning
from nexus.core.types.masks import FrameMasks
from nexus.data.images.loading import load_image, read_mask
from nexus.data.tracks.track_rows import read_track_csv, read_track_jsonl, read_track_png
from nexus.data.video.opening import open_video
from nexus.data.video.video_writer import VideoWriter
from nexus.predict.tracking.outputs import TrackOutputs
from tests.cli import tracking
from tests.cli.tracking import SquareModel
from tests.models.tiny_sam2 import TINY_SAM2, tiny_sam2

COUNT, SIZE = 12, (48, 64)
TIMES = [Fraction(index * (index + 9), 300) for index in range(60)]  # a rate that varies


def frames(count: int) -> np.ndarray:
    """Return grey frames with some texture, each brighter than the one before."""
    noise = np.random.default_rng(0).integers(0, 60, (*SIZE, 3))
    return np.stack([noise + 2 * index for index in range(count)]).astype(np.uint8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Return a clip of 12 frames whose rate varies."""
    return write_clip(tmp_path / "clip.mp4", COUNT)


def write_clip(path: Path, count: int) -> Path:
    with VideoWriter(path, SIZE) as video:
        for frame, moment in zip(frames(count), TIMES, strict=False):
            video.write(frame, float(moment))
    return path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> SquareModel:
    """Replace the loading of models by a model that moves squares."""
    squares = SquareModel()
    monkeypatch.setattr(nexus.models.cv, "load_model", lambda *names, **options: squares)
    return squares


def run(command: str, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["track", *shlex.split(command), *map(str, arguments)])


def counts(out: Path) -> dict[str, list[int]]:
    """Return the frames that each kind of result holds; the overlay by its number of frames."""
    with open_video(out / "overlay.mp4") as overlay:
        shown = [round(overlay.time_s(i) * 1000) for i in range(len(list(overlay)))]
    times = [round(float(moment) * 1000) for moment in TIMES]
    return {
        "overlay": [times.index(moment) for moment in shown],
        "png": sorted(int(path.stem) for path in (out / "masks").iterdir()),
        "jsonl": sorted({row.frame for row in read_track_jsonl(out / "tracks.jsonl")}),
        "csv": sorted({row.frame for row in read_track_csv(out / "tracks.csv")}),
    }


def same(held: dict[str, list[int]], expected: range) -> bool:
    return all(numbers == sorted(expected) for numbers in held.values())


def test_a_run_writes_an_overlay_masks_and_tables(
    model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """Every frame is in every file under its id and time, and stdout names the files."""
    out = tmp_path / "new" / "out"
    result = run("--box 1:2,3,10,11 --point 7:30,20", clip, "--out", out)

    assert result.exit_code == 0, result.output
    names = ["overlay.mp4", "masks", "tracks.jsonl", "tracks.csv", "frames.csv"]
    assert result.stdout.splitlines() == [str(out / name) for name in names]
    assert result.stderr.splitlines()[-1].startswith("track: 12 frames in ")
    assert "frames/s" in result.stderr
    assert same(counts(out), range(COUNT))
    assert sorted(path.name for path in out.iterdir()) == sorted([".nexus", *names, "track.json"])
    rows = list(read_track_jsonl(out / "tracks.jsonl"))
    assert [row.object_id for row in rows] == [1, 7] * COUNT
    assert rows[10].frame == 5
    assert rows[10].time_s == pytest.approx(float(TIMES[5]), abs=1e-5)
    assert rows[10].box_xyxy == (7, 3, 15, 11)
    labels = read_track_png(out / "masks" / "00005.png")
    assert labels[3, 7] == 1
    assert labels[20, 35] == 7
    assert np.count_nonzero(labels) == 128


def test_labels_write_id_and_score_at_each_object(
    clip: Path, model: SquareModel, tmp_path: Path
) -> None:
    """--labels draws more, and needs an overlay to draw on."""
    drawn = {}
    for option in ("", "--labels"):
        out = tmp_path / f"out{option}"
        assert run(f"--box 1:20,20,30,30 {option}", clip, "--out", out).exit_code == 0
        with open_video(out / "overlay.mp4") as video:
            drawn[option] = video[5].astype(int)
    changed = np.abs(drawn["--labels"] - drawn[""]).max(-1) > 60

    assert changed.any(axis=1).sum() >= 9
    refused = run("--box 1:20,20,30,30 --labels --no-overlay", clip, "--out", tmp_path / "x")
    assert refused.exit_code == 2
    assert "expected an overlay to write labels on" in refused.stderr


def test_the_overlay_shows_the_masks_on_the_clip(
    model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """Outside the objects the video is the clip's picture, inside it is tinted."""
    run("--box 1:2,3,10,11", clip, "--out", tmp_path / "out")

    with open_video(tmp_path / "out" / "overlay.mp4") as overlay, open_video(clip) as source:
        drawn, plain = overlay[5].astype(int), source[5].astype(int)
    change = np.abs(drawn - plain).max(axis=2)
    assert change[5:9, 9:13].min() > 25
    assert np.median(change[24:]) < 12


def test_prompts_of_all_frames_come_before_tracking(
    model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """They are added in the order of frames; box and points of one object go together."""
    mask = np.zeros(SIZE, np.uint8)
    mask[10:18, 5:13] = 255
    Image.fromarray(mask).save(tmp_path / "a@1.png")
    result = run(
        "--point 2:30,20@4 --box 2:28,18,40,30@4 --point 2:1,1,0@4 --box 1:2,3,10,11",
        clip,
        *("--mask", f"3:{tmp_path / 'a@1.png'}@2", "--out", tmp_path / "out"),
    )

    assert result.exit_code == 0, result.output
    assert model.session is not None
    first, second, third = model.session.added
    assert first == {"frame_index": 0, "object_id": 1, "box": [2, 3, 10, 11]}
    np.testing.assert_array_equal(second.pop("mask"), mask > 0)
    assert second == {"frame_index": 2, "object_id": 3}
    assert third == {
        "frame_index": 4,
        "object_id": 2,
        "points": [[30, 20], [1, 1]],
        "labels": [1, 0],
        "box": [28, 18, 40, 30],
    }
    assert model.session.calls == [(0, 12, False)]


@pytest.mark.parametrize(
    ("options", "call", "expected"),
    [
        ("", (4, 12, False), range(4, 12)),
        ("--start 2 --stop 6", (2, 6, False), range(2, 6)),
        ("--reverse", (9, None, True), range(9, -1, -1)),
        ("--reverse --start 7 --stop 3", (7, 3, True), range(7, 3, -1)),
    ],
)
def test_frames_are_chosen_by_start_stop_and_reverse(
    options: str,
    call: tuple[int, int | None, bool],
    expected: range,
    model: SquareModel,
    clip: Path,
    tmp_path: Path,
) -> None:
    """From the first prompt on, or back from the last; an overlay always goes forward."""
    out = tmp_path / "out"
    result = run(f"--point 1:20,20@4 --point 2:5,20@9 {options}", clip, "--out", out)

    assert result.exit_code == 0, result.output
    assert model.session is not None
    assert model.session.calls == [call]
    assert same(counts(out), expected)
    assert [row.frame for row in read_track_csv(out / "tracks.csv")][::2] == list(expected)


@pytest.mark.parametrize(("formats", "missing"), [("png", "tracks.jsonl"), ("jsonl", "masks")])
def test_only_the_formats_asked_for_are_written(
    formats: str, missing: str, model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """--format png or jsonl leaves the other out, --no-overlay the video; the CSV stays."""
    run(f"--point 1:20,20 --format {formats} --no-overlay", clip, "--out", tmp_path / "out")

    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tracks.csv", "frames.csv"} < there
    assert not {missing, "overlay.mp4"} & there


def test_json_is_one_document(model: SquareModel, clip: Path, tmp_path: Path) -> None:
    """--json prints what was asked for and what was made, and no paths beside it."""
    out = tmp_path / "out"
    result = run("--point 1:20,20 --json --input-side 512 --stop 3", clip, "--out", out)
    document = json.loads(result.stdout)

    assert model.input_side == document["input_side"] == 512
    assert document["frames"] == document["frames_asked_for"] == 3
    assert document["size_hw"] == list(SIZE)
    assert document["prompts"] == [{"frame": 0, "object": 1, "points": [[20, 20]], "labels": [1]}]
    assert str(out / "overlay.mp4") in document["files"]


def test_a_folder_of_frames_is_a_clip(model: SquareModel, tmp_path: Path) -> None:
    """Pictures are taken in the order of their names, at 25 a second."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(frames(3)):
        Image.fromarray(frame).save(folder / f"{index}.png")
    result = run("--point 1:20,20", folder, "--out", tmp_path / "out")

    assert result.exit_code == 0, result.output
    rows = list(read_track_csv(tmp_path / "out" / "tracks.csv"))
    assert [row.time_s for row in rows] == [0, 0.04, 0.08]


@pytest.mark.filterwarnings("default::nexus.core.errors.NexusWarning")
def test_a_clip_with_a_cut_off_end_is_tracked_as_far_as_it_goes(
    model: SquareModel, tmp_path: Path
) -> None:
    """The good frames are in every file, stderr says how many, and the exit code is 1."""
    whole = write_clip(tmp_path / "whole.mp4", 40).read_bytes()
    clip = tmp_path / "cut.mp4"
    clip.write_bytes(whole[: len(whole) * 3 // 4])
    result = run("--point 1:20,20", clip, "--out", tmp_path / "out")
    with pytest.warns(NexusWarning), open_video(clip) as source:
        good = source.frame_count or 0

    assert result.exit_code == 1
    assert f"warning: {str(clip)!r}: the file is cut short; it has {good} good" in result.stderr
    assert f"got {good} good ones, which were tracked" in result.stderr
    assert 0 < good < 40
    assert same(counts(tmp_path / "out"), range(good))


@pytest.mark.filterwarnings("default::nexus.core.errors.NexusWarning")
def test_a_cut_off_end_that_is_not_asked_for_is_no_failure(
    model: SquareModel, tmp_path: Path
) -> None:
    """With --stop before the damage, all that was asked for is done."""
    whole = write_clip(tmp_path / "whole.mp4", 40).read_bytes()
    clip = tmp_path / "cut.mp4"
    clip.write_bytes(whole[: len(whole) * 3 // 4])

    assert run("--point 1:20,20 --stop 4", clip, "--out", tmp_path / "out").exit_code == 0


def test_a_frame_that_cannot_be_read_ends_the_run(model: SquareModel, tmp_path: Path) -> None:
    """The frames before it are kept and finished, and the exit code is 1."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(frames(6)):
        Image.fromarray(frame).save(folder / f"{index}.png")
    whole = (folder / "4.png").read_bytes()
    (folder / "4.png").write_bytes(whole[: len(whole) // 2])
    result = run("--point 1:20,20", folder, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert result.stderr.count("error:") == 1
    assert "4.png" in result.stderr
    assert {row.frame for row in read_track_csv(tmp_path / "out" / "tracks.csv")} == {0, 1, 2, 3}
    with open_video(tmp_path / "out" / "overlay.mp4") as overlay:
        assert len(list(overlay)) == 4


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("", 2, "expected at least one --box, --point or --mask, got none"),
        ("--box 1:2,3,10,11 --model lite_medsam", 2, "a model that tracks, got 'lite_medsam'"),
        ("--box 1:2,3,10,11 --model sam9", 2, "sam9"),
        ("--box 1:2,3,10,11@12", 2, "expected a frame number in 0..11"),
        ("--point 1:64.5,3", 2, "expected points inside the image"),
        ("--box 1:10,11,2,3", 2, "expected a box with x0 < x1"),
        ("--box 1:2,3,10,11 --format gif", 2, "expected formats among png, jsonl, got gif"),
        ("--box 256:2,3,10,11", 2, "expected objects numbered 1 to 255 for png, got 256"),
        ("--box 1:2,3,10,11 --stop 13", 2, "expected stop of at most 12"),
        ("--box 1:2,3,10,11@5 --stop 5", 2, "expected stop above the first frame to track, 5"),
        ("--box 1:2,3,10,11 --reverse --stop 0", 2, "expected stop below the first frame"),
        ("--box 1:2,3,10,11 --start 12", 2, "expected a frame number in 0..11"),
        ("--box 300:2,3,10,11 --mask 1:no.png --format jsonl", 2, "no.png"),
    ],
)
def test_wrong_arguments_are_refused_before_a_model_is_loaded(
    command: str,
    code: int,
    message: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message says what was expected, and nothing is written."""
    monkeypatch.delattr(nexus.models.cv, "load_model")
    result = run(command, clip, "--out", tmp_path / "out")

    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_an_object_number_of_any_size_goes_into_jsonl(
    model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """Only label maps end at 255."""
    run("--point 4096:20,20 --format jsonl", clip, "--out", tmp_path / "out")

    assert next(read_track_jsonl(tmp_path / "out" / "tracks.jsonl")).object_id == 4096


@pytest.mark.parametrize(
    ("name", "content"), [("no.mp4", None), ("empty.mp4", b""), ("x.mp4", b"x")]
)
def test_a_clip_that_cannot_be_opened_is_an_input_that_failed(
    name: str, content: bytes | None, tmp_path: Path
) -> None:
    """The exit code is 1, as for an image of `nexus segment`, and the message names it."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run("--box 1:2,3,10,11", tmp_path / name, "--out", tmp_path / "out")

    assert result.exit_code == 1
    assert name in result.stderr


def test_earlier_results_are_not_replaced_unasked(
    model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """Another run into the folder is refused; --overwrite leaves nothing of the first."""
    out = tmp_path / "out"
    run("--point 1:20,20", clip, "--out", out)
    refused = run("--point 1:20,20 --stop 3", clip, "--out", out)
    held = counts(out)
    done = run("--point 1:20,20 --stop 3 --overwrite", clip, "--out", out)

    assert refused.exit_code == 2
    assert "expected stop as in the run to go on with, None, got 3" in refused.stderr
    assert "begin anew with --overwrite" in refused.stderr
    assert same(held, range(COUNT))
    assert done.exit_code == 0
    assert same(counts(out), range(3))


def test_a_prompt_that_is_refused_leaves_earlier_results(
    model: SquareModel, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--overwrite removes nothing before the model has taken all prompts."""
    out = tmp_path / "out"
    run("--point 1:20,20", clip, "--out", out)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr(tracking.MovingSquares, "add", refuse)
    run("--point 1:20,20 --stop 3 --overwrite", clip, "--out", out)

    assert same(counts(out), range(COUNT))


def test_the_clip_is_never_replaced(model: SquareModel, tmp_path: Path) -> None:
    """A clip that is called as the overlay would be is refused in its own folder."""
    clip = write_clip(tmp_path / "overlay.mp4", 3)
    result = run("--point 1:20,20 --overwrite", clip, "--out", tmp_path)

    assert result.exit_code == 2
    assert "expected results that do not replace the clip" in result.stderr


def test_out_must_be_a_folder(clip: Path) -> None:
    """A file in its place is refused."""
    result = run("--point 1:20,20", clip, "--out", clip)

    assert result.exit_code == 2
    assert "expected the output to be a folder" in result.stderr


def interrupted(
    clip: Path, out: Path, options: list[str], after: int, watched: Path | None = None
) -> tuple[int, str, str]:
    """Run the command in a process of its own, and press Ctrl-C after so many frames."""
    masks = (watched or out) / "masks"
    command = [sys.executable, "-W", "error", tracking.__file__, "0.03", "track", str(clip)]
    command += [*options, "--out", str(out)]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root,
        env={"PYTHONPATH": root, "PATH": ""},
    ) as process:  # fmt: skip
        while process.poll() is None:
            if masks.is_dir() and len(list(masks.glob("0*.png"))) >= after:
                process.send_signal(signal.SIGINT)
                break
            time.sleep(0.005)
        stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("reverse", [False, True])
def test_ctrl_c_leaves_whole_files_and_the_same_command_goes_on(
    reverse: bool, tmp_path: Path
) -> None:
    """At a random frame: equal frames in all files, a playable video; then the rest, once each."""
    clip, out = write_clip(tmp_path / "clip.mp4", 40), tmp_path / "out"
    prompt = ["--point", "1:20,20@39" if reverse else "1:20,20", *["--reverse"] * reverse]
    after = int(np.random.default_rng().integers(1, 25))
    code, stdout, stderr = interrupted(clip, out, prompt, after)
    held = counts(out)
    done = len(held["png"])
    again, _, messages = interrupted(clip, out, prompt, 1000)

    assert code == 130, stderr
    assert f"{done} of 40 frames are done, and their files are whole" in stderr
    assert "hint: the same command goes on" in stderr
    assert stderr.endswith("interrupted\n")
    assert str(out / "overlay.mp4") in stdout.splitlines()
    order = range(39, -1, -1) if reverse else range(40)
    assert after <= done < 40
    assert same(held, order[:done])
    assert again == 0, messages
    assert f"({done} of them earlier)" in messages
    assert same(counts(out), order)
    assert [row.frame for row in read_track_csv(out / "tracks.csv")] == list(order)
    assert not (out / "session.safetensors").exists()


def largest_change(out: Path, other: Path) -> float:
    """Return by how much overlays differ in their worst frame on average; encoding is not exact."""
    with open_video(out / "overlay.mp4") as one, open_video(other / "overlay.mp4") as two:
        changes = [np.abs(a.astype(int) - b).mean() for a, b in zip(one, two, strict=True)]
    return float(max(changes))


@pytest.fixture
def stopped(
    model: SquareModel, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Return a function that runs into an interrupt before frame 5, in the folder `out`."""

    def go(options: str = "", kind: type[BaseException] = KeyboardInterrupt) -> Result:
        sleep = tracking.MovingSquares.shown

        def stop(self: Any, index: int) -> Any:
            if index == 5:
                raise kind
            return sleep(self, index)

        with monkeypatch.context() as patch:
            patch.setattr(tracking.MovingSquares, "shown", stop)
            return run(
                f"--point 1:20,20 --box 2:20,20,30,30 {options}", clip, "--out", tmp_path / "out"
            )

    return go


@pytest.mark.parametrize("formats", ["png,jsonl", "png", "jsonl"])
def test_a_resumed_run_gives_what_one_run_gives(
    formats: str, stopped: Callable[..., Result], model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """The session is loaded, not begun again, and tables and masks are equal byte for byte."""
    command = f"--point 1:20,20 --box 2:20,20,30,30 --format {formats}"
    first = stopped(f"--format {formats}")
    result = run(command, clip, "--out", tmp_path / "out")
    assert model.session is not None
    calls, loaded = model.session.calls, model.loaded
    run(command, clip, "--out", tmp_path / "once")

    assert first.exit_code == 130
    assert result.exit_code == 0, result.output
    assert calls == [(5, 12, False)]
    assert loaded == [tmp_path / "out" / "session.safetensors"]
    for name in ("tracks.csv", "tracks.jsonl", "masks/00007.png"):
        once = tmp_path / "once" / name
        if once.exists():
            assert (tmp_path / "out" / name).read_bytes() == once.read_bytes(), name
    # Drawn again from label maps, the lower of two masks that overlap is not whole.
    assert largest_change(tmp_path / "out", tmp_path / "once") < (8 if formats == "png" else 4)


def test_a_run_that_was_killed_resumes_without_its_session(
    stopped: Callable[..., Result], model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """Frames are tracked again up to where it was, and written once."""
    stopped()
    (tmp_path / "out" / "session.safetensors").unlink()
    result = run("--point 1:20,20 --box 2:20,20,30,30", clip, "--out", tmp_path / "out")

    assert result.exit_code == 0, result.output
    assert "no saved session: tracking again what is written already" in result.stderr
    assert model.session is not None
    assert model.session.calls == [(0, 12, False)]
    assert same(counts(tmp_path / "out"), range(COUNT))


@pytest.mark.parametrize("flag", ["", "--resume"])
def test_a_finished_run_started_again_does_nothing(
    flag: str, model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """It prints its results, and no file is touched; the flag of old command lines is taken."""
    first = run("--point 1:20,20", clip, "--out", tmp_path / "out")
    overlay = (tmp_path / "out" / "overlay.mp4").stat().st_mtime_ns
    model.session = None
    result = run(f"--point 1:20,20 {flag}", clip, "--out", tmp_path / "out")

    assert result.exit_code == 0, result.output
    assert result.stdout == first.stdout
    assert model.session is None
    assert (tmp_path / "out" / "overlay.mp4").stat().st_mtime_ns == overlay
    assert same(counts(tmp_path / "out"), range(COUNT))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--box 2:21,20,30,30", "expected prompts as in the run to go on with"),
        ("--box 2:20,20,30,30 --stop 9", "expected stop as in the run to go on with, None, got 9"),
        ("--box 2:20,20,30,30 --no-overlay", "expected overlay as in the run"),
        ("--box 2:20,20,30,30 --model edgetam", "expected model as in the run"),
    ],
)
def test_another_run_is_not_resumed(
    options: str,
    message: str,
    stopped: Callable[..., Result],
    clip: Path,
    tmp_path: Path,
) -> None:
    """What differs is named with both values, and the results stay."""
    stopped()
    result = run(f"--point 1:20,20 {options}", clip, "--out", tmp_path / "out")

    assert result.exit_code == 2
    assert message in result.stderr
    assert same(counts(tmp_path / "out"), range(5))


def test_a_run_without_its_settings_is_not_resumed(
    stopped: Callable[..., Result], clip: Path, tmp_path: Path
) -> None:
    """A track.json that was changed is named, and nothing is touched."""
    stopped()
    (tmp_path / "out" / "track.json").write_text("{")
    result = run("--point 1:20,20 --box 2:20,20,30,30", clip, "--out", tmp_path / "out")

    assert result.exit_code == 2
    assert "with track.json, not made by Nexus or changed since" in result.stderr


def test_an_interrupt_before_the_first_frame_leaves_no_video(
    model: SquareModel, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to show, and --resume starts from the beginning."""

    def interrupt(*arguments: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tracking.MovingSquares, "propagate", interrupt)
        result = run("--point 1:20,20", clip, "--out", tmp_path / "out")
    there = {path.name for path in (tmp_path / "out").iterdir()}
    again = run("--point 1:20,20 --resume", clip, "--out", tmp_path / "out")

    assert result.exit_code == 130
    assert "0 of 12 frames are done" in result.stderr
    assert "overlay.mp4" not in there
    assert again.exit_code == 0, again.output
    assert same(counts(tmp_path / "out"), range(COUNT))


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Return a folder of three clips, one of them broken."""
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / "clips" / name, COUNT)
    (tmp_path / "clips" / "x.mp4").write_bytes(b"x")
    return tmp_path / "clips"


def test_many_clips_have_a_folder_each(model: SquareModel, clips: Path, tmp_path: Path) -> None:
    """Paths of the good ones go to stdout, the broken one to stderr, and the exit code is 1."""
    out = tmp_path / "out"
    result = run("--box 1:2,3,10,11", clips, "--out", out)
    named = run("--box 1:2,3,10,11", clips / "a.mp4", clips / "b.mp4", "--out", out / "named")

    assert result.exit_code == 1
    names = ["overlay.mp4", "masks", "tracks.jsonl", "tracks.csv", "frames.csv"]
    assert result.stdout.splitlines() == [str(out / clip / name) for clip in "ab" for name in names]
    assert "x.mp4: expected a video file" in result.stderr
    assert same(counts(out / "a"), range(COUNT))
    assert same(counts(out / "b"), range(COUNT))
    assert named.exit_code == 0, named.output
    assert same(counts(out / "named" / "b"), range(COUNT))


def test_json_of_many_clips_is_one_document(
    model: SquareModel, clips: Path, tmp_path: Path
) -> None:
    """It has what was made of each clip, and which failed and why; so has a run after it."""
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("clip,object,frame,x,y\na,1,0,20,20\nb.mp4,2,3,20,20\nx,1,0,9,9\n")
    command = f"--prompts {prompts} --no-overlay --json"
    first, second = (run(command, clips, "--out", tmp_path / "out") for _ in range(2))
    document = json.loads(first.stdout)

    assert [clip["frames"] for clip in document["clips"] if clip] == [COUNT, COUNT - 3]
    assert document["clips"][0]["model"] == "sam2.1_hiera_tiny"
    assert document["clips"][1]["prompts"][0]["object"] == 2
    assert [failure["clip"] for failure in document["failed"]] == ["x.mp4"]
    assert json.loads(second.stdout) == document


def test_prompts_come_from_a_file_or_from_the_command(
    model: SquareModel, clip: Path, tmp_path: Path
) -> None:
    """A file does for one clip too; both at once are refused."""
    prompts = tmp_path / "prompts.json"
    prompts.write_text('[{"object": 7, "points": [[20, 20]]}]')
    done = run(f"--prompts {prompts} --stop 2", clip, "--out", tmp_path / "out")
    both = run(f"--prompts {prompts} --point 1:2,2", clip, "--out", tmp_path / "both")

    assert done.exit_code == 0, done.output
    assert next(read_track_csv(tmp_path / "out" / "tracks.csv")).object_id == 7
    assert both.exit_code == 2
    assert "expected --prompts, or --box, --point and --mask, got both" in both.stderr


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_processes_and_the_same_command_goes_on(clips: Path, tmp_path: Path) -> None:
    """In the middle of clips in two processes; then all is as of one run."""
    (clips / "x.mp4").unlink()
    options = ["--point", "1:20,20", "--format", "png", "--no-overlay"]
    out, once = tmp_path / "out", tmp_path / "once"
    watched = out / "a"
    code, _, messages = interrupted(clips, out, [*options, "--workers", "2"], 4, watched)
    begun = counts_of_masks(out)
    again, stdout, later = interrupted(clips, out, options, 1000)
    interrupted(clips, once, options, 1000)

    assert code == 130, messages
    assert messages.endswith("0 of 2 clips are done and kept; the same command goes on with the "
                             "others\ninterrupted\n")  # fmt: skip
    assert 0 < begun < 2 * COUNT
    assert again == 0, later
    assert str(out / "b" / "masks") in stdout.splitlines()
    for path in (once / name for name in ("a/masks/00011.png", "b/tracks.csv", "b/frames.csv")):
        assert (out / path.relative_to(once)).read_bytes() == path.read_bytes()


def counts_of_masks(out: Path) -> int:
    return len(list(out.glob("*/masks/0*.png")))


@pytest.fixture
def swans(shared_data: Path, tmp_path: Path) -> Path:
    """Return a clip of the first frames of a real video, whose rate varies."""
    pictures = sorted((shared_data / "davis16_video" / "blackswan" / "images").glob("*.jpg"))[:10]
    with VideoWriter(tmp_path / "swans.mp4", load_image(pictures[0]).shape[:2]) as video:
        for picture, moment in zip(pictures, TIMES, strict=False):
            video.write(load_image(picture), float(moment))
    return tmp_path / "swans.mp4"


def test_a_real_clip_goes_through_a_real_model(
    swans: Path, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids, times and sizes of a DAVIS clip come out as they went in, and so does a mask given."""
    sam2 = tiny_sam2(config=dataclasses.replace(TINY_SAM2, fill_hole_area=0))
    monkeypatch.setattr(nexus.models.cv, "load_model", lambda *names, **options: sam2)
    truth = shared_data / "davis16_video" / "blackswan" / "masks" / "00000.png"
    out = tmp_path / "out"
    result = run(
        "--box 9:300,100,700,400 --point 4:20,20@3", "--mask", f"1:{truth}", swans, "--out", out
    )
    rows = list(read_track_jsonl(out / "tracks.jsonl"))

    assert result.exit_code == 0, result.output
    assert same(counts(out), range(10))
    assert {row.object_id for row in rows} == {1, 4, 9}
    assert len(rows) == 30
    assert rows[-1].time_s == pytest.approx(float(TIMES[9]), abs=1e-5)
    assert rows[-1].mask.shape == (480, 854)
    first = next(row.mask for row in rows if row.object_id == 1)
    expected = read_mask(truth) > 0
    # The logits of a model of 64 pixels are 16 x 16.
    assert (first & expected).sum() / (first | expected).sum() > 0.6


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("options", ["", "--reverse"])
def test_a_real_session_is_resumed_as_if_it_had_not_stopped(
    options: str, swans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at a random frame and gone on with, masks and scores are those of one run."""
    sam2 = tiny_sam2()
    monkeypatch.setattr(nexus.models.cv, "load_model", lambda *names, **options: sam2)
    command = f"--box 1:300,100,700,400@9 --point 4:20,20@2 {options}"
    after = int(np.random.default_rng().integers(1, 8))
    write = TrackOutputs.write

    def stop(self: TrackOutputs, frame: FrameMasks) -> None:
        write(self, frame)
        if len(self.written) == after:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(TrackOutputs, "write", stop)
        first = run(command, swans, "--out", tmp_path / "out")
    held = len(counts(tmp_path / "out")["overlay"])
    second = run(command, swans, "--out", tmp_path / "out")
    run(command, swans, "--out", tmp_path / "once")

    assert first.exit_code == 130, first.output
    assert held == after
    assert second.exit_code == 0, second.output
    # Memories taken up again are encoded again, in other batches: equal but for rounding.
    resumed = read_track_jsonl(tmp_path / "out" / "tracks.jsonl")
    whole = read_track_jsonl(tmp_path / "once" / "tracks.jsonl")
    for ours, theirs in zip(resumed, whole, strict=True):
        assert (ours.frame, ours.object_id) == (theirs.frame, theirs.object_id)
        assert (ours.mask != theirs.mask).mean() < 1e-3
        assert ours.iou_score == pytest.approx(theirs.iou_score, abs=1e-3)
    assert largest_change(tmp_path / "out", tmp_path / "once") < 4
