from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from nexus.core.errors import InputError, NexusWarning
from nexus.core.journal import Journal

SETTINGS = {"points": 4, "model": {"name": "tiny"}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal is to be, in a folder that is not there."""
    return tmp_path / "state" / "journal.jsonl"


def fill(path: Path, count: int) -> None:
    """Write `count` records."""
    with Journal(path, SETTINGS) as journal:
        for index in range(count):
            journal.append(f"{index}.png", {"value": [index, 0.1 * index]})


def contents(path: Path) -> dict[str, Any]:
    """Return all records of a journal of up to 9."""
    with Journal(path, SETTINGS) as journal:
        names = [f"{index}.png" for index in range(9) if f"{index}.png" in journal]
        return {name: journal.read(name)["value"] for name in names}


def test_records_are_found_again(path: Path) -> None:
    """What was appended is there when the journal is opened again, floats to the last bit."""
    fill(path, 3)

    assert contents(path) == {f"{i}.png": [i, 0.1 * i] for i in range(3)}


def test_a_later_record_replaces_an_earlier_one(path: Path) -> None:
    """The last record of a name counts, at once and after opening again."""
    fill(path, 2)
    with Journal(path, SETTINGS) as journal:
        journal.append("0.png", {"value": "new"})
        now = journal.read("0.png")

    assert now == {"value": "new"}
    assert contents(path) == {"0.png": "new", "1.png": [1, 0.1]}


def test_a_journal_cut_anywhere_keeps_its_whole_lines(path: Path) -> None:
    """Whatever byte a kill stops at, the records before are kept and further ones fit behind."""
    fill(path, 3)
    whole = path.read_bytes()
    ends = [match.end() for match in re.finditer(b"\n", whole)]
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        kept = max(0, sum(end <= length for end in ends) - 1)

        assert len(contents(path)) == kept
        fill(path, 3)
        assert contents(path) == {f"{i}.png": [i, 0.1 * i] for i in range(3)}


def test_a_damaged_line_is_told_and_done_again(path: Path) -> None:
    """A flipped bit in the middle loses that record alone, with a warning."""
    fill(path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"0.1", b"0.2")
    path.write_bytes(b"".join(lines))

    with pytest.warns(NexusWarning, match=r"line 3 of '.*journal.jsonl' is damaged"):
        found = contents(path)
    assert sorted(found) == ["0.png", "2.png"]


def test_other_settings_are_named(path: Path) -> None:
    """Opened under other settings it says which, what they were, and how to begin anew."""
    fill(path, 1)

    with pytest.raises(InputError) as caught:
        Journal(path, {"points": 8, "model": {"name": "large"}, "more": True})
    assert caught.value.message == (
        "expected the settings under which this folder was begun, got others: points 8 (was 4); "
        "model.name 'large' (was 'tiny'); more True (was None)"
    )
    assert "begin anew with `overwrite=True`" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["hello\n", '{"sha256":"0000000000000000","record":{}}\n'])
def test_another_file_is_no_journal(path: Path, text: str) -> None:
    """A file whose first line is whole and not a journal's is left as it is."""
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(InputError, match="expected a journal of version 1 at"):
        Journal(path, SETTINGS)
    assert path.read_text() == text


def test_a_full_disk_leaves_the_journal_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails half-way is taken back, and the next one is whole."""
    fill(path, 1)
    before, write = path.read_bytes(), os.write

    def half(file: int, data: Any) -> int:
        write(file, bytes(data)[:10])
        raise OSError(28, "No space left on device")

    with Journal(path, SETTINGS) as journal:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(os, "write", half)
            journal.append("1.png", {"value": 1})
        taken_back = path.read_bytes()
        journal.append("1.png", {"value": 2})

    assert taken_back == before
    assert contents(path) == {"0.png": [0, 0.0], "1.png": 2}


def test_what_json_cannot_hold_is_refused(path: Path) -> None:
    """A record with NaN or an array is refused with a hint, and nothing is written."""
    with Journal(path, SETTINGS) as journal:
        with pytest.raises(InputError, match="plain finite JSON values") as caught:
            journal.append("a", {"value": float("nan")})

        assert "a" not in journal
    assert ".tolist()" in str(caught.value.hint)


def test_a_record_changed_underneath_is_noticed(path: Path) -> None:
    """Bytes that another program has changed since are not taken for the record."""
    fill(path, 1)
    with Journal(path, SETTINGS) as journal:
        path.write_bytes(path.read_bytes().replace(b"0.png", b"9.png"))

        with pytest.raises(InputError, match=r"expected the record of '0\.png'"):
            journal.read("0.png")


def test_each_line_is_json(path: Path) -> None:
    """Every line is a JSON object of a digest and a record, as other programs read JSONL."""
    fill(path, 2)
    lines = [json.loads(line) for line in path.read_text("ascii").splitlines()]

    assert [set(line) for line in lines] == [{"sha256", "record"}] * 3
    assert lines[0]["record"] == {"version": 1, "settings": SETTINGS}
