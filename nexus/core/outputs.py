"""What a run may do to its output folder: one rule for every verb.

The same command goes on where it was. What Nexus did not make, or what was changed since, is never
replaced unless the caller asks for it, and that is said before any work. Two runs do not share a
folder, and one verb does not write among the results of another. What a run makes is noted in
`FOLDER/.nexus/files.jsonl` before it has its name, a line for each file, so that a kill at any
moment leaves nothing of which the next run would not know whose it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from nexus.core.errors import InputError
from nexus.core.files import ANEW_HINT, LOCK_FILE, STATE_FOLDER, claimed, watching, write_text

_MANIFEST, _JOURNAL = "files.jsonl", "journal.jsonl"
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{12}\.part(\..+)?")
_WHOLE, _SAMPLES = 2**25, 32  # larger files are told by samples of a MiB, as weights are GiB

_Stamp = tuple[int, int, str]
"""Bytes, time of change in ns, and digest of a file."""


class Outputs:
    """An output folder held by a run; from `output_folder`.

    A file is *ours* if a run has noted it and it is as that run left it. What is written through
    `nexus.core.files.replacing` is noted by itself, and refused if it would replace a file that is
    not ours; all else is noted with `made`.

    Attributes:
        folder: Where results go.
        state: The folder below it that the run has for itself.
        verb: What the run is.
        overwrite: Whether other files may be replaced.
    """

    def __init__(self, folder: Path, state: Path, verb: str, overwrite: bool) -> None:
        self.folder = folder
        self.state = state
        self.verb = verb
        self.overwrite = overwrite
        self._place = Path(os.path.realpath(folder))
        self._stamps: dict[str, list[_Stamp]] = {}  # at most two: a file's, and its successor's
        self._growing: set[str] = set()
        self._folders: set[str] = set()
        former = self._read()
        if former not in (None, verb) and not overwrite and (self.names or self._has_state()):
            raise InputError(
                f"expected a folder without results of another verb, got {str(folder)!r} with "
                f"those of {former}",
                hint=ANEW_HINT,
            )
        self._write_manifest()

    @property
    def names(self) -> list[str]:
        """The files that are ours, by their paths below the folder, in the order of making."""
        noted = dict.fromkeys([*self._stamps, *self._growing])
        return [name for name in noted if self.is_ours(name)]

    def is_ours(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether a file is there, and was made by a run and left alone since.

        Args:
            path: A text is a path below the folder, a `Path` has the folder before it.
        """
        name = self._name(path)
        target = self.folder / name
        if target.is_symlink() or not target.is_file():
            return False
        if name in self._growing:
            return True
        there, digest = target.stat(), ""
        for size, mtime_ns, noted in self._stamps.get(name, ()):
            if there.st_size != size:
                continue
            # A copy of the folder has other times.
            if there.st_mtime_ns == mtime_ns or noted == (digest := digest or _digest(target)):
                return True
        return False

    def reserve(self, names: Iterable[str]) -> None:
        """Refuse to begin if a file that is not ours would be replaced.

        With `overwrite` files may be replaced; never a folder by a file, nor a file by a folder.

        Args:
            names: What is going to be written, by its paths below the folder, with "/".

        Raises:
            InputError: Something is in the way; the first is named, and how many there are.
        """
        in_the_way: list[str] = []
        for name in names:
            target = self.folder / name
            if self._is_blocked(target):
                raise InputError(
                    f"expected room for the file {name!r} in {str(self.folder)!r}, got a folder "
                    "of that name, or a file where a folder is to be",
                    hint="take another folder",
                )
            if os.path.lexists(target) and not (self.overwrite or self.is_ours(name)):
                in_the_way.append(name)
        if in_the_way:
            more = f" and {len(in_the_way) - 1} more" if len(in_the_way) > 1 else ""
            raise InputError(
                f"expected a folder in which nothing is replaced, got {str(self.folder)!r} with "
                f"{in_the_way[0]}{more}, not made by Nexus or changed since",
                hint="take another folder, or let them be replaced with `overwrite=True`",
            )

    def made(self, path: str | os.PathLike[str], *, growing: bool = False) -> None:
        """Note a file as ours.

        Args:
            path: As in `is_ours`.
            growing: Note it before it is begun, and take it for ours whatever it holds, until it
                is noted again when it is done.

        Raises:
            OSError: It is not there, or the note cannot be written.
        """
        name = self._name(path)
        target = self.folder / name
        if growing:
            self._note(name, growing=True)
        else:
            self._note(name, stamp=_stamp(target))

    def has_run_below(self, path: str | os.PathLike[str]) -> None:
        """Note that a folder, there or not yet, has a run of its own, which is cleared with this.

        Raises:
            OSError: The note cannot be written.
        """
        self._note(self._name(path), folder=True)

    def others_in(self, folder: str) -> list[Path]:
        """Return the files in a folder below that are not ours."""
        place = self.folder / folder
        found = sorted(place.iterdir()) if place.is_dir() else []
        return [path for path in found if not self.is_ours(path)]

    def remove_stale(self, keep: Iterable[str | os.PathLike[str]] = ()) -> None:
        """Remove the files that are ours and not to be kept, and folders left empty by that.

        Args:
            keep: Files, and folders with all in them; as in `is_ours`.

        Raises:
            OSError: A file cannot be removed.
        """
        kept = {self._name(path) for path in keep}
        stale = [n for n in self.names if kept.isdisjoint((n, *map(str, PurePosixPath(n).parents)))]
        for name in stale:
            (self.folder / name).unlink(missing_ok=True)
        emptied = {above for name in stale for above in Path(name).parents if above != Path()}
        for above in sorted(emptied, key=lambda path: -len(path.parts)):
            with contextlib.suppress(OSError):  # something else is in it
                (self.folder / above).rmdir()
        for name in stale:
            self._forget(name)
        if stale:
            self._write_manifest()

    def clear(self) -> None:
        """Remove all that is ours, and the state, as if no run had been here.

        Raises:
            NexusError: A run holds a folder below.
            OSError: Something cannot be removed.
        """
        for name in sorted(self._folders):
            below = self.folder / name
            if (below / STATE_FOLDER).is_dir():
                with output_folder(below, verb=self.verb, overwrite=True) as outputs:
                    _unmake(outputs.state, [below])
        self.remove_stale()
        for path in self.state.iterdir():
            if path.name in (LOCK_FILE, _MANIFEST):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._stamps, self._growing, self._folders = {}, set(), set()
        self._write_manifest()

    def _name(self, path: str | os.PathLike[str]) -> str:
        """Return the path of a file below the folder, with "/"."""
        given = Path(path)
        if isinstance(path, str) and not given.is_absolute():
            return given.as_posix()
        with contextlib.suppress(ValueError):
            return given.relative_to(self.folder).as_posix()
        try:
            below = Path(os.path.realpath(given.parent), given.name)
            return below.relative_to(self._place).as_posix()
        except ValueError as error:
            raise InputError(
                f"expected a file below {str(self.folder)!r}, got {str(given)!r}"
            ) from error

    def _is_blocked(self, target: Path) -> bool:
        """Tell whether a file cannot be there, for a folder or for a file above it."""
        above = (path for path in target.parents if self.folder in path.parents)
        return target.is_dir() or any(os.path.lexists(p) and not p.is_dir() for p in above)

    def _before(self, target: Path, temporary: Path) -> None:
        """Note a file that is about to get its name, or refuse to let it replace another."""
        name = target.relative_to(self._place).as_posix()
        if STATE_FOLDER in PurePosixPath(name).parts:
            return
        self.reserve([name])
        self._note(name, stamp=_stamp(temporary))

    def _note(
        self,
        name: str,
        *,
        stamp: _Stamp | None = None,
        growing: bool = False,
        folder: bool = False,
    ) -> None:
        line: dict[str, Any] = {"file": name}
        if folder:
            if name in self._folders:
                return
            line["folder"] = True
        elif growing:
            line["growing"] = True
        else:
            line["stamp"] = stamp
        self._append(line)
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        """Take a line of the manifest for true."""
        name = str(line["file"])
        if line.get("folder"):
            self._folders.add(name)
        elif line.get("growing"):
            self._growing.add(name)
        else:
            size, mtime_ns, digest = line["stamp"]
            former = self._stamps.pop(name, [])
            # Both: a kill may come before the new one has its name.
            self._stamps[name] = [*former[-1:], (int(size), int(mtime_ns), str(digest))]
            self._growing.discard(name)

    def _forget(self, name: str) -> None:
        self._stamps.pop(name, None)
        self._growing.discard(name)

    def _has_state(self) -> bool:
        return not {path.name for path in self.state.iterdir()} <= {LOCK_FILE, _MANIFEST}

    def _read(self) -> str | None:
        """Read the manifest; return which verb has written here."""
        verb = None
        path = self.state / _MANIFEST
        for text in path.read_bytes().splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut off
                line = json.loads(text)
                if "verb" in line:
                    verb = str(line["verb"])
                else:
                    self._take(line)
        return verb

    def _write_manifest(self) -> None:
        """Write the manifest anew, without what is there no more."""
        for name in [*self._stamps, *self._growing]:
            if not os.path.lexists(self.folder / name):
                self._forget(name)
        lines: list[dict[str, Any]] = [{"verb": self.verb}]
        for name, stamps in self._stamps.items():
            lines += [{"file": name, "stamp": stamp} for stamp in stamps]
        # After the stamps: a file with one grows no more.
        lines += [{"file": name, "growing": True} for name in sorted(self._growing)]
        lines += [{"file": name, "folder": True} for name in sorted(self._folders)]
        write_text(self.state / _MANIFEST, "".join(json.dumps(line) + "\n" for line in lines))

    def _append(self, line: dict[str, Any]) -> None:
        with (self.state / _MANIFEST).open("ab", buffering=0) as stream:
            _append_whole(stream, json.dumps(line).encode() + b"\n")


@contextmanager
def output_folder(
    folder: str | os.PathLike[str], *, verb: str, overwrite: bool = False, clear: bool = True
) -> Iterator[Outputs]:
    """Hold an output folder for the block.

    The folder is made if it is not there; if the block makes nothing, nothing is left of it. What a
    killed run had half written is removed.

    Args:
        folder: Where results go.
        verb: What the run is, such as "generate"; results of others are refused.
        overwrite: Remove what Nexus made in the folder and begin anew; files of others may be
            replaced.
        clear: With `overwrite`, remove it at once; otherwise when `Outputs.clear` is called.

    Raises:
        InputError: The folder cannot be made, or holds results of another verb.
        NexusError: Another run holds it.
        OSError: It cannot be written.
    """
    root = Path(folder)
    missing = [path for path in (root, *root.parents) if not os.path.lexists(path)]
    with claimed(root) as state:
        was_fresh = {path.name for path in state.iterdir()} <= {LOCK_FILE}
        try:
            outputs = Outputs(root, state, verb, overwrite)
            if not was_fresh:
                _remove_unfinished(root)
            if overwrite and clear:
                outputs.clear()
            with watching(root, outputs._before):
                yield outputs
        finally:
            if was_fresh:
                _unmake_if_empty(state, missing)


def _unmake_if_empty(state: Path, made: list[Path]) -> None:
    """Remove the state of a run that has made nothing, and the folders made for it."""
    with contextlib.suppress(OSError):
        for path in state.iterdir():
            lines = 1 if path.name in (_MANIFEST, _JOURNAL) else 0
            if path.name != LOCK_FILE and (not lines or path.read_bytes().count(b"\n") > lines):
                return
        _unmake(state, made)


def _unmake(state: Path, folders: list[Path]) -> None:
    """Remove a state while its lock is held, and folders, the innermost first, while empty."""
    with contextlib.suppress(OSError):
        shutil.rmtree(state)
        for folder in folders:
            folder.rmdir()


def _remove_unfinished(root: Path) -> None:
    """Remove the temporary files of a killed run; folders with a run of their own are left out."""
    for place, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not Path(place, name, STATE_FOLDER).is_dir()]
        for name in files:
            if _UNFINISHED.fullmatch(name):
                Path(place, name).unlink(missing_ok=True)


def _append_whole(stream: BinaryIO, line: bytes) -> None:
    """Append a line, or leave the file as it was."""
    end = stream.seek(0, os.SEEK_END)
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[stream.write(rest) :]
    except OSError:
        stream.truncate(end)
        raise


def _stamp(path: Path) -> _Stamp:
    there = path.stat()
    return there.st_size, there.st_mtime_ns, _digest(path)


def _digest(path: Path) -> str:
    """Return a digest of a file's bytes; of a large one, of evenly spaced samples."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size <= _WHOLE:
            digest.update(stream.read())
        else:
            for number in range(_SAMPLES + 1):
                stream.seek((size - 2**20) * number // _SAMPLES)
                digest.update(stream.read(2**20))
    return digest.hexdigest()[:16]
