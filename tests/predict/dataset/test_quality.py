from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nexus.data.formats.dataset import Dataset, DatasetImage, InputFile, mask_record
from nexus.predict.dataset.quality import survey, write_contact_sheet, write_statistics


def dataset(folder: Path, scores: list[list[float]], name: str = "i") -> Dataset:
    """Return an image for each list of scores, with a mask of a row of pixels for each score."""
    images = []
    for index, each in enumerate(scores):
        path = folder / f"{index}.png"
        Image.new("RGB", (20, 10), (60, 60, 60)).save(path)
        masks = []
        for row, score in enumerate(each):
            mask = np.zeros((10, 20), bool)
            mask[row, : row + 1] = True
            record = {"segmentation": mask, "bbox": [0, row, row, 0], "stability_score": 0.9}
            masks.append({**mask_record({**record, "predicted_iou": score}, (10, 20))})
        source = InputFile(path, path.name, f"{name}{index}")
        images.append(DatasetImage(source, (10, 20), masks))
    return Dataset(images)


def test_the_numbers_are_those_of_the_masks(tmp_path: Path) -> None:
    """Counts, and least, median, mean and largest of each quantity."""
    found = survey(dataset(tmp_path, [[0.5, 0.7], [], [0.9]]))
    numbers = found.as_json()

    assert (numbers["images"], numbers["masks"], numbers["images_without_masks"]) == (3, 3, 1)
    assert numbers["predicted_iou"] == pytest.approx(
        {"least": 0.5, "median": 0.7, "mean": 0.7, "largest": 0.9}
    )
    assert numbers["masks_per_image"]["largest"] == 2
    assert numbers["share_of_image"]["least"] == 1 / 200


def test_no_masks_have_no_numbers(tmp_path: Path) -> None:
    """Without masks a quantity is null, and the pictures are drawn all the same."""
    found = survey(dataset(tmp_path, [[], []]))

    assert found.as_json()["predicted_iou"] is None
    assert write_statistics(tmp_path / "s.png", found).is_file()
    assert write_contact_sheet(tmp_path / "c.png", found).is_file()


def test_best_and_worst_come_in_order_one_an_image(tmp_path: Path) -> None:
    """Of each image its best and its worst mask stand for election; twelve of each are shown."""
    scores = [[0.01 * index, 0.5 + 0.01 * index] for index in range(20)]
    found = survey(dataset(tmp_path, scores))

    assert [pick.source.name for pick in found.best] == [f"i{i}" for i in range(19, 7, -1)]
    assert [pick.source.name for pick in found.worst] == [f"i{i}" for i in range(12)]
    assert all(len(pick.masks) == 1 for pick in [*found.best, *found.worst])


def test_of_equal_scores_the_first_images_are_shown(tmp_path: Path) -> None:
    """Ties go by the order of the images, so that the sheet is the same every time."""
    found = survey(dataset(tmp_path, [[0.5]] * 15))

    assert [pick.source.name for pick in found.best] == [f"i{i}" for i in range(12)]
    assert [pick.source.name for pick in found.worst] == [f"i{i}" for i in range(12)]


def test_the_sheet_shows_masks_in_colour(tmp_path: Path) -> None:
    """A tile has the mask's colour, which a grey image does not have."""
    found = survey(dataset(tmp_path, [[0.5, 0.9]]))
    with Image.open(write_contact_sheet(tmp_path / "c.png", found)) as sheet:
        pixels = np.asarray(sheet).astype(int)

    assert (pixels[..., 2] - pixels[..., 0] > 100).any()


def test_the_bars_of_the_plot_grow_with_the_counts(tmp_path: Path) -> None:
    """In the panel of masks per image the bar of the more frequent count is the taller."""
    found = survey(dataset(tmp_path, [[0.5]] * 6 + [[0.5, 0.6]] * 3))
    with Image.open(write_statistics(tmp_path / "s.png", found)) as sheet:
        panel = np.asarray(sheet)[:250, :420].astype(int)
    bars = (panel[..., 2] - panel[..., 0] > 150).sum(0)
    left, right = bars[:210].max(), bars[210:].max()

    assert left == pytest.approx(2 * right, abs=2)


def test_an_image_that_is_gone_leaves_a_blank(tmp_path: Path) -> None:
    """The sheet is drawn although an image was deleted, or replaced by a smaller one, since."""
    found = survey(dataset(tmp_path, [[0.5], [0.6]]))
    (tmp_path / "0.png").unlink()
    Image.new("RGB", (3, 3)).save(tmp_path / "1.png")

    assert write_contact_sheet(tmp_path / "c.png", found).is_file()


def test_names_the_font_cannot_draw(tmp_path: Path) -> None:
    """Long names and other scripts are shortened, not refused."""
    found = survey(dataset(tmp_path, [[0.5]], name="細胞" + "n" * 300))

    assert write_contact_sheet(tmp_path / "c.png", found).is_file()
