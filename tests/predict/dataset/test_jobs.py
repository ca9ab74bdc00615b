from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nexus.core.errors import InputError, NexusError, NexusWarning
from nexus.predict.dataset.jobs import Job, run_job, run_parallel, run_serial
from tests.predict.painter import Painter, draw_images


def jobs(folder: Path, max_pixels: int | None = None) -> list[Job]:
    """Return a job for each image."""
    return [Job(i, path, max_pixels) for i, path in enumerate(sorted(folder.iterdir()))]


class Raiser(Painter):
    """Raises what it is given."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        raise self.error


class Warner(Painter):
    """Warns, then finds nothing."""

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        warnings.warn("a point means little", NexusWarning, stacklevel=2)
        return []


class Limited(Painter):
    """Has a limit of its own, which the run switches off."""

    def generate(self, image: np.ndarray, *, max_pixels: int | None = 1) -> list[dict[str, Any]]:
        if max_pixels is not None:
            raise ValueError("limited")
        return super().generate(image)


def test_a_job_gives_what_the_journal_keeps(tmp_path: Path) -> None:
    """The stamp of the file, the size of the image and its masks as plain values."""
    draw_images(tmp_path, 1)
    (job,) = jobs(tmp_path)
    record = run_job(job, Painter()).record

    assert record is not None
    assert record["size_hw"] == [36, 48]
    assert record["stamp"][0] == job.path.stat().st_size
    assert len(record["masks"]) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("not enough memory"), "RuntimeError: not enough memory"),
        (MemoryError(), "MemoryError: "),
        (OSError("gone"), "OSError: gone"),
        (InputError("expected x, got y", hint="z"), "expected x, got y"),
    ],
)
def test_an_image_that_fails_is_told(error: Exception, message: str, tmp_path: Path) -> None:
    """What one image can be to blame for becomes its outcome."""
    draw_images(tmp_path, 1)
    (outcome,) = run_serial(jobs(tmp_path), Raiser(error))

    assert outcome.record is None
    assert outcome.message == message
    assert outcome.hint == ("z" if isinstance(error, InputError) else None)


def test_a_mistake_in_the_generator_is_raised(tmp_path: Path) -> None:
    """A TypeError is no image's fault: it ends the run, in workers as well."""
    draw_images(tmp_path, 2)

    with pytest.raises(TypeError, match="mistake"):
        list(run_serial(jobs(tmp_path), Raiser(TypeError("mistake"))))
    with pytest.raises(TypeError, match="mistake"):
        list(run_parallel(jobs(tmp_path), Raiser(TypeError("mistake")), 2))


def test_too_large_an_image_is_refused_by_its_header(tmp_path: Path) -> None:
    """The run's limit on pixels is the one that counts."""
    draw_images(tmp_path, 1)
    (small,), (large,) = (
        list(run_serial(jobs(tmp_path, limit), Limited())) for limit in (100, None)
    )

    assert "expected at most 100 pixels" in small.message
    assert large.record is not None


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A file name that is not UTF-8 could not be written into any dataset."""
    outcome = run_job(Job(0, tmp_path / "a\udcff.png", None), Painter())

    assert "expected a file name in UTF-8, got '" in outcome.message
    assert outcome.hint == "rename the file"


def test_empty_masks_are_dropped(tmp_path: Path) -> None:
    """A mask without a pixel, as cleaning up can leave, is no mask."""

    class Empty(Painter):
        def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
            (record,) = super().generate(image)
            return [record, {**record, "segmentation": np.zeros(image.shape[:2], bool)}]

    draw_images(tmp_path, 1)
    record = run_job(jobs(tmp_path)[0], Empty()).record

    assert record is not None
    assert len(record["masks"]) == 1


def test_workers_do_every_job_once(tmp_path: Path) -> None:
    """Outcomes come in any order, and are those of the serial run."""
    draw_images(tmp_path, 9, corrupt=3)
    one = list(run_serial(jobs(tmp_path), Painter()))
    two = sorted(run_parallel(jobs(tmp_path), Painter(), 3), key=lambda each: each.index)

    assert two == one


def test_what_workers_warn_of_comes_back(tmp_path: Path) -> None:
    """A warning raised in a worker travels with the outcome."""
    draw_images(tmp_path, 2)
    outcomes = list(run_parallel(jobs(tmp_path), Warner(), 2))

    assert {outcome.notes for outcome in outcomes} == {("a point means little",)}


def test_a_worker_that_dies_is_told_with_its_image(tmp_path: Path) -> None:
    """A process that is gone is an error that names the image it had, and says what to do."""
    draw_images(tmp_path, 3)

    with pytest.raises(NexusError, match=r"got one that died at '.*0002\.png'") as caught:
        list(run_parallel(jobs(tmp_path), Painter(crash_on=100), 2))
    assert "fewer workers" in str(caught.value.hint)


def test_a_generator_that_cannot_travel(tmp_path: Path) -> None:
    """A generator made inside a function cannot be sent, and the error says what can."""

    class Local(Painter):
        pass

    draw_images(tmp_path, 2)

    with pytest.raises(InputError, match="can be sent to a worker process") as caught:
        list(run_parallel(jobs(tmp_path), Local(), 2))
    assert "workers=1" in str(caught.value.hint)


def test_a_serial_run_uses_the_threads_a_worker_would(tmp_path: Path) -> None:
    """PyTorch is held to the number of threads asked for, and let go after the run."""

    class Counter(Painter):
        def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
            seen.append(torch.get_num_threads())
            return super().generate(image)

    seen: list[int] = []
    draw_images(tmp_path, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    list(run_serial(jobs(tmp_path), Counter()))
    list(run_serial(jobs(tmp_path), Counter(), threads=2))
    after = torch.get_num_threads()
    torch.set_num_threads(before)

    assert seen == [1, 2]
    assert after == 3


def test_workers_share_the_weights_of_a_model(tmp_path: Path) -> None:
    """A tiny SAM in two workers finds what it finds in this process."""
    from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
    from tests.models.tiny import tiny_sam

    draw_images(tmp_path, 3)
    settings = {"points_per_side": 4, "pred_iou_thresh": -9.0, "stability_score_thresh": 0.0}
    generator = SAMAutomaticMaskGenerator(tiny_sam(), **settings)
    one = list(run_serial(jobs(tmp_path), generator))
    two = sorted(run_parallel(jobs(tmp_path), generator, 2), key=lambda each: each.index)

    assert [each.record for each in two] == [each.record for each in one]
    assert all(each.record and each.record["masks"] for each in one)
