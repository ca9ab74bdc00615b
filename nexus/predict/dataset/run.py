"""Datasets of generated masks, from a folder of images; a killed run goes on where it was.

Each finished image is a line of `OUTPUT/.nexus/journal.jsonl`, on the disk before the next is
begun. When all are done the files of the dataset are written from the journal, in the order of the
inputs and each by a rename, so that however often a run was killed, its result is that of a run
that never was. Only this process writes; workers send it what they found.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nexus.core.errors import InputError, NexusWarning
from nexus.core.files import claimed, replacing
from nexus.core.journal import Journal
from nexus.core.progress import Progress
from nexus.data.formats.dataset import Dataset, DatasetImage, InputImage, find_images, with_category
from nexus.data.formats.records import flat_records
from nexus.data.formats.writers import PICTURES, check_format, write_dataset
from nexus.data.images.loading import DEFAULT_MAX_PIXELS
from nexus.predict.dataset.jobs import (
    Job,
    MaskGenerator,
    Outcome,
    run_parallel,
    run_serial,
    stamp_of,
)
from nexus.predict.dataset.quality import survey, write_contact_sheet, write_statistics
from nexus.predict.dataset.settings import describe_generator

"""Folder below the output with the journal, the lock and the lists of files written."""

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{12}\.part(\..+)?")


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
        check_format(self.format)
        if self.pictures not in PICTURES:
            raise InputError(
                f"expected pictures to be one of {', '.join(PICTURES)}, got {self.pictures!r}"
            )
        if not self.categories or len(set(self.categories)) < len(self.categories):
            raise InputError(f"expected categories of different names, got {self.categories!r}")

    def keeps(self, mask: Mapping[str, Any]) -> bool:
        """Return whether a mask record clears the limits."""
        limits = (
            (mask["predicted_iou"], self.min_predicted_iou),
            (mask["stability_score"], self.min_stability_score),
        )
        return mask["area"] >= self.min_area and all(
            limit is None or value > limit for value, limit in limits
        )


@dataclass(frozen=True)
class DatasetResult:
    """What a run has written.

    Attributes:
        files: What to open: the dataset, then the contact sheet, the statistics and the report.
        report: What stands in report.json.
        skipped: The images that could not be used: `image`, `message`, `hint`.
    """

    files: list[Path]
    report: dict[str, Any]
    skipped: list[dict[str, str | None]] = field(default_factory=list)


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
    chosen = {**vars(options or DatasetOptions()), "min_predicted_iou": min_predicted_iou}
    run = DatasetRun(
        find_images(images_dir, leave_out=output_dir), output_dir, DatasetOptions(**chosen)
    )
    with run.open(describe_generator(mask_generator)):
        run.generate(mask_generator, workers=workers, threads=threads, ray=ray, progress=progress)
        result = run.write()
        if result.skipped and not progress:
            first = result.skipped[0]
            warnings.warn(
                f"{len(result.skipped)} of {len(run.images)} images could not be used and are "
                f"listed in report.json; the first: {first['image']}: {first['message']}",
                NexusWarning,
                stacklevel=2,
            )
        return list(flat_records(run.dataset()))


class DatasetRun:
    """One run over the images: open it, generate what is left, write.

    Args:
        images: In the order they have in the dataset.
        output_dir: As in `generate_dataset`.
        options: What becomes of the masks.
    """

    def __init__(
        self,
        images: Sequence[InputImage],
        output_dir: str | os.PathLike[str],
        options: DatasetOptions,
    ) -> None:
        self.images = images
        self.folder = Path(output_dir)
        self.options = options
        self._settings: Mapping[str, Any] = {}
        self._journal: Journal | None = None
        self._failed: dict[int, Outcome] = {}

    @contextlib.contextmanager
    def open(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Hold the output folder's lock and journal for the block.

        Args:
            settings: What the masks depend on; from `describe_generator`.

        Raises:
            InputError: The folder was begun under other settings, or cannot be made.
            NexusError: Another run holds it.
        """
        with claimed(self.folder) as state:
            try:
                self._sweep()
                with Journal(state / "journal.jsonl", settings) as self._journal:
                    self._settings = settings
                    yield
            finally:
                self._journal = None

    def left(self) -> list[Job]:
        """Return the images the journal does not have, or has of another state of the file."""
        journal = self._opened
        jobs = []
        for index, image in enumerate(self.images):
            if image.file_name in journal:
                with contextlib.suppress(OSError):
                    if journal.read(image.file_name)["stamp"] == stamp_of(image.path):
                        continue
            jobs.append(Job(index, image.path, self.options.max_pixels))
        return jobs

    def generate(
        self,
        generator: MaskGenerator,
        *,
        workers: int = 1,
        threads: int = 1,
        ray: str | None = None,
        progress: bool = False,
    ) -> None:
        """Generate the masks of the images that are left, each into the journal at once.

        Raises:
            As `generate_dataset`.
        """
        for name, count in (("workers", workers), ("threads", threads)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InputError(f"expected a number of {name} of 1 or more, got {count!r}")
        jobs = self.left()
        if not jobs:
            return
        outcomes = _start(jobs, generator, workers, threads, ray)
        bar = Progress(len(self.images), unit="images", done=len(self.images) - len(jobs))
        with contextlib.closing(outcomes), bar if progress else contextlib.nullcontext():
            try:
                for outcome in outcomes:
                    self._settle(outcome, bar.say if progress else None)
                    if progress:
                        bar.advance()
            except KeyboardInterrupt:
                if progress:
                    bar.say(
                        f"{len(self._opened)} of {len(self.images)} images are done and kept; "
                        "the same command goes on with the others"
                    )
                raise

    def dataset(self) -> Dataset:
        """Return what the journal has of the images, less the masks the options leave out."""
        return Dataset(_Kept(self), self.options.categories, self._description())

    def write(self) -> DatasetResult:
        """Write the dataset, the contact sheet, the statistics and report.json.

        Raises:
            InputError: A record names a category there is not.
            OSError: A file cannot be written.
        """
        dataset, options = self.dataset(), self.options
        files = write_dataset(dataset, self.folder, options.format, pictures=options.pictures)
        found = survey(dataset)
        if options.quality:
            sheet = self.folder / "contact_sheet.png"
            files.append(write_contact_sheet(sheet, found, max_pixels=options.max_pixels))
            files.append(write_statistics(self.folder / "statistics.png", found))
        skipped = [
            {
                "image": self.images[index].file_name,
                "message": outcome.message,
                "hint": outcome.hint,
            }
            for index, outcome in sorted(self._failed.items())
        ]
        report = {
            "made_by": dataset.description,
            "settings": self._settings,
            "options": asdict(options),
            "statistics": found.as_json(),
            "skipped": skipped,
        }
        files.append(self.folder / "report.json")
        with replacing(files[-1]) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        return DatasetResult(files, report, skipped)

    @property
    def _opened(self) -> Journal:
        if self._journal is None:
            raise InputError("expected an opened run, got one outside `with run.open(...)`")
        return self._journal

    def _settle(self, outcome: Outcome, say: Any) -> None:
        image = self.images[outcome.index]
        for note in outcome.notes:
            warnings.warn(note, NexusWarning, stacklevel=2)
        if outcome.record is not None:
            self._opened.append(image.file_name, outcome.record)
            return
        # Not journaled: the next run tries again, since the file may have been mended.
        self._failed[outcome.index] = outcome
        if say is not None:
            hint = f"\nhint: {outcome.hint}" if outcome.hint else ""
            say(f"error: {ascii_path(image.path)}: {outcome.message}{hint}")

    def _description(self) -> str:
        from nexus import __version__

        model = self._settings.get("model") or {}
        maker = model.get("variant") or self._settings.get("generator", "")
        return f"nexus {__version__}, masks of {maker}"

    def _sweep(self) -> None:
        """Remove files that a killed run had begun to write."""
        for path in self.folder.rglob(".*.part*"):
            if _UNFINISHED.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)

    def kept(self) -> Iterator[DatasetImage]:
        """Yield the images of the journal in order, with the masks that clear the limits."""
        for index, image in enumerate(self.images):
            if index in self._failed or image.file_name not in self._opened:
                continue
            record = self._opened.read(image.file_name)
            masks = [
                with_category(mask, self.options.categories)
                for mask in record["masks"]
                if self.options.keeps(mask)
            ]
            height, width = record["size_hw"]
            yield DatasetImage(image, (height, width), masks)


@dataclass(frozen=True)
class _Kept:
    """The images of a run, read from the journal each time one goes over them."""

    run: DatasetRun

    def __iter__(self) -> Iterator[DatasetImage]:
        return self.run.kept()


def ascii_path(path: Path) -> str:
    """Return a path that any stream can print."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _start(
    jobs: Sequence[Job], generator: MaskGenerator, workers: int, threads: int, ray: str | None
) -> Generator[Outcome, None, None]:
    if ray is not None:
        from nexus.predict.dataset.ray_cluster import run_on_ray

        return run_on_ray(jobs, generator, address=ray, workers=workers, threads=threads)
    if workers > 1:
        return run_parallel(jobs, generator, workers, threads)
    return run_serial(jobs, generator, threads)
