from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock

from nexus.core.errors import ImageError, InputError, NexusError, NexusWarning
from nexus.ops.rle import decode_rle
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.dataset.run import DatasetOptions, MasksOfFile, generate_dataset
from tests.models.tiny import tiny_sam
from tests.predict.painter import Painter, draw_images, tree

ROOT = Path(__file__).parents[2]
KEYS = {"image_id", "mask_id", "bbox", "area", "segmentation", "predicted_iou", "stability_score"}


def start(source: Path, out: Path, format: str, workers: int, slow_s: float) -> subprocess.Popen:
    """Start a run in a process of its own."""
    arguments = [str(source), str(out), format, str(workers), str(slow_s)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.predict.painter", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(out: Path) -> int:
    """Return the lines of a run's journal."""
    journal = out / ".nexus" / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def files(out: Path) -> int:
    """Return the files of a run's result, finished or not."""
    return sum(".nexus" not in path.parts for path in out.rglob("*") if path.is_file())


def wait_until(run: subprocess.Popen, reached: Callable[[], bool]) -> None:
    """Return when something is so, or the process has ended."""
    while run.poll() is None and not reached():
        time.sleep(0.001)


def kill_and_resume(tmp_path: Path, images: int, corrupt: int, kills: int, format: str) -> None:
    """Kill a run again and again, and compare what it comes to with a run that never was.

    Most kills come somewhere in the journal, each later than the one before; the last two while
    the dataset is being written.
    """
    source, whole, broken = (tmp_path / name for name in ("in", "whole", "broken"))
    draw_images(source, images, corrupt)
    chance = random.Random(4)
    undisturbed = start(source, whole, format, 1, 0)
    _, messages = undisturbed.communicate()
    assert undisturbed.returncode == 0
    assert messages.count("error: ") == corrupt
    killed_at = []
    for number in range(kills):
        run = start(source, broken, format, 1 + number % 2, 0.002)
        if number < kills - 2:
            wanted = lines(broken) + chance.randint(1, max(1, images // kills))
            wait_until(run, lambda wanted=wanted: lines(broken) >= wanted)
        else:
            # Of COCO there is a file or two to come, of the others one an image at least.
            wanted = files(broken) + (1 if format == "coco" else chance.randint(1, images // 4))
            wait_until(run, lambda wanted=wanted: files(broken) >= wanted)
        time.sleep(chance.random() * 0.002)
        run.kill()
        run.communicate()
        killed_at.append((run.returncode, lines(broken), files(broken)))
    last = start(source, broken, format, 2, 0)
    last.communicate()

    assert last.returncode == 0
    assert [code for code, _, _ in killed_at] == [-signal.SIGKILL] * kills
    assert any(0 < done < images - corrupt for _, done, _ in killed_at)
    assert any(written for _, _, written in killed_at)
    assert tree(broken) == tree(whole)
    assert not list(broken.rglob("*.part*"))


def test_the_flat_list_is_the_specifications(tmp_path: Path) -> None:
    """A dict a mask, with the image's stem and the masks above the limit, as in the file."""
    draw_images(tmp_path / "in", 4)
    found = generate_dataset(tmp_path / "in", tmp_path / "out", Painter(), min_predicted_iou=0.805)
    every = generate_dataset(tmp_path / "in", tmp_path / "out", Painter(), min_predicted_iou=None)

    assert json.loads((tmp_path / "out" / "annotations.json").read_text()) == every
    assert all(set(record) == KEYS for record in every)
    assert {record["image_id"] for record in every} == {"0000", "0001", "0002", "0003"}
    assert [r["predicted_iou"] for r in found] == [
        r["predicted_iou"] for r in every if r["predicted_iou"] > 0.805
    ]
    assert 0 < len(found) < len(every)
    assert all(decode_rle(r["segmentation"]).sum() == r["area"] for r in every)


def test_a_finished_run_generates_nothing_again(tmp_path: Path) -> None:
    """Called again it calls the generator for new and changed images alone."""
    source, out = tmp_path / "in", tmp_path / "out"
    draw_images(source, 5)
    first, second, third = Painter(), Painter(), Painter()
    before = generate_dataset(source, out, first, min_predicted_iou=0)
    generate_dataset(source, out, second, min_predicted_iou=0)
    (source / "0000.png").write_bytes((source / "0001.png").read_bytes() + b" ")
    (source / "new.png").write_bytes((source / "0001.png").read_bytes())
    after = generate_dataset(source, out, third, min_predicted_iou=0)

    assert (first.calls, second.calls, third.calls) == (5, 0, 2)
    assert [r for r in after if r["image_id"] in ("0002", "0003", "0004")] == [
        r for r in before if r["image_id"] in ("0002", "0003", "0004")
    ]
    assert {r["image_id"] for r in after} == {"0000", "0001", "0002", "0003", "0004", "new"}


def test_an_image_that_is_gone_is_gone_from_the_dataset(tmp_path: Path) -> None:
    """Generated again without one image, the folder is that of a run without it."""
    source, out = tmp_path / "in", tmp_path / "out"
    draw_images(source, 4)
    options = DatasetOptions(format="png")
    generate_dataset(source, out, Painter(), options=options, min_predicted_iou=0)
    (source / "0002.png").unlink()
    generate_dataset(source, out, Painter(), options=options, min_predicted_iou=0)
    generate_dataset(source, tmp_path / "b", Painter(), options=options, min_predicted_iou=0)

    assert tree(out) == tree(tmp_path / "b")


def test_bad_images_are_told_listed_and_passed_over(tmp_path: Path) -> None:
    """One warning for all, report.json lists each, and the next run tries them again."""
    source, out = tmp_path / "in", tmp_path / "out"
    draw_images(source, 6, corrupt=2)
    with pytest.warns(NexusWarning, match=r"2 of 6 images could not be used .* 0001\.png: expec"):
        found = generate_dataset(source, out, Painter(), min_predicted_iou=0)
    skipped = json.loads((out / "report.json").read_text())["skipped"]
    draw_images(source, 6)
    mended = Painter()
    generate_dataset(source, out, mended, min_predicted_iou=0)

    assert {r["image_id"] for r in found} == {"0000", "0002", "0003", "0005"}
    assert [each["image"] for each in skipped] == ["0001.png", "0004.png"]
    assert "whose pixels cannot be decoded" in skipped[0]["message"]
    assert json.loads((out / "report.json").read_text())["skipped"] == []
    assert mended.calls >= 2


def test_other_settings_are_refused(tmp_path: Path) -> None:
    """A folder begun with other settings of the generator says which, and is left alone."""
    draw_images(tmp_path / "in", 2)
    generate_dataset(
        tmp_path / "in", tmp_path / "out", Painter({"points_per_side": 4}), min_predicted_iou=0
    )
    before = tree(tmp_path / "out")

    with pytest.raises(InputError, match=r"settings.points_per_side 8 \(was 4\)") as caught:
        generate_dataset(tmp_path / "in", tmp_path / "out", Painter({"points_per_side": 8}))
    assert "take another folder, or begin anew with `overwrite=True`" in str(caught.value.hint)
    assert tree(tmp_path / "out") == before


def test_format_and_limits_may_change(tmp_path: Path) -> None:
    """Another format or limit is written from the journal, and nothing is generated."""
    source, out = tmp_path / "in", tmp_path / "out"
    draw_images(source, 3)
    generate_dataset(source, out, Painter(), min_predicted_iou=0)
    again = Painter()
    options = DatasetOptions(format="coco", min_area=60, min_stability_score=0.5)
    kept = generate_dataset(source, out, again, options=options, min_predicted_iou=0)
    none = DatasetOptions(min_stability_score=0.97)

    assert again.calls == 0
    assert kept
    assert all(record["area"] >= 60 for record in kept)
    assert len(json.loads((out / "instances.json").read_text())["annotations"]) == len(kept)
    with pytest.warns(NexusWarning, match="min_stability_score 0.97 removed"):
        assert generate_dataset(source, out, again, options=none, min_predicted_iou=0) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    """Two runs cannot write into one folder at a time."""
    draw_images(tmp_path / "in", 1)
    (tmp_path / "out" / ".nexus").mkdir(parents=True)
    with (
        FileLock(tmp_path / "out" / ".nexus" / "lock"),
        pytest.raises(NexusError, match="that another run is using") as caught,
    ):
        generate_dataset(tmp_path / "in", tmp_path / "out", Painter())

    assert "another folder" in str(caught.value.hint)


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    """A file in place of the output folder is an error that names it."""
    draw_images(tmp_path / "in", 1)
    (tmp_path / "out").write_text("")

    with pytest.raises(InputError, match="expected the output to be a folder, got '.*out'"):
        generate_dataset(tmp_path / "in", tmp_path / "out", Painter())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "coca"}, "expected a format among"),
        ({"pictures": "move"}, "expected pictures among copy, link, none, got 'move'"),
        ({"categories": ()}, "expected categories of different names"),
        ({"categories": ("a", "a")}, "expected categories of different names"),
    ],
)
def test_wrong_options(changes: dict[str, Any], message: str) -> None:
    """Options are checked before anything is read."""
    with pytest.raises(InputError, match=message):
        DatasetOptions(**changes)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
@pytest.mark.parametrize("name", ["workers", "threads"])
def test_a_wrong_number_of_workers(name: str, count: Any, tmp_path: Path) -> None:
    """Workers and threads are counted from 1."""
    draw_images(tmp_path / "in", 1)

    with pytest.raises(InputError, match=f"number of {name} of 1 or more"):
        generate_dataset(tmp_path / "in", tmp_path / "out", Painter(), **{name: count})


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupt says how many images are kept, and the next run does the others alone."""
    source, out = tmp_path / "in", tmp_path / "out"
    draw_images(source, 5)

    class Painting(Painter):
        calls_before_ctrl_c = 2

        def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
            if self.calls == self.calls_before_ctrl_c:
                raise KeyboardInterrupt
            return super().generate(image)

    rest = Painting()
    rest.calls_before_ctrl_c = 9
    with pytest.raises(KeyboardInterrupt):
        generate_dataset(source, out, Painting(), progress=True)
    generate_dataset(source, out, rest, min_predicted_iou=0)

    assert "2 of 5 images are done and kept" in capsys.readouterr().err
    assert rest.calls == 3


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With progress a bad image is told at once, and the end says how many were done earlier."""
    draw_images(tmp_path / "in", 4, corrupt=1)
    generate_dataset(tmp_path / "in", tmp_path / "out", Painter(), progress=True)
    shown = capsys.readouterr()

    assert shown.out == ""
    assert "error: " in shown.err
    assert "0001.png" in shown.err
    assert "4 images in" in shown.err


def test_a_file_gives_what_the_ledger_keeps(tmp_path: Path) -> None:
    """The size of the image and its masks as plain values; a mask without a pixel is none."""

    class Empty(Painter):
        def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
            (record,) = super().generate(image)
            return [record, {**record, "segmentation": np.zeros(image.shape[:2], bool)}]

    draw_images(tmp_path, 1)
    record = MasksOfFile(Empty(), None)(tmp_path / "0000.png")

    assert record == json.loads(json.dumps(record))
    assert record["size_hw"] == [36, 48]
    assert len(record["masks"]) == 1


def test_too_large_an_image_is_refused_by_its_header(tmp_path: Path) -> None:
    """The run's limit on pixels is the one that counts, not one of the generator's own."""

    class Limited(Painter):
        def generate(
            self, image: np.ndarray, *, max_pixels: int | None = 1
        ) -> list[dict[str, Any]]:
            if max_pixels is not None:
                raise ValueError("limited")
            return super().generate(image)

    draw_images(tmp_path, 1)

    with pytest.raises(ImageError, match="expected at most 100 pixels"):
        MasksOfFile(Limited(), 100)(tmp_path / "0000.png")
    assert MasksOfFile(Limited(), None)(tmp_path / "0000.png")["masks"]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A file name that is not UTF-8 could not be written into any dataset."""
    with pytest.raises(ImageError, match="expected a file name in UTF-8, got '") as caught:
        MasksOfFile(Painter(), None)(tmp_path / "a\udcff.png")

    assert caught.value.hint == "rename the file"


def test_a_worker_that_dies_is_told_with_its_image(tmp_path: Path) -> None:
    """What the others had done is kept; a generator that cannot travel is refused."""

    class Local(Painter):
        pass

    source, out = tmp_path / "in", tmp_path / "out"
    draw_images(source, 3)

    with pytest.raises(NexusError, match=r"got one that died at '.*in.0002\.png'"):
        generate_dataset(source, out, Painter(crash_on=100), workers=2)
    assert lines(out) > 1
    with pytest.raises(InputError, match="can be sent to a worker process"):
        generate_dataset(source, tmp_path / "local", Local(), workers=2)


@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(threads: int, tmp_path: Path) -> None:
    """A tiny SAM in two processes finds, to the last bit, what it finds in this one.

    PyTorch is held to the threads asked for in both.
    """
    source = tmp_path / "in"
    draw_images(source, 3, size_wh=(80, 60))
    settings = {"points_per_side": 3, "pred_iou_thresh": -9.0, "stability_score_thresh": 0.0}
    settings |= {"box_nms_thresh": 1.0}
    generator = SAMAutomaticMaskGenerator(tiny_sam(), **settings)
    options = {"threads": threads, "min_predicted_iou": None}
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        one = generate_dataset(source, tmp_path / "1", generator, **options)
        two = generate_dataset(source, tmp_path / "2", generator, workers=2, **options)
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)

    assert one == two
    assert len(one) > 30
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert after == 3


def test_workers_give_the_same_bytes(tmp_path: Path) -> None:
    """Two processes come to the dataset that one comes to, whatever order they finish in."""
    source = tmp_path / "in"
    draw_images(source, 12)
    options = DatasetOptions(format="png")
    one = generate_dataset(source, tmp_path / "1", Painter(), options=options, min_predicted_iou=0)
    two = generate_dataset(
        source, tmp_path / "2", Painter(), options=options, min_predicted_iou=0, workers=2
    )

    assert one == two
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_and_resumed_it_is_the_same_dataset(tmp_path: Path) -> None:
    """20 images with 2 corrupt, killed five times: byte for byte an undisturbed run."""
    kill_and_resume(tmp_path, images=20, corrupt=2, kills=5, format="png")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("format", ["png", "coco", "voc"])
def test_two_hundred_images_killed_ten_times(tmp_path: Path, format: str) -> None:
    """200 images with 5 corrupt, killed ten times: byte for byte an undisturbed run."""
    kill_and_resume(tmp_path, images=200, corrupt=5, kills=10, format=format)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """When the run is killed its worker processes end by themselves."""
    draw_images(tmp_path / "in", 30)
    run = start(tmp_path / "in", tmp_path / "out", "records", 2, 0.05)
    wait_until(run, lambda: lines(tmp_path / "out") > 2)
    children = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.communicate()
    _, alive = psutil.wait_procs(children, timeout=30)

    assert len(children) >= 2
    assert alive == []


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_the_workers_without_a_word(tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches all processes; one traceback, of the parent, is all there is."""
    draw_images(tmp_path / "in", 30)
    run = start(tmp_path / "in", tmp_path / "out", "records", 2, 0.05)
    wait_until(run, lambda: lines(tmp_path / "out") > 2)
    family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
    for process in reversed(family):
        process.send_signal(signal.SIGINT)
    _, messages = run.communicate()

    assert messages.count("Traceback") == messages.count("KeyboardInterrupt") == 1
    assert re.search(r"30 images (is|are) done and kept; the same command goes on", messages)
    assert psutil.wait_procs(family[1:], timeout=30)[1] == []
