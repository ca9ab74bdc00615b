from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from nexus.core.errors import InputError
from nexus.core.json_text import read_document, read_json, write_array


def written(folder: Path, value: object) -> Path:
    """Write a value as JSON."""
    path = folder / "a.json"
    path.write_text(json.dumps(value), "utf-8")
    return path


@pytest.mark.parametrize("items", [[], [1], [{"a": "ü"}, [None]]])
def test_the_array_is_json(items: list[object]) -> None:
    """Whatever is streamed reads back as the list of it."""
    stream = io.StringIO()
    write_array(stream, iter(items))

    assert json.loads(stream.getvalue()) == items


def test_what_json_cannot_hold() -> None:
    """NaN is refused with a hint, since other programs cannot read it."""
    with pytest.raises(InputError, match="plain finite JSON values") as caught:
        write_array(io.StringIO(), [float("nan")])
    assert "float(...)" in str(caught.value.hint)


@pytest.mark.parametrize("text", [b'{"images": [', b"\xff\xfe\x00", b""])
def test_damaged_json_is_named(tmp_path: Path, text: bytes) -> None:
    """JSON cut short, empty or no text is an error that names the file."""
    path = tmp_path / "a.json"
    path.write_bytes(text)

    with pytest.raises(InputError, match=r"whole JSON document, got '.*a.json'.*\n.*cut short"):
        read_json(path)


def test_a_document_has_its_keys(tmp_path: Path) -> None:
    """Another value than an object, a missing key and one of another type are told apart."""
    with pytest.raises(InputError, match=r"objects in '.*a.json', got \[\]"):
        read_document(written(tmp_path, []), images=list)
    with pytest.raises(InputError, match="'images' as list, got none"):
        read_document(written(tmp_path, {}), images=list)
    with pytest.raises(InputError, match="'images' as list, got {}"):
        read_document(written(tmp_path, {"images": {}}), images=list)


def test_another_value_is_said_by_its_kind(tmp_path: Path) -> None:
    """A list where an object is wanted is an error that says what the file should be."""
    with pytest.raises(InputError, match="expected a table at '.*a.json', got a JSON list"):
        read_json(written(tmp_path, []), dict, "a table")
