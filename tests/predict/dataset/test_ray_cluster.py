from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from nexus.core.errors import MissingDependencyError
from nexus.predict.dataset.run import DatasetOptions, generate_dataset
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
