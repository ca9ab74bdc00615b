from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path

import pytest

from nexus.core.errors import MissingDependencyError
from nexus.predict.dataset.run import DatasetOptions, generate_dataset
from nexus.predict.pool import Pool
from tests.predict.chores import Raiser, jobs, square
from tests.predict.clusters import Cluster
from tests.predict.painter import Painter, draw_images, tree


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
