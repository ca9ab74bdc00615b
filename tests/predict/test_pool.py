"""Many items in this process, in several and on Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import types
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nexus.predict.processes as processes
from nexus.core.errors import (
    ImageError,
    InputError,
    MissingDependencyError,
    NexusError,
    NexusWarning,
)
from nexus.predict.dataset.run import DatasetOptions, generate_dataset
from nexus.predict.jobs import Job, Outcome
from nexus.predict.pool import Pool
from nexus.predict.processes import share_weights
from nexus.predict.threads import available_cores
from tests.models.tiny import tiny_sam
from tests.predict.chores import (
    Raiser,
    SlowFirst,
    Threads,
    die_at_two,
    jobs,
    no_answer,
    square,
    threads_here,
)
from tests.predict.clusters import Cluster
from tests.predict.painter import Painter, draw_images, tree


@dataclass(frozen=True)
class Product:
    """A product with weights, whose sums are added up in another order by other threads."""

    model: torch.nn.Linear

    def __call__(self, number: int) -> tuple[int, bytes]:
        torch.manual_seed(number)
        with torch.no_grad():
            answer = self.model(torch.randn(3, self.model.in_features))
        return self.model.weight.is_shared(), answer.numpy().tobytes()


def told(outcomes: list[Outcome]) -> dict[str, tuple[Any, str]]:
    """Return result and error of each key."""
    return {each.key: (each.result, str(each.error or "")) for each in outcomes}


@pytest.mark.parametrize("pool", [Pool(), Pool(workers=3)])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_job_is_done_once(pool: Pool) -> None:
    """Whoever does them, each job has an outcome: its result, or what is wrong with its item."""
    outcomes = list(pool.run(jobs(7), square))

    assert len(outcomes) == 7
    assert told(outcomes) == {
        f"{i}.png": (i * i, "")
        if i != 3
        else (None, "expected a number, got 3\nhint: take another")
        for i in range(7)
    }
    assert isinstance(next(each.error for each in outcomes if each.error), ImageError)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_workers_warn_of_comes_back(workers: int) -> None:
    """A warning of Nexus is one here, once for all items, wherever the work was done."""
    twice = [*jobs(6), Job("again", 5)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", UserWarning)
        warnings.filterwarnings("default", category=NexusWarning)
        list(Pool(workers).run(twice, square))

    assert [str(each.message) for each in caught] == ["5 means little"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("not enough memory"), "RuntimeError: not enough memory"),
        (MemoryError(), "MemoryError: "),
        (OSError("gone"), "OSError: gone"),
        (InputError("expected x, got y", hint="z"), "expected x, got y\nhint: z"),
    ],
)
def test_an_item_that_fails_is_told(error: Exception, message: str) -> None:
    """What one item can be to blame for becomes its outcome, without what it held in memory."""
    (outcome,) = Pool().run(jobs(1), Raiser(error))

    assert outcome.result is None
    assert str(outcome.error) == message
    assert outcome.error is not None
    assert outcome.error.__traceback__ is None


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_the_work_is_raised(workers: int) -> None:
    """A TypeError is no item's fault: it ends the run, in workers as well."""
    with pytest.raises(TypeError, match="mistake"):
        list(Pool(workers).run(jobs(3), Raiser(TypeError("mistake"))))


def test_a_worker_that_dies_is_told_with_its_job() -> None:
    """A process that is gone is an error that names what it had, and says what to do."""
    with pytest.raises(NexusError, match=r"got one that died at 'in/2\.png'") as caught:
        list(Pool(workers=2).run(jobs(4), die_at_two))

    assert "fewer workers" in str(caught.value.hint)
    assert "__main__" in str(caught.value.hint)


def test_what_cannot_travel_is_refused() -> None:
    """Work, items and results of functions made inside a function cannot be sent."""
    local = [Job("a", lambda: 1), Job("b", 2)]

    with pytest.raises(InputError, match="expected work that can be sent to a worker") as caught:
        list(Pool(workers=2).run(jobs(2), lambda number: number))
    assert "`workers=1`" in str(caught.value.hint)
    with pytest.raises(InputError, match="expected functions of 'a' that can be sent to a worker"):
        list(Pool(workers=2).run(local, square))
    with pytest.raises(NexusError, match="a worker failed: Outcome"):
        list(Pool(workers=2).run(jobs(2), no_answer))


def test_a_slow_job_holds_back_no_other(tmp_path: Path) -> None:
    """Outcomes come as they are ready; the next job is begun without waiting for the slow one."""
    outcomes = list(Pool(2).run(jobs(9), SlowFirst(tmp_path, 8)))

    assert outcomes[-1].key == "0.png"
    assert len(outcomes) == 9


def test_no_job_is_begun_too_far_ahead(tmp_path: Path) -> None:
    """With `ahead`, what is done behind a slow job is bounded; all are done in the end."""
    outcomes = list(Pool(2).run(jobs(9), SlowFirst(tmp_path, 3, while_s=0.5), ahead=4))
    keys = [outcome.key for outcome in outcomes]

    assert sorted(keys) == sorted(job.key for job in jobs(9))
    assert keys[:4] == ["1.png", "2.png", "3.png", "0.png"]


def test_threads_are_those_asked_for() -> None:
    """PyTorch is held to them for each job, here and in workers, and let go between jobs.

    In a worker that holds for work that loads PyTorch later on as well.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        run = Pool(threads=2).run(jobs(2), threads_here)
        here = [next(run).result]
        between = torch.get_num_threads()
        here += [each.result for each in run]
        as_is = [each.result for each in Pool().run(jobs(1), threads_here)]
        there = {each.result[1] for each in Pool(2, threads=3).run(jobs(4), Threads())}
        shared = {each.result[1] for each in Pool(2).run(jobs(4), threads_here)}
    finally:
        torch.set_num_threads(before)

    assert here == [(os.getpid(), 2)] * 2
    assert between == 3
    assert as_is == [(os.getpid(), 3)]
    assert there == {3}
    assert shared == {max(1, available_cores() // 2)}


def test_equal_threads_give_equal_bits() -> None:
    """With the same number of threads, workers come to the sums of this process to the last bit."""
    torch.manual_seed(0)
    work = Product(torch.nn.Linear(3000, 17))
    here = told(list(Pool(threads=2).run(jobs(3), work)))
    there = told(list(Pool(2, threads=2).run(jobs(3), work)))

    assert {key: each[0][1] for key, each in there.items()} == {
        key: each[0][1] for key, each in here.items()
    }
    assert all(each[0][0] for each in there.values())


@pytest.mark.parametrize("name", ["workers", "threads"])
@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_a_wrong_number_is_refused(name: str, count: Any) -> None:
    """Workers and threads are counted from 1."""
    with pytest.raises(InputError, match=f"expected a number of {name} of 1 or more, got {count}"):
        Pool(**{name: count})


def test_weights_are_one_piece_of_shared_memory() -> None:
    """Every parameter and buffer lies in it; the model answers as before; twice is once."""
    model, image = tiny_sam(), np.full((40, 60, 3), 90, np.uint8)
    before = model.predict(image, (9, 9)).low_res_logits
    share_weights(model)
    tensors = [*model.parameters(), *model.buffers()]
    pieces = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    share_weights(model)

    assert all(tensor.is_shared() for tensor in tensors)
    assert len(pieces) == 1
    assert {tensor.untyped_storage().data_ptr() for tensor in tensors} == pieces
    assert np.array_equal(model.predict(image, (9, 9)).low_res_logits, before)


def test_shared_weights_keep_their_memory_format() -> None:
    """Weights with the channels last stay so, as others would be added up otherwise."""
    layer = torch.nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    before, strides = layer.weight.detach().clone(), layer.weight.stride()
    share_weights(layer)

    assert layer.weight.stride() == strides
    assert torch.equal(layer.weight, before)


def test_too_little_shared_memory_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Before the copy, which would end the process without a word."""
    monkeypatch.setattr(processes, "_SHARED_FOLDER", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(NexusError, match="MiB of shared memory(.|\n)*--shm-size"):
        share_weights(tiny_sam())


def test_weights_elsewhere_are_not_shared() -> None:
    """Weights on an accelerator are no memory that processes share."""
    with pytest.raises(InputError, match="model on the CPU, got one on meta"):
        share_weights(tiny_sam().to("meta"))


def test_without_ray_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is an extra; where it is not there the error names the extra."""
    monkeypatch.setitem(sys.modules, "ray", None)
    draw_images(tmp_path / "in", 1)

    with pytest.raises(MissingDependencyError, match="expected the package 'ray'") as caught:
        generate_dataset(tmp_path / "in", tmp_path / "out", Painter(), ray="local")
    assert caught.value.hint == "pip install 'nexus-segmentation[ray]'"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_actors_do_every_job_once(cluster: Cluster) -> None:
    """Results and failures are those of this process; a cluster we started is ended."""
    pool = Pool(workers=2, threads=3, ray="local")
    there = list(pool.run(jobs(7), square))
    here = list(Pool().run(jobs(7), square))

    assert [each.key for each in there] == [each.key for each in reversed(here)]
    assert {each.key: each.result for each in there} == {each.key: each.result for each in here}
    assert str(there[3].error) == "expected a number, got 3\nhint: take another"
    assert cluster.started == {}
    assert cluster.asked == {
        "concurrency": 2,
        "num_cpus": 3,
        "num_gpus": 0,
        "started": {
            "address": "local",
            "log_to_driver": False,
            "num_cpus": 6,
            "include_dashboard": False,
        },
    }


def test_a_cluster_that_runs_already_is_left_running(cluster: Cluster) -> None:
    """Who has started Ray ends it; a mistake in the work ends the run."""
    cluster.init(address="mine")
    with pytest.raises(TypeError, match="mistake"):
        list(Pool(ray="ray://elsewhere").run(jobs(1), Raiser(TypeError("mistake"))))

    assert cluster.started == {"address": "mine"}


class OnGpu(Painter):
    """A generator whose model says it is on a GPU."""

    model = types.SimpleNamespace(device="cuda:0")


def test_a_dataset_by_actors_is_the_same(cluster: Cluster, tmp_path: Path) -> None:
    """Two actors come to the dataset of this process; with a model on a GPU each takes one."""
    draw_images(tmp_path / "in", 5)
    one = generate_dataset(tmp_path / "in", tmp_path / "1", OnGpu(), min_predicted_iou=0)
    two = generate_dataset(
        tmp_path / "in", tmp_path / "2", OnGpu(), min_predicted_iou=0, workers=2, ray="local"
    )

    assert one == two
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    assert (cluster.asked["num_gpus"], cluster.asked["concurrency"]) == (1, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_of_two_gives_the_same_dataset(tmp_path: Path) -> None:
    """Two actors on a local cluster come to the dataset, and to the bad image, of a serial run."""
    pytest.importorskip("ray")
    source = tmp_path / "in"
    draw_images(source, 8, corrupt=1)
    options = DatasetOptions(format="png")
    one, two = tmp_path / "1", tmp_path / "2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        serial = generate_dataset(source, one, Painter(), options=options, min_predicted_iou=0)
        spread = generate_dataset(
            source, two, Painter(), options=options, min_predicted_iou=0, workers=2, ray="local"
        )

    assert spread == serial
    assert tree(two) == tree(one)


def test_workers_are_spawned_whatever_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program that chose fork, and has used PyTorch, gets workers that do not hang."""
    script = tmp_path / "forking.py"
    script.write_text(
        "import multiprocessing\n"
        "from nexus.predict.pool import Pool\n"
        "from tests.predict.chores import jobs, has_torch\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('fork')\n"
        "    import torch\n"
        "    torch.ones(999, 999).sum()\n"
        "    outcomes = Pool(workers=2).run(jobs(2), has_torch)\n"
        "    print({each.result for each in outcomes})\n"
    )
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", str(root))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=120
    )

    assert done.stdout == "{False}\n"


def test_no_pool_of_the_package_takes_the_default_start_method() -> None:
    """Who starts processes asks for spawn by name."""
    package = Path(processes.__file__).parents[1]
    texts = {path: path.read_text("utf-8") for path in package.rglob("*.py")}
    starts = ("ProcessPoolExecutor", "multiprocessing.Process", "multiprocessing.Pool", "os.fork")

    assert [path for path, text in texts.items() if any(word in text for word in starts)] == []
    askers = [text for text in texts.values() if "get_context(" in text]
    assert len(askers) == sum('get_context("spawn")' in text for text in askers) == 1
