"""Datasets of generated masks, from a folder of images; a killed run goes on where it was.

What is found in an image is a record of the run's ledger. When all are done the files of the
dataset are written from the ledger, in the order of the inputs and each by a rename, so that
however often a run was killed, its result is that of a run that never was.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from nexus.core.choices import entry
from nexus.core.errors import ImageError, InputError
from nexus.core.files import write_text
from nexus.data.formats.dataset import (
    Dataset,
    DatasetImage,
    InputFile,
    find_images,
    mask_record,
    with_category,
)
from nexus.data.formats.per_dataset import flat_records
from nexus.data.formats.writers import FORMATS, PICTURES, write_dataset
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, load_image
from nexus.predict.dataset.quality import survey, write_contact_sheet, write_statistics
from nexus.predict.dataset.settings import describe_generator
from nexus.predict.jobs import Job
from nexus.predict.ledger import Ledger, file_stamp, open_ledger
from nexus.predict.pool import Pool
from nexus.version import __version__


class MaskGenerator(Protocol):
    """Whatever makes classic mask records of an image."""

    @property
    def generate(self) -> Callable[..., Sequence[Mapping[str, Any]]]:
        """Take an (H, W, 3) RGB image and return the records of its masks.

        A limit of its own on pixels, if it has one, is an argument `max_pixels`.
        """
        ...


@dataclass(frozen=True)
class DatasetOptions:
    """What becomes of generated masks; may change from run to run without generating anew.

    Attributes:
        format: A name in `nexus.data.formats.writers.FORMATS`.
        min_predicted_iou: Leave out masks whose predicted IoU is not above it; None for no limit.
        min_stability_score: The same for the stability score.
        min_area: Leave out masks of fewer pixels.
        categories: Names; a mask is of the first unless its record has a `category`.
        pictures: "copy", "link" or "none", as in `nexus.data.formats.writers.write_dataset`.
        quality: Draw the contact sheet and the statistics.
        max_pixels: As in `nexus.data.images.load_image`.
    """

    format: str = "records"
    min_predicted_iou: float | None = 0.9
    min_stability_score: float | None = None
    min_area: int = 0
    categories: tuple[str, ...] = ("object",)
    pictures: str = "copy"
    quality: bool = True
    max_pixels: int | None = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        entry(FORMATS, self.format, "a format")
        entry(dict.fromkeys(PICTURES), self.pictures, "pictures")
        if not self.categories or len(set(self.categories)) < len(self.categories):
            raise InputError(f"expected categories of different names, got {self.categories!r}")

    def keeps(self, mask: Mapping[str, Any]) -> bool:
        """Return whether a mask record clears the limits."""
        iou, stability = self.min_predicted_iou, self.min_stability_score
        return (
            mask["area"] >= self.min_area
            and (iou is None or mask["predicted_iou"] > iou)
            and (stability is None or mask["stability_score"] > stability)
        )


@dataclass(frozen=True)
class DatasetResult:
    """What a run has written.

    Attributes:
        files: What to open: the dataset, then the contact sheet, the statistics and the report.
        report: What stands in report.json.
        skipped: The images that could not be used: `image`, `message`, `hint`.
        records: As `generate_dataset` returns them; empty unless asked for.
    """

    files: list[Path]
    report: dict[str, Any]
    skipped: list[dict[str, str | None]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


def generate_dataset(
    images_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    mask_generator: MaskGenerator,
    *,
    min_predicted_iou: float | None = 0.9,
    options: DatasetOptions | None = None,
    workers: int = 1,
    threads: int = 1,
    ray: str | None = None,
    progress: bool = False,
) -> list[dict[str, Any]]:
    """Generate masks for all images of a folder, and write them as a dataset.

    Called again after an interruption or a kill it goes on with the images that are left. An image
    that cannot be used is told in a warning (with `progress`, on stderr), listed in `report.json`
    and passed over.

    Args:
        images_dir: A folder, searched with the folders in it; or files and folders.
        output_dir: Written into: `annotations.json` (or what `options.format` has), `report.json`,
            `contact_sheet.png`, `statistics.png`.
        mask_generator: An object whose `generate(image)` returns classic mask records, such as
            `SAMAutomaticMaskGenerator`.
        min_predicted_iou: Leave out masks whose predicted IoU is not above it; None for no limit.
        options: The format and further limits; its `min_predicted_iou` does not count here.
        workers: Processes that generate, sharing the memory of the weights.
        threads: Threads of PyTorch in each. The masks are the same for any number of workers; with
            another number of threads scores differ in their last digits and masks in a pixel now
            and then.
        ray: Generate on a Ray cluster: its address, or "local" for one of this machine.
        progress: Show images done and the time that is left on stderr.

    Returns:
        One dict for each mask that was kept, in the order of the images: `image_id` (the image's
        name without its ending, with its folders where two are alike), `mask_id`, `bbox`, `area`,
        `segmentation` (compressed COCO RLE), `predicted_iou`, `stability_score`.

    Raises:
        InputError: No images, wrong options, or a folder begun under other settings.
        NexusError: Another run is using the folder, or a worker process died.
        MissingDependencyError: Ray is wanted and not installed.
        OSError: A file cannot be written.
    """
    return run_dataset(
        find_images(images_dir, leave_out=output_dir),
        output_dir,
        mask_generator,
        replace(options or DatasetOptions(), min_predicted_iou=min_predicted_iou),
        Pool(workers, threads, ray),
        progress=progress,
        records=True,
    ).records


def run_dataset(
    images: Sequence[InputFile],
    output_dir: str | os.PathLike[str],
    generator: MaskGenerator,
    options: DatasetOptions,
    pool: Pool,
    *,
    progress: bool = False,
    records: bool = False,
) -> DatasetResult:
    """Generate the masks of the images that are left, and write the dataset.

    All is as in `generate_dataset`, errors too. The images are in the order they have in the
    dataset; with `records` those of all masks are returned, which are then all in memory.
    """
    settings = describe_generator(generator)
    jobs = []
    for image in images:
        path = str(image.path)
        title = path if path.isprintable() else ascii(path)  # which any stream can print
        jobs.append(Job(image.file_name, image.path, title, file_stamp(image.path)))
    with open_ledger(output_dir, settings) as ledger:
        ledger.fill(jobs, MasksOfFile(generator, options.max_pixels), pool, progress=progress)
        maker = (settings.get("model") or {}).get("variant") or settings["generator"]
        made_by = f"nexus {__version__}, masks of {maker}"
        dataset = Dataset(_Kept(images, ledger, options), options.categories, made_by)
        folder, skipped = Path(output_dir), ledger.failures_as_json()
        files = write_dataset(dataset, folder, options.format, pictures=options.pictures)
        found = survey(dataset)
        if options.quality:
            sheet = folder / "contact_sheet.png"
            files.append(write_contact_sheet(sheet, found, max_pixels=options.max_pixels))
            files.append(write_statistics(folder / "statistics.png", found))
        report = {
            "made_by": made_by,
            "settings": settings,
            "options": asdict(options),
            "statistics": found.as_json(),
            "skipped": skipped,
        }
        files.append(write_text(folder / "report.json", json.dumps(report, indent=2) + "\n"))
        if not progress:
            ledger.warn_of_failures(len(images))
        return DatasetResult(files, report, skipped, [*flat_records(dataset)] if records else [])


@dataclass(frozen=True)
class MasksOfFile:
    """Reads an image and generates its masks: what is done with each file."""

    generator: MaskGenerator
    max_pixels: int | None

    @property
    def model(self) -> Any:
        """The generator's, if it has one."""
        return getattr(self.generator, "model", None)

    def __call__(self, path: Path) -> dict[str, Any]:
        """Return `size_hw` and `masks` of a file, as JSON values.

        Raises:
            ImageError: The file cannot be read or used, or its name could not be written.
        """
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ImageError(
                f"expected a file name in UTF-8, got {str(path)!a}", hint="rename the file"
            ) from error
        image = load_image(path, max_pixels=self.max_pixels)
        size_hw = (image.shape[0], image.shape[1])
        # A limit of the generator's own does not count: the image has passed that of the run.
        limited = "max_pixels" in inspect.signature(self.generator.generate).parameters
        records = self.generator.generate(image, **({"max_pixels": None} if limited else {}))
        masks = [mask_record(record, size_hw) for record in records]
        return {"size_hw": list(size_hw), "masks": [mask for mask in masks if mask["area"]]}


@dataclass(frozen=True)
class _Kept:
    """The images done, in order, with the masks that clear the limits; read at each walk."""

    images: Sequence[InputFile]
    ledger: Ledger
    options: DatasetOptions

    def __iter__(self) -> Iterator[DatasetImage]:
        for image in self.images:
            if image.file_name in self.ledger:
                record = self.ledger.read(image.file_name)
                masks = [
                    with_category(mask, self.options.categories)
                    for mask in record["masks"]
                    if self.options.keeps(mask)
                ]
                height, width = record["size_hw"]
                yield DatasetImage(image, (height, width), masks)
