"""A journal of finished work that outlives a kill at any moment.

One line per record: `{"sha256": "<16 hex digits>", "record": {...}}`, the digest taken of the bytes
of the record. The first line says under which settings the work is done. A line is on the disk
before the next piece of work is begun, so that a kill costs what was under way and nothing else. A
last line that was cut short is dropped when the journal is opened again; its piece is done anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nexus.core.errors import InputError, NexusWarning
from nexus.core.files import ANEW_HINT, uninterrupted
from nexus.core.json_text import dump_json

_VERSION = 1
_LINE = re.compile(rb'\{"sha256":"([0-9a-f]{16})","record":(\{.*\})\}\n', re.DOTALL)


class Journal:
    """Records by name, appended one by one to a file and found again after a kill.

    A record with the name of an earlier one replaces it. Close it, or use it in a `with` block.

    Args:
        path: The file; made, with its folder, if it is not there.
        settings: What the records depend on, as JSON values; compared with those of the file.

    Raises:
        InputError: The file was begun under other settings, or is no journal.
        OSError: The file cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._places: dict[str, tuple[int, int]] = {}
        header = {"version": _VERSION, "settings": json.loads(dump_json(settings))}
        existed = self.path.exists()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            self._end = self._scan(header)
            if self._end == 0:
                self._write(header)
            if not existed:
                _sync_folder(self.path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._places))

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Put a record on the disk under its name; Ctrl-C waits until it is there.

        Raises:
            InputError: The record holds what JSON cannot.
            OSError: It cannot be written; the journal is as it was before.
        """
        with uninterrupted():
            self._places[name] = self._write({"name": name, **record})

    def read(self, name: str) -> dict[str, Any]:
        """Return the last record of that name.

        Raises:
            KeyError: There is none.
            InputError: The file was changed by another program meanwhile.
        """
        start, length = self._places[name]
        with self.path.open("rb") as stream:
            stream.seek(start)
            record = _parse(stream.read(length))
        if record is None or record.get("name") != name:
            raise InputError(
                f"expected the record of {name!r} in {str(self.path)!r}, got other bytes",
                hint="only one run at a time may use this folder",
            )
        del record["name"]
        return record

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _scan(self, header: dict[str, Any]) -> int:
        """Find every whole record, drop a torn end, and return where the file ends then."""
        end = 0
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                record = _parse(line)
                if record is None and not line.endswith(b"\n"):
                    break
                if number == 1:
                    self._check_header(record, header)
                elif record is None:
                    place = f"line {number} of {str(self.path)!r}"
                    message = f"{place} is damaged; what it recorded is done again"
                    warnings.warn(message, NexusWarning, stacklevel=4)
                else:
                    self._places[str(record["name"])] = (end, len(line))
                end += len(line)
        os.ftruncate(self._file, end)
        return end

    def _check_header(self, found: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
        if found is None or found.get("version") != _VERSION:
            raise InputError(
                f"expected a journal of version {_VERSION} at {str(self.path)!r}, got a damaged "
                "or other file",
                hint=ANEW_HINT,
            )
        changes = list(_differences(found["settings"], wanted["settings"]))
        if changes:
            raise InputError(
                "expected the settings under which this folder was begun, got others: "
                + "; ".join(changes),
                hint=ANEW_HINT,
            )

    def _write(self, record: dict[str, Any]) -> tuple[int, int]:
        """Append one line and bring it to the disk; return its offset and length."""
        body = dump_json(record, separators=(",", ":")).encode("ascii")
        line = b'{"sha256":"%s","record":%s}\n' % (_digest(body), body)
        start = self._end
        os.lseek(self._file, start, os.SEEK_SET)
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, start)
            raise
        self._end = start + len(line)
        return start, len(line)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode("ascii")


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, or None if the line is not whole."""
    match = _LINE.fullmatch(line)
    if match is None or _digest(match[2]) != match[1]:
        return None
    record: dict[str, Any] = json.loads(match[2])
    return record


def _differences(was: Any, now: Any, name: str = "") -> Iterator[str]:
    """Say in words where two trees of settings differ."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in {**was, **now}:
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(was.get(key), now.get(key), inner)
    elif was != now:
        yield f"{name} {now!r:.80} (was {was!r:.80})"


def _sync_folder(folder: Path) -> None:
    """Bring the name of a new file to the disk, where folders can be synced."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
