"""What is done of a run over many items; a killed run goes on where it was.

Each finished item is a line of `FOLDER/.nexus/journal.jsonl`, on the disk before the next is begun.
Only this process writes; workers send it what they found.
"""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nexus.core.errors import NexusError, NexusWarning
from nexus.core.files import claimed
from nexus.core.journal import Journal
from nexus.core.progress import Progress
from nexus.predict.jobs import Job, Work
from nexus.predict.pool import Pool

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{12}\.part(\..+)?")


class Ledger:
    """Records of finished items by key; from `open_ledger`.

    Attributes:
        failures: Why items failed in this run, by key, in the order of the jobs.
    """

    def __init__(self, records: Journal | _Memory) -> None:
        self._records = records
        self.failures: dict[str, NexusError] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._records and key not in self.failures

    def read(self, key: str) -> Mapping[str, Any]:
        """Return the record of an item that is done; errors as in `Journal.read`."""
        return self._records.read(key)

    def left(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs without a record, or with one of another stamp."""
        return [j for j in jobs if j.key not in self or self.read(j.key).get("stamp") != j.stamp]

    def fill(
        self,
        jobs: Sequence[Job],
        work: Work,
        pool: Pool | None = None,
        *,
        unit: str = "images",
        progress: bool = False,
    ) -> None:
        """Do the jobs that are left; each result is in the ledger before the next is awaited.

        An item that fails has no record: the next run tries it again, as its file may have been
        mended.

        Args:
            jobs: All of the run.
            work: Returns the record of a job's item: plain JSON values by name.
            pool: None for this process.
            unit: What the items are, in the plural.
            progress: Show items done, the time that is left and failures on stderr.

        Raises:
            KeyboardInterrupt: Ctrl-C; with `progress` it is said how much is kept.
            InputError: A record holds what JSON cannot; other errors are those of `Pool.run`.
            OSError: The journal cannot be written.
        """
        of_key = {job.key: job for job in self.left(jobs)}
        if not of_key:
            return
        done = len(jobs) - len(of_key)
        bar = Progress(len(jobs), unit=unit, done=done, shown=progress)
        outcomes = (pool or Pool()).run([*of_key.values()], work)
        with contextlib.closing(outcomes), bar:
            try:
                for outcome in outcomes:
                    job = of_key[outcome.key]
                    if outcome.error is None:
                        stamp = {} if job.stamp is None else {"stamp": job.stamp}
                        self._records.append(job.key, {**stamp, **outcome.result})
                        self.failures.pop(job.key, None)
                        done += 1
                    else:
                        self.failures[job.key] = outcome.error
                        bar.say(f"error: {job.title}: {outcome.error}")
                    bar.advance()
            except KeyboardInterrupt:
                if isinstance(self._records, Journal):
                    kept = f"{done} of {len(jobs)} {unit} are done and kept"
                    bar.say(f"{kept}; the same command goes on with the others")
                raise
        order = {job.key: place for place, job in enumerate(jobs)}
        self.failures = dict(sorted(self.failures.items(), key=lambda each: order[each[0]]))

    def failures_as_json(self) -> list[dict[str, str | None]]:
        """Return the failures as a report lists them: `image`, `message`, `hint`."""
        return [
            {"image": key, "message": error.message, "hint": error.hint}
            for key, error in self.failures.items()
        ]

    def warn_of_failures(self, total: int, unit: str = "images") -> None:
        """Warn once if items failed, with the first of them."""
        if self.failures:
            first, error = next(iter(self.failures.items()))
            warnings.warn(
                f"{len(self.failures)} of {total} {unit} could not be used and are listed in the "
                f"report; the first: {first}: {error.message}",
                NexusWarning,
                stacklevel=3,
            )


class _Memory(dict[str, Mapping[str, Any]]):
    """What a `Journal` does, for runs without a folder."""

    append = dict.__setitem__
    read = dict.__getitem__


@contextlib.contextmanager
def open_ledger(
    folder: str | os.PathLike[str] | None, settings: Mapping[str, Any]
) -> Iterator[Ledger]:
    """Hold the lock and the journal of a run's output folder for the block.

    What a killed run had begun to write there is removed.

    Args:
        folder: Made if it is not there; None keeps the records in memory.
        settings: What the records depend on, as JSON values; a folder begun under others is
            refused.

    Raises:
        InputError: The folder was begun under other settings, or cannot be made.
        NexusError: Another run holds it.
    """
    if folder is None:
        yield Ledger(_Memory())
        return
    with claimed(folder) as state, Journal(state / "journal.jsonl", settings) as journal:
        for path in Path(folder).rglob(".*.part*"):
            if _UNFINISHED.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)
        yield Ledger(journal)


def file_stamp(path: Path) -> list[int] | None:
    """Return bytes and time of change of a file, which tell whether it is still the same.

    None if it cannot be looked at: whoever reads it then says why.
    """
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return [state.st_size, state.st_mtime_ns]
