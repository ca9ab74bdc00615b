from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import pytest

from nexus.core.errors import ImageError, InputError, NexusError, NexusWarning
from nexus.core.outputs import output_folder
from nexus.predict.jobs import Job
from nexus.predict.ledger import Ledger, file_stamp, open_ledger
from nexus.predict.pool import Pool

SETTINGS = {"points": 4}


@contextlib.contextmanager
def opened(folder: Path | None, settings: Mapping[str, Any]) -> Iterator[Ledger]:
    """Open the ledger of a folder, or one in memory."""
    held = contextlib.nullcontext() if folder is None else output_folder(folder, verb="test")
    with held as outputs, open_ledger(outputs, settings) as ledger:
        yield ledger


def jobs(*items: Any) -> list[Job]:
    """Return a job for each item."""
    return [Job(f"{index}.png", item) for index, item in enumerate(items)]


def record(item: Any) -> dict[str, Any]:
    """Return the item as a record; a word is a bad item, and "stop" is Ctrl-C."""
    if item == "stop":
        raise KeyboardInterrupt
    if isinstance(item, str):
        raise ImageError(f"expected a number, got {item}", hint="mend it")
    if item == 7:
        warnings.warn("7 means little", NexusWarning, stacklevel=2)
    return {"value": item}


def refuse(item: Any) -> dict[str, Any]:
    """Raise: nothing was to be done."""
    raise AssertionError(f"{item} done again")


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    """A second run over more items does the new ones alone, and has the records of all."""
    with opened(tmp_path / "out", SETTINGS) as ledger:
        ledger.fill(jobs(1, 2), record)
    with opened(tmp_path / "out", SETTINGS) as ledger:
        ledger.fill(jobs(1, 2), refuse)
        left = [job.key for job in ledger.left(jobs(1, 2, 3))]
        ledger.fill(jobs(5, 6, 3), record)
        values = [ledger.read(f"{index}.png") for index in range(3)]

    assert left == ["2.png"]
    assert values == [{"value": 1}, {"value": 2}, {"value": 3}]
    assert "3.png" not in ledger


def test_without_a_folder_records_are_kept_in_memory() -> None:
    """The same ledger, of this run alone."""
    with opened(None, SETTINGS) as ledger:
        ledger.fill(jobs(1, "bad", 3), record, Pool(workers=2))

        assert ledger.read("2.png") == {"value": 3}
        assert "1.png" not in ledger
    with pytest.raises(KeyError):
        ledger.read("1.png")


def test_failures_are_tried_again(tmp_path: Path) -> None:
    """They come in the order of the jobs, are warned of once, and have no record."""
    with opened(tmp_path, SETTINGS) as ledger:
        ledger.fill(jobs(1, "x", 2, "y"), record, Pool(workers=2))
        failures = {key: str(error) for key, error in ledger.failures.items()}
        with pytest.warns(
            NexusWarning,
            match=r"2 of 4 images could not be used and are listed in the report; the first: "
            r"1.png: expected a number, got x$",
        ):
            ledger.warn_of_failures(4)
        ledger.fill(jobs(1, 5, 2, "y"), record)
        again = list(ledger.failures)
    with opened(tmp_path, SETTINGS) as ledger:
        left = [job.key for job in ledger.left(jobs(1, 5, 2, "y"))]
        ledger.warn_of_failures(4)

    assert list(failures) == ["1.png", "3.png"]
    assert failures["1.png"] == "expected a number, got x\nhint: mend it"
    assert again == left == ["3.png"]


def test_a_record_of_another_stamp_does_not_count(tmp_path: Path) -> None:
    """A file that has changed is done again; while it fails, its old record is no record."""
    path = tmp_path / "a.png"
    path.write_text("1")

    def job() -> list[Job]:
        return [Job("a", int(path.read_text()) or "bad", stamp=file_stamp(path))]

    with opened(tmp_path / "out", SETTINGS) as ledger:
        ledger.fill(job(), record)
        ledger.fill(job(), refuse)
        path.write_text("22")
        ledger.fill(job(), record)
        second = ledger.read("a")
        path.write_text("000")
        ledger.fill(job(), record)

        assert "a" not in ledger
    assert second["value"] == 22
    assert file_stamp(tmp_path / "none") is None


def test_other_settings_and_second_runs_are_refused(tmp_path: Path) -> None:
    """A folder holds one kind of records, of one run at a time; a file is no folder."""
    (tmp_path / "file").write_text("")
    with opened(tmp_path / "out", SETTINGS) as ledger:
        ledger.fill(jobs(1), record)
    with opened(tmp_path / "out", SETTINGS), pytest.raises(NexusError, match="another run"):
        opened(tmp_path / "out", SETTINGS).__enter__()
    with pytest.raises(InputError, match=r"points 5 \(was 4\)"):
        opened(tmp_path / "out", {"points": 5}).__enter__()
    with pytest.raises(InputError, match="expected the output to be a folder"):
        opened(tmp_path / "file", SETTINGS).__enter__()
    with filelock.FileLock(tmp_path / "out" / ".nexus" / "lock", timeout=0):
        pass


@pytest.mark.parametrize("pool", [Pool(), Pool(2)])
def test_a_note_is_given_once(pool: Pool, tmp_path: Path) -> None:
    """What several items are warned of is one warning."""
    with warnings.catch_warnings(record=True) as caught, opened(None, SETTINGS) as ledger:
        warnings.simplefilter("default")
        ledger.fill(jobs(7, 7, 7), record, pool)

    assert [str(each.message) for each in caught] == ["7 means little"]


def test_progress_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Failures at once, by their title; at the end how many, with those done earlier."""
    clips = [Job("a", 1), Job("b", "bad", title="in/b")]
    with opened(tmp_path, SETTINGS) as ledger:
        ledger.fill(clips, record, unit="clips", progress=True)
        ledger.fill([*clips, Job("c", 2)], record, unit="clips", progress=True)
    shown = capsys.readouterr()

    assert shown.out == ""
    assert shown.err.count("error: in/b: expected a number, got bad\nhint: mend it\n") == 2
    assert "2 clips in" in shown.err
    assert "3 clips (1 of them earlier) in" in shown.err


@pytest.mark.parametrize("on_disk", [True, False])
def test_ctrl_c_says_what_is_kept(
    on_disk: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupt says how many are kept, where they are; the next run does the others alone."""
    folder = tmp_path if on_disk else None
    with pytest.raises(KeyboardInterrupt), opened(folder, SETTINGS) as ledger:
        ledger.fill(jobs(1, "bad", 2, "stop", 4), record, progress=True)
    with opened(tmp_path, SETTINGS) as ledger:
        left = [job.key for job in ledger.left(jobs(1, 5, 2, 3, 4))]

    said = "2 of 5 images are done and kept; the same command goes on with the others"
    assert (said in capsys.readouterr().err) == on_disk
    assert left == (["1.png", "3.png", "4.png"] if on_disk else [f"{i}.png" for i in range(5)])


def test_the_journal_is_on_the_disk_before_the_next_item(tmp_path: Path) -> None:
    """While an item is being done, the records of all before it are lines of the file."""
    counts = []

    def counted(item: Any) -> dict[str, Any]:
        journal = tmp_path / ".nexus" / "journal.jsonl"
        counts.append(len([json.loads(line) for line in journal.read_text().splitlines()]))
        return {"value": item}

    with opened(tmp_path, SETTINGS) as ledger:
        ledger.fill(jobs(1, 2, 3), counted)

    assert counts == [1, 2, 3]


def test_a_function_is_told_of_each_item(tmp_path: Path) -> None:
    """It gets what is done, that of earlier runs too, and what there is in all."""
    told: list[tuple[int, int]] = []
    with opened(tmp_path / "out", SETTINGS) as ledger:
        ledger.fill(jobs(1), record)
        ledger.fill(jobs(1, "bad", 3), record, progress=lambda *seen: told.append(seen))

    assert told == [(2, 3), (3, 3)]


def test_one_failure_is_singular(tmp_path: Path) -> None:
    """Of one item that failed, the warning speaks as of one."""
    with opened(tmp_path / "out", SETTINGS) as ledger:
        ledger.fill(jobs("bad"), record)

        with pytest.warns(NexusWarning, match="1 of 1 image could not be used and is listed in"):
            ledger.warn_of_failures(1)
