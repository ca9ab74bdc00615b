"""What is done of a run over many items; a killed run goes on where it was.

Each finished item is a line of `FOLDER/.nexus/journal.jsonl`, on the disk before the next is begun.
Only this process writes; workers send it what they found.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nexus.core.errors import NexusError, NexusWarning
from nexus.core.journal import Journal
from nexus.core.outputs import Outputs
from nexus.core.steps import ProgressLike, steps_of
from nexus.core.words import be, counted, singular
from nexus.predict.jobs import Job, Work
from nexus.predict.pool import Pool

_LOG = logging.getLogger(__name__)


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
        progress: ProgressLike = False,
    ) -> None:
        """Do the jobs that are left; each result is in the ledger before the next is awaited.

        An item that fails has no record: the next run tries it again, as its file may have been
        mended.

        Args:
            jobs: All of the run.
            work: Returns the record of a job's item: plain JSON values by name.
            pool: None for this process.
            unit: What the items are, in the plural.
            progress: Show items done, the time that is left and failures on stderr; or a function,
                called with items done and items in all.

        Raises:
            KeyboardInterrupt: Ctrl-C; with `progress` it is said how much is kept.
            InputError: A record holds what JSON cannot; other errors are those of `Pool.run`.
            OSError: The journal cannot be written.
        """
        of_key = {job.key: job for job in self.left(jobs)}
        _LOG.info("%d of %d %s are done and skipped", len(jobs) - len(of_key), len(jobs), unit)
        if not of_key:
            return
        done = len(jobs) - len(of_key)
        pool = pool or Pool()
        bar = steps_of(progress, len(jobs), unit=unit, done=done, at_once=pool.workers)
        outcomes = pool.run([*of_key.values()], work)
        with contextlib.closing(outcomes), bar:
            try:
                for outcome in outcomes:
                    job = of_key[outcome.key]
                    if outcome.error is None:
                        stamp = {} if job.stamp is None else {"stamp": job.stamp}
                        self._records.append(job.key, {**stamp, **outcome.result})
                        self.failures.pop(job.key, None)
                        done += 1
                        _LOG.debug("done: %s", job.title)
                    else:
                        self.failures[job.key] = outcome.error
                        bar.say(f"error: {job.title}: {outcome.error}")
                    bar.advance()
            except KeyboardInterrupt:
                if isinstance(self._records, Journal):
                    kept = (
                        f"{done} of {counted(len(jobs), singular(unit))} {be(done)} done and kept"
                    )
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
                f"{len(self.failures)} of {counted(total, singular(unit))} could not be used and "
                f"{be(len(self.failures))} listed in the report; the first: {first}: "
                f"{error.message}",
                NexusWarning,
                stacklevel=3,
            )


class _Memory(dict[str, Mapping[str, Any]]):
    """What a `Journal` does, for runs without a folder."""

    append = dict.__setitem__
    read = dict.__getitem__


@contextlib.contextmanager
def open_ledger(outputs: Outputs | None, settings: Mapping[str, Any]) -> Iterator[Ledger]:
    """Hold the journal of a run for the block.

    Args:
        outputs: The run's output folder; None keeps the records in memory.
        settings: What the records depend on, as JSON values; a folder begun under others is
            refused.

    Raises:
        InputError: The folder was begun under other settings.
    """
    if outputs is None:
        yield Ledger(_Memory())
        return
    with Journal(outputs.state / "journal.jsonl", settings) as journal:
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
