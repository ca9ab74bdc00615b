"""What `nexus segment` has written into a folder, in this run and in others before it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import InputError
from nexus.core.journal import Journal
from nexus.core.outputs import Outputs
from nexus.version import __version__

if TYPE_CHECKING:
    from nexus.cli.sources import ImageSource
    from nexus.data.formats.coco import CocoImage
    from nexus.data.prompt_files import PromptsOfImage

ANNOTATIONS = "annotations.json"


@dataclass(frozen=True)
class Task:
    """One image, and what is asked of it.

    Attributes:
        source: The image.
        prompts: Its objects.
        name: What files about it are called.
        file_name: What annotations.json calls it.
    """

    source: ImageSource
    prompts: PromptsOfImage
    name: str
    file_name: str

    @property
    def overlay(self) -> str:
        """The file of its overlay."""
        return f"{self.name}.overlay.png"

    def mask(self, number: int) -> str:
        """Return the file of an object's mask."""
        return f"{self.name}.{number}.mask.png"

    @property
    def files(self) -> list[str]:
        """All files about it."""
        return [*(self.mask(each.number) for each in self.prompts.objects), self.overlay]


class Results:
    """The images with results in a folder, each under a name of its own; close it.

    An image keeps its name when it is segmented again, and its results are then replaced; those
    of other images stay, in annotations.json too.

    Raises:
        InputError: The folder's own notes are damaged.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self._journal = Journal(outputs.state / "journal.jsonl", {"verb": "segment"})
        self._known: dict[str, dict[str, Any]] = {}
        for identity in self._journal:
            record = self._journal.read(identity)
            if any((outputs.folder / file).is_file() for file in record["files"]):
                self._known[identity] = {key: record[key] for key in ("stem", "file_name", "files")}

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()

    def plan(
        self, asked: Sequence[tuple[ImageSource, PromptsOfImage]], inputs: Sequence[Path]
    ) -> list[Task]:
        """Give every image its names, and refuse to replace what is not ours.

        Args:
            asked: Images with their prompts.
            inputs: More files that are read.

        Raises:
            InputError: Files would be replaced that no earlier run made, or that this one reads.
        """
        from nexus.data.formats.dataset import own_names

        by_file_name = {record["file_name"]: key for key, record in self._known.items()}
        for source, _ in asked:
            self._take_over(source, by_file_name)
        others = dict(self._known)
        for source, _ in asked:
            others.pop(source.identity, None)
        taken = {record["stem"].casefold() for record in others.values()}
        taken |= {self._known[s.identity]["stem"].casefold() for s, _ in asked if self._has(s)}
        fresh = [source for source, _ in asked if not self._has(source)]
        short, longer = zip(*(source.names for source in fresh), strict=True) if fresh else ((), ())
        names: dict[str, str] = {}
        for source, own, long in zip(fresh, own_names(short, longer), longer, strict=True):
            names[source.identity] = _free(own, long, taken)
            taken.add(names[source.identity].casefold())
        other_files = {record["file_name"] for record in others.values()}
        tasks = []
        for source, prompts in asked:
            known = self._known.get(source.identity, {})
            name = known.get("stem") or names[source.identity]
            file_name = source.file_name
            if file_name in other_files:
                file_name = Path(source.identity).as_posix()
            tasks.append(Task(source, prompts, name, file_name))
        self._check(tasks, inputs)
        return tasks

    def note(
        self, task: Task, size_hw: tuple[int, int], annotations: Sequence[Mapping[str, Any]]
    ) -> None:
        """Remember what was found in an image: annotations with `category` and `model`."""
        record = {"stem": task.name, "file_name": task.file_name, "files": task.files}
        kept = {"size_hw": [*size_hw], "annotations": [*annotations]}
        self._journal.append(task.source.identity, {**record, **kept})
        self._known[task.source.identity] = record

    def finish(self) -> Path:
        """Write annotations.json of all images, and remove what is left over; return its path.

        Raises:
            OSError: It cannot be written.
        """
        from nexus.data.formats.coco import write_coco

        categories: dict[str, None] = {}
        models: dict[str, None] = {}
        for record in self._records():
            for annotation in record["annotations"]:
                categories[annotation["category"]] = models[annotation["model"]] = None
        path = write_coco(
            self._outputs.folder / ANNOTATIONS,
            _Images(self, [*categories]),
            categories=[*categories] or ["object"],
            description=f"nexus {__version__} segment, model {', '.join(models)}",
        )
        kept = (file for record in self._known.values() for file in record["files"])
        self._outputs.remove_stale([ANNOTATIONS, *kept])
        return path

    def _records(self) -> Iterator[dict[str, Any]]:
        for identity in self._known:
            yield self._journal.read(identity)

    def _has(self, source: ImageSource) -> bool:
        return source.identity in self._known

    def _take_over(self, source: ImageSource, listed: Mapping[str, str]) -> None:
        """Know an image again that was moved with the folder it was found from."""
        former = listed.get(source.file_name)
        if source.kind != "file" or self._has(source) or former is None or os.path.lexists(former):
            return
        record = self._known[source.identity] = self._known.pop(former)
        self._journal.append(source.identity, self._journal.read(former))
        self._journal.append(former, {**record, "files": [], "annotations": []})

    def _check(self, tasks: Sequence[Task], inputs: Sequence[Path]) -> None:
        files = [file for task in tasks for file in task.files] + [ANNOTATIONS]
        read = {task.source.path for task in tasks} | {path.resolve() for path in inputs}
        refuse_inputs(self._outputs.folder, files, read)
        self._outputs.reserve(files)


def refuse_inputs(folder: Path, files: Sequence[str], inputs: set[Path | None]) -> None:
    """Refuse to write or remove files in a folder that are read as well.

    Raises:
        InputError: One of the inputs, resolved paths, is such a file.
    """
    place = folder.resolve()
    for file in files:
        if place / file in inputs:
            raise InputError(
                f"expected results that replace no input, got {str(place / file)!r} as both",
                hint="write into another folder: --out DIR",
            )


@dataclass(frozen=True)
class _Images:
    """The images of a folder as those of a COCO file, read anew each time they are gone over."""

    results: Results
    categories: Sequence[str]

    def __iter__(self) -> Iterator[CocoImage]:
        from nexus.data.formats.coco import CocoImage

        numbers = {name: number for number, name in enumerate(self.categories, 1)}
        for record in self.results._records():
            annotations = []
            for annotation in record["annotations"]:
                rest = {k: v for k, v in annotation.items() if k not in ("category", "model")}
                annotations.append({**rest, "category_id": numbers[annotation["category"]]})
            height, width = record["size_hw"]
            yield CocoImage(record["file_name"], (height, width), annotations)


def _free(name: str, longer: str, taken: set[str]) -> str:
    """Return the first of a name, the longer one, and that with a number, that is not taken."""
    if name.casefold() not in taken:
        return name
    if longer.casefold() not in taken:
        return longer
    number = 1
    while f"{longer}-{number}".casefold() in taken:
        number += 1
    return f"{longer}-{number}"
