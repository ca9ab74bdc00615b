from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from nexus.cli.sources import ImageSource, image_sources
from nexus.core.errors import ImageError, InputError
from nexus.data.images import fetching


def encoded() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "PNG")
    return stream.getvalue()


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes, terminal: bool = False) -> None:
    stdin = SimpleNamespace(
        buffer=io.BytesIO(content), closed=False, isatty=lambda: terminal, fileno=lambda: 0
    )
    monkeypatch.setattr(sys, "stdin", stdin)


def test_folders_and_patterns_become_their_images(
    picture: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sorted, each once, with the folders below and without what does not end like an image."""
    for name in ("b.png", "a.png", "deep/c.png", "out/d.png", ".hidden.png", "x[1].png"):
        picture(name)
    folder = tmp_path / "in"
    (folder / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)

    def found(*texts: str) -> list[str]:
        return [source.text for source in image_sources(texts, leave_out=folder / "out")]

    assert found("in") == ["in/a.png", "in/b.png", "in/x[1].png", "in/deep/c.png"]
    assert found("in/*") == ["in/a.png", "in/b.png", "in/x[1].png"]
    assert found("in/**/*.png") == ["in/a.png", "in/b.png", "in/deep/c.png", "in/x[1].png"]
    assert found("in/[ab].png", "./in/a.png", str(folder / "b.png")) == ["in/a.png", "in/b.png"]
    assert found("in/x[1].png") == ["in/x[1].png"]
    assert found("in/notes.txt", "none.png") == ["in/notes.txt", "none.png"]


def test_what_names_no_image_is_refused(
    picture: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty folder, a pattern that fits nothing, and the folder of the results."""
    (tmp_path / "empty").mkdir()
    picture("a.png")
    (tmp_path / "in" / "b.txt").touch()
    monkeypatch.chdir(tmp_path)
    wrong = {
        "empty": "expected a folder with images in it, got 'empty' without any\nhint: PNG",
        "in/*.jpg": r"expected image files that fit 'in/\*.jpg', got none\nhint: \*\* stands",
        "in/*.txt": r"expected image files that fit 'in/\*.txt', got 1 without any",
        "in": "expected results in a folder without inputs, got 'in' as both",
        "": "expected the name of an image, got an empty one",
        "https:/h/a.png": "hint: https://h/a.png",
        "ftp://h/a.png": "expected an http or https address",
    }
    for text, message in wrong.items():
        with pytest.raises(InputError, match=message):
            image_sources([text], leave_out=Path("in"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("https://h.org/x/ph%20oto.v2.png?size=2#top", ("ph oto.v2", "h.org-ph oto.v2")),
        ("http://h.org:80/", ("h.org", "h.org-")),
        ("http://h/a%2F..%2Fb.png", ("b", "h-b")),
        ("http://h/%00%0A.png", ("-", "h--")),
        ("http://h/" + "a" * 300, ("a" * 100, "h-" + "a" * 98)),
    ],
)
def test_addresses_have_names_that_files_can_have(text: str, names: tuple[str, str]) -> None:
    """From the last part of their paths, or the host."""
    (source,) = image_sources([text])

    assert source.kind == "address"
    assert source.text == source.label == source.file_name == text
    assert source.names == names
    assert source.path is None


def test_an_image_comes_on_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called stdin, and read when it is its turn."""
    (source,) = image_sources(["-", "-"])
    give_stdin(monkeypatch, encoded())

    assert (source.label, source.names[0]) == ("stdin", "stdin")
    assert source.load(None).shape == (6, 8, 3)


def test_a_stdin_without_an_image_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal, nothing, a closed one, too much, and what is no image."""
    (source,) = image_sources(["-"])
    cases = [
        (b"", True, "got a terminal\nhint: nexus segment - < photo.png"),
        (b"", False, "expected an image on stdin, got nothing"),
        (b"x" * 9, False, "of 8 bytes at most on stdin, got more"),
        (b"no image", False, "got what came from 'stdin', which is in no known image format"),
    ]
    monkeypatch.setattr(fetching, "MAX_BYTES", 8)
    for content, terminal, message in cases:
        give_stdin(monkeypatch, content, terminal)
        with pytest.raises(ImageError, match=message):
            source.load(None)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ImageError, match="got a closed one"):
        source.load(None)


def test_what_comes_from_an_address_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its header does not count, its bytes do; a message names the address."""
    (source,) = image_sources(["http://h/a.png"])
    monkeypatch.setattr(fetching, "fetch_image", lambda url: encoded())

    assert source.load(None).shape == (6, 8, 3)
    with pytest.raises(ImageError, match="at most 47 pixels, got what came from 'http://h/a.png'"):
        source.load(47)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_name_that_is_no_text_is_told() -> None:
    """Before anything is written of it; its title can be printed."""
    source = ImageSource(os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(ImageError, match="a file name in UTF-8, got .*udce9.*\nhint: rename"):
        source.load(None)

    assert source.title.isascii()
