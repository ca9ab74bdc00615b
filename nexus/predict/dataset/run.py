"""Datasets of generated masks, from a folder of images; a killed run goes on where it was.

What is found in an image is a record of the run's ledger. When all are done the files of the
dataset are written from the ledger, in the order of the inputs and each by a rename, so that
however often a run was killed, its result is that of a run that never was.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from nexus.core.choices import entry
from nexus.core.errors import ImageError, InputError, NexusWarning
from nexus.core.files import write_text
from nexus.core.outputs import output_folder
from nexus.core.steps import ProgressLike
from nexus.data.formats.dataset import (
    Dataset,
    DatasetImage,
    InputFile,
    find_images,
    mask_record,
    with_category,
)
from nexus.data.formats.per_dataset import flat_records
from nexus.data.formats.writers import FORMATS, PICTURES, files_of, write_into
from nexus.data.images.loading import DEFAULT_MAX_PIXELS, load_image
from nexus.data.prompt_files import PromptsOfImage
from nexus.models.promptable import PromptableModel
from nexus.predict.automatic.generator import SAMAutomaticMaskGenerator
from nexus.predict.dataset.boxes import (
    OPEN_SETTINGS,
    BoxedImages,
    BoxesLike,
    boxes_of_images,
    categories_with,
    check_prompted,
    records_of_boxes,
)
from nexus.predict.dataset.quality import survey, write_contact_sheet, write_statistics
from nexus.predict.dataset.settings import describe_generator
from nexus.predict.dataset.tally import left_out_by, why_empty
from nexus.predict.jobs import Job
from nexus.predict.ledger import Ledger, file_stamp, open_ledger
from nexus.predict.pool import Pool
from nexus.version import __version__

_SHEET, _STATISTICS, _REPORT = "contact_sheet.png", "statistics.png", "report.json"


class MaskGenerator(Protocol):
    """Whatever makes classic mask records of an image."""

    @property
    def generate(self) -> Callable[..., Sequence[Mapping[str, Any]]]:
        """Take an (H, W, 3) RGB image and return the records of its masks.

        A limit of its own on pixels, if it has one, is an argument `max_pixels`; one that takes
        boxes has an argument `boxes_xyxy`, (K, 4), and names its box on a record as `box_prompt`;
        one that counts what it leaves out does so in an argument `tally`.
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
        for name in self.categories:
            if not (isinstance(name, str) and name.strip() and name.isprintable()):
                raise InputError(f"expected a category with a name on one line, got {name!r:.80}")
        for limit in ("min_predicted_iou", "min_stability_score"):
            value = getattr(self, limit)
            if value is not None and not (value < 1 and math.isfinite(value)):
                raise InputError(
                    f"expected {limit} below 1, got {value!r}",
                    hint="the scores are shares of 1, and masks above the limit stay",
                )
        if not self.min_area >= 0:
            raise InputError(f"expected min_area of at least 0, got {self.min_area!r}")

    def keeps(self, mask: Mapping[str, Any]) -> bool:
        """Return whether a mask record clears the limits."""
        return left_out_by(mask, self) is None


@dataclass(frozen=True)
class DatasetResult:
    """What a run has written.

    Attributes:
        files: What to open: the dataset, then the contact sheet, the statistics and the report.
        report: What stands in report.json.
        skipped: The images that could not be used: `image`, `message`, `hint`.
        records: As `generate_dataset` returns them; empty unless asked for.
        empty: Why there is no mask at all; None if there is one.
    """

    files: list[Path]
    report: dict[str, Any]
    skipped: list[dict[str, str | None]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    empty: str | None = None


def generate_dataset(
    images_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    mask_generator: MaskGenerator | PromptableModel,
    *,
    boxes: BoxesLike | None = None,
    min_predicted_iou: float | Literal["usual"] | None = "usual",
    options: DatasetOptions | None = None,
    workers: int = 1,
    threads: int = 1,
    ray: str | None = None,
    progress: ProgressLike = False,
    overwrite: bool = False,
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
            `SAMAutomaticMaskGenerator`, whose settings then hold; or a model, which gives every box
            its mask, or without boxes has the usual settings.
        boxes: Boxes in place of a grid of points: a CSV or COCO file, or (K, 4) by image name. Each
            gives one mask of its category; images without any are left out, with a warning.
        min_predicted_iou: Leave out masks whose predicted IoU is not above it; None for no limit.
            As 'usual' it is 0.9, and no limit where there are boxes.
        options: The format and further limits; its `min_predicted_iou` does not count here.
        workers: Processes that generate, sharing the memory of the weights.
        threads: Threads of PyTorch in each. The masks are the same for any number of workers; with
            another number of threads scores differ in their last digits and masks in a pixel now
            and then.
        ray: Generate on a Ray cluster: its address, or "local" for one of this machine.
        progress: Show images done and the time that is left on stderr; or a function of images done
            and images in all.
        overwrite: Remove what Nexus made in the folder and begin anew, and replace files of others.

    Returns:
        One dict for each mask that was kept, in the order of the images: `image_id` (the image's
        name without its ending, with its folders where two are alike), `mask_id`, `bbox`, `area`,
        `segmentation` (compressed COCO RLE), `predicted_iou`, `stability_score`.

    Raises:
        InputError: No images, wrong options or boxes, a folder begun under other settings or with
            files of others that would be replaced, or a model that knows boxes alone without any.
        NexusError: Another run is using the folder, or a worker process died.
        MissingDependencyError: Ray is wanted and not installed.
        OSError: A file cannot be written.
    """
    if isinstance(mask_generator, PromptableModel):
        opened = {} if boxes is None else OPEN_SETTINGS
        mask_generator = SAMAutomaticMaskGenerator(mask_generator, output_mode="coco_rle", **opened)
    if min_predicted_iou == "usual":
        min_predicted_iou = 0.9 if boxes is None else None
    return run_dataset(
        find_inputs_beside(images_dir, output_dir),
        output_dir,
        mask_generator,
        replace(options or DatasetOptions(), min_predicted_iou=min_predicted_iou),
        Pool(workers, threads, ray),
        boxes=boxes,
        progress=progress,
        records=True,
        overwrite=overwrite,
    ).records


def run_dataset(
    images: Sequence[InputFile],
    output_dir: str | os.PathLike[str],
    generator: MaskGenerator,
    options: DatasetOptions,
    pool: Pool,
    *,
    boxes: BoxesLike | None = None,
    progress: ProgressLike = False,
    records: bool = False,
    overwrite: bool = False,
) -> DatasetResult:
    """Generate the masks of the images that are left, and write the dataset.

    All is as in `generate_dataset`, errors too. The images are in the order they have in the
    dataset; with `records` those of all masks are returned, which are then all in memory.
    """
    policy = getattr(getattr(generator, "model", None), "policy", None)
    name = getattr(getattr(generator, "model", None), "variant", "the model")
    check_prompted(policy, name, boxes is not None, "pass boxes=..., or take another model")
    settings = describe_generator(generator)
    boxed = None if boxes is None else _boxed(boxes, images, generator)
    if boxed is not None:
        boxed.warn()
        images = boxed.images
        options = replace(options, categories=categories_with(boxed, options.categories))
        settings["boxes"] = boxed.digest
    jobs = _jobs(images, boxed)
    with (
        output_folder(output_dir, verb="generate", overwrite=overwrite) as outputs,
        open_ledger(outputs, settings) as ledger,
    ):
        beside = [*((_SHEET, _STATISTICS) if options.quality else ()), _REPORT]
        folder = outputs.folder
        outputs.reserve(files_of(images, folder, options.format, options.pictures, beside))
        ledger.fill(jobs, MasksOfFile(generator, options.max_pixels), pool, progress=progress)
        maker = (settings.get("model") or {}).get("variant") or settings["generator"]
        made_by = f"nexus {__version__}, masks of {maker}"
        dataset = Dataset(_Kept(images, ledger, options), options.categories, made_by)
        skipped = ledger.failures_as_json()
        files = write_into(outputs, dataset, options.format, options.pictures)
        found, tally = survey(dataset), _tally(images, ledger, options)
        if options.quality:
            sheet = folder / _SHEET
            files.append(write_contact_sheet(sheet, found, max_pixels=options.max_pixels))
            files.append(write_statistics(folder / _STATISTICS, found))
        report = {
            "made_by": made_by,
            "settings": settings,
            "options": asdict(options),
            "statistics": found.as_json(),
            "left_out": dict(sorted(tally.items())),
            **({} if boxed is None else boxed.as_json()),
            "skipped": skipped,
        }
        files.append(write_text(folder / _REPORT, json.dumps(report, indent=2) + "\n"))
        empty = None if len(found.values["predicted_iou"]) else why_empty(tally, report)
        if progress is not True:
            ledger.warn_of_failures(len(images))
            if empty is not None:
                warnings.warn(empty, NexusWarning, stacklevel=3)
        given = [*flat_records(dataset)] if records else []
        return DatasetResult(files, report, skipped, given, empty)


def find_inputs_beside(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
) -> list[InputFile]:
    """Find the images of a run, none of which may lie in the folder that is written into.

    They could be replaced by results, and results be taken for images.

    Raises:
        InputError: One does, or as in `nexus.data.formats.dataset.find_images`.
    """
    found = find_images(images, leave_out=output_dir)
    folder = Path(output_dir).resolve()
    for image in found:
        if folder in image.path.resolve().parents:
            raise InputError(
                "expected results in a folder without inputs, got "
                f"{str(image.path)!r} in {os.fspath(output_dir)!r}",
                hint="write into another folder",
            )
    return found


@dataclass(frozen=True)
class BoxedFile:
    """An image file and its boxes, for a worker."""

    path: Path
    prompts: PromptsOfImage


def _boxed(boxes: BoxesLike, images: Sequence[InputFile], generator: MaskGenerator) -> BoxedImages:
    """Pair images with boxes, for a generator that takes them."""
    if "boxes_xyxy" not in inspect.signature(generator.generate).parameters:
        raise InputError(
            "expected a generator whose generate takes boxes_xyxy, got "
            f"{type(generator).__name__}, whose does not",
            hint="pass a model, or a SAMAutomaticMaskGenerator",
        )
    return boxes_of_images(boxes, images)


def _jobs(images: Sequence[InputFile], boxed: BoxedImages | None) -> list[Job]:
    jobs = []
    for place, image in enumerate(images):
        path = str(image.path)
        title = path if path.isprintable() else ascii(path)  # which any stream can print
        item = image.path if boxed is None else BoxedFile(image.path, boxed.prompts[place])
        jobs.append(Job(image.file_name, item, title, file_stamp(image.path)))
    return jobs


def _tally(images: Sequence[InputFile], ledger: Ledger, options: DatasetOptions) -> Counter[str]:
    """Count the candidates, and what went by each setting of the generator and each option."""
    tally: Counter[str] = Counter()
    for image in images:
        if image.file_name in ledger:
            record = ledger.read(image.file_name)
            tally.update(record.get("tally", {}))
            went = (left_out_by(mask, options) for mask in record["masks"])
            tally.update(name for name in went if name is not None)
    return tally


@dataclass(frozen=True)
class MasksOfFile:
    """Reads an image and generates its masks: what is done with each file."""

    generator: MaskGenerator
    max_pixels: int | None

    @property
    def model(self) -> Any:
        """The generator's, if it has one."""
        return getattr(self.generator, "model", None)

    def __call__(self, item: Path | BoxedFile) -> dict[str, Any]:
        """Return `size_hw`, `masks` and their `tally` of a file, as JSON values.

        Raises:
            ImageError: The file cannot be read or used, or its name could not be written.
            PromptError: Its boxes do not fit it.
        """
        path = item.path if isinstance(item, BoxedFile) else item
        try:
            str(path).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ImageError(
                f"expected a file name in UTF-8, got {str(path)!a}", hint="rename the file"
            ) from error
        image = load_image(path, max_pixels=self.max_pixels)
        size_hw = (image.shape[0], image.shape[1])
        taken = inspect.signature(self.generator.generate).parameters
        tally: Counter[str] = Counter()
        # A limit of the generator's own does not count: the image has passed that of the run.
        own = {"max_pixels": None, "tally": tally}
        generate = partial(self.generator.generate, **{k: own[k] for k in own if k in taken})
        if isinstance(item, BoxedFile):
            records: Sequence[Mapping[str, Any]] = records_of_boxes(generate, image, item.prompts)
        else:
            records = generate(image)
        masks = [mask_record(record, size_hw) for record in records]
        kept = [mask for mask in masks if mask["area"]]
        tally["without_pixels"] += len(masks) - len(kept)
        went = {name: count for name, count in sorted(tally.items()) if count}
        return {"size_hw": list(size_hw), "masks": kept, **({"tally": went} if went else {})}


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
