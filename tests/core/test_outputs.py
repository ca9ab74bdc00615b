"""What a run may do to its output folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.core.errors import InputError, NexusError
from nexus.core.files import STATE_FOLDER, write_text
from nexus.core.journal import Journal
from nexus.core.outputs import Outputs, output_folder

PARTIAL = ".a.0123456789ab.part.txt"


def write(outputs: Outputs, *names: str, text: str = "ours") -> None:
    """Write files as a run does."""
    for name in names:
        write_text(outputs.folder / name, text)


def run(folder: Path, *names: str, verb: str = "segment", overwrite: bool = False) -> None:
    """Write files as a run of a verb, which reserves them first and leaves nothing stale."""
    with output_folder(folder, verb=verb, overwrite=overwrite) as outputs:
        outputs.reserve(names)
        write(outputs, *names)
        outputs.remove_stale(names)


def tree(folder: Path) -> dict[str, str]:
    """Return the files below a folder without those of the state."""
    files = (path for path in folder.rglob("*") if path.is_file())
    inner = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: p.read_text() for name, p in inner.items() if STATE_FOLDER not in p.parts}


def test_a_run_replaces_what_it_made_and_leaves_nothing_stale(tmp_path: Path) -> None:
    """A second run writes over its own files, and those it makes no more are gone."""
    out = tmp_path / "out"
    run(out, "a.png", "masks/a.1.png", "masks/a.2.png", "old/b.png")
    run(out, "a.png", "masks/a.1.png")

    assert tree(out) == {"a.png": "ours", "masks/a.1.png": "ours"}
    assert sorted(path.name for path in out.iterdir()) == [STATE_FOLDER, "a.png", "masks"]


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    """The first is named, with how many there are, and the folder is as it was."""
    (tmp_path / "b.png").write_text("mine")
    (tmp_path / "c.png").write_text("mine")
    with pytest.raises(InputError, match=r"with b\.png and 1 more, not made by Nexus") as caught:
        run(tmp_path, "a.png", "b.png", "c.png")

    assert "`overwrite=True`" in (caught.value.hint or "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "c.png"]


def test_a_file_that_was_not_reserved_is_not_replaced_either(tmp_path: Path) -> None:
    """Writing it whole is refused at the last moment, and the former content stays."""
    (tmp_path / "b.png").write_text("mine")
    with (
        output_folder(tmp_path, verb="segment") as outputs,
        pytest.raises(InputError, match=r"b\.png, not made by Nexus"),
    ):
        write(outputs, "b.png")

    assert tree(tmp_path) == {"b.png": "mine"}


def test_overwrite_removes_what_was_made_and_replaces_what_is_in_the_way(tmp_path: Path) -> None:
    """Other files of others stay."""
    run(tmp_path, "a.png", "deep/er/b.png", verb="track")
    (tmp_path / "c.png").write_text("mine")
    (tmp_path / "deep" / "mine.txt").write_text("mine")
    run(tmp_path, "c.png", overwrite=True)

    assert tree(tmp_path) == {"c.png": "ours", "deep/mine.txt": "mine"}
    assert not (tmp_path / "deep" / "er").exists()


def test_a_file_that_was_changed_is_its_owners(tmp_path: Path) -> None:
    """It is not replaced, not removed as stale, and not removed by overwrite."""
    run(tmp_path, "a.json", "b.json")
    (tmp_path / "a.json").write_text("edited")
    with pytest.raises(InputError, match="changed since"):
        run(tmp_path, "a.json")
    run(tmp_path, "b.json")
    run(tmp_path, "c.json", overwrite=True)

    assert tree(tmp_path) == {"a.json": "edited", "c.json": "ours"}


def test_a_copy_of_a_folder_is_known(tmp_path: Path) -> None:
    """Files are told by what they hold where their times are others."""
    run(tmp_path / "out", "a.png", "b.png")
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copy)
    for path in (tmp_path / "copy").iterdir():
        os.utime(path, (1, 1))
    run(tmp_path / "copy", "a.png")

    assert tree(tmp_path / "copy") == {"a.png": "ours"}


def test_a_large_file_is_told_by_samples(tmp_path: Path) -> None:
    """Of a file of many MiB a changed end is noticed, whatever its time."""
    big = tmp_path / "big.bin"
    with output_folder(tmp_path, verb="train") as outputs:
        with big.open("wb") as stream:
            stream.truncate(40 * 2**20)
        outputs.made(big)
        os.utime(big, (1, 1))
        before = outputs.is_ours(big)
        with big.open("r+b") as stream:
            stream.seek(-1, os.SEEK_END)
            stream.write(b"1")

        assert before
        assert not outputs.is_ours(big)


def test_results_of_another_verb_are_refused(tmp_path: Path) -> None:
    """Unless none of them is left, or they are to be overwritten."""
    run(tmp_path, "a.png", verb="track")
    with pytest.raises(InputError, match="without results of another verb, got .* of track") as got:
        run(tmp_path, "b.png")
    (tmp_path / "a.png").unlink()
    run(tmp_path, "b.png")
    run(tmp_path, "c.png", verb="train", overwrite=True)

    assert "`overwrite=True`" in (got.value.hint or "")
    assert tree(tmp_path) == {"c.png": "ours"}


def test_a_journal_of_another_verb_is_a_result(tmp_path: Path) -> None:
    """Records of work are worth as much as files."""
    with (
        output_folder(tmp_path, verb="generate") as outputs,
        Journal(outputs.state / "journal.jsonl", {}) as journal,
    ):
        journal.append("a", {"value": 1})
    with pytest.raises(InputError, match="with those of generate"):
        run(tmp_path, "b.png")
    run(tmp_path, "b.png", overwrite=True)

    assert not (tmp_path / STATE_FOLDER / "journal.jsonl").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_refused_run_leaves_nothing_behind(there: bool, tmp_path: Path) -> None:
    """No folder, no lock and no journal, where there was none; what was there stays."""
    out = tmp_path / "new" / "out"
    if there:
        out.mkdir(parents=True)
    with (
        pytest.raises(InputError, match="no"),
        output_folder(out, verb="train") as outputs,
        Journal(outputs.state / "journal.jsonl", {}),
    ):
        raise InputError("no")

    assert [path.name for path in tmp_path.rglob("*")] == (["new", "out"] if there else [])


def test_a_run_that_failed_later_keeps_what_it_made(tmp_path: Path) -> None:
    """An error after the first file leaves it, and the next run knows it."""
    with (
        pytest.raises(InputError, match="no"),
        output_folder(tmp_path / "out", verb="train") as outputs,
    ):
        write(outputs, "a.png")
        raise InputError("no")
    run(tmp_path / "out", "a.png", verb="train")

    assert tree(tmp_path / "out") == {"a.png": "ours"}


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    """The first goes on; where it is done, others may come."""
    with output_folder(tmp_path, verb="segment"):
        with pytest.raises(NexusError, match="another run is using"):
            output_folder(tmp_path, verb="segment", overwrite=True).__enter__()
        assert (tmp_path / STATE_FOLDER / "lock").exists()
    run(tmp_path, "a.png")


def test_a_killed_run_leaves_nothing_unknown(tmp_path: Path) -> None:
    """Killed before a file has its name, after that, or while one grows: the next run goes on."""
    code = """
import os, sys
from pathlib import Path
from nexus.core.files import replacing, write_text
from nexus.core.outputs import output_folder
out = Path(sys.argv[1])
with output_folder(out, verb="track") as outputs:
    write_text(out / "b.txt", "before")
    write_text(out / "done.txt", "done")
    write_text(out / "rows.csv", "head")
    outputs.made(out / "rows.csv", growing=True)
    with (out / "rows.csv").open("w") as stream:
        stream.write("half a ro")
        stream.flush()
        Path.replace = lambda self, target: os._exit(9)
        write_text(out / "b.txt", "after")
"""
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    with output_folder(out, verb="track"):
        pass  # which writes the manifest anew
    with output_folder(out, verb="track") as outputs:
        outputs.reserve(["b.txt", "done.txt", "rows.csv"])
        names = outputs.names
        write(outputs, "rows.csv")

    assert done.returncode == 9
    assert sorted(names) == ["b.txt", "done.txt", "rows.csv"]
    assert tree(out) == {"b.txt": "before", "done.txt": "done", "rows.csv": "ours"}


def test_half_written_files_are_removed_below_this_run_alone(tmp_path: Path) -> None:
    """Not in a folder with a run of its own, and never in one where no run has been."""
    below = tmp_path / "below"
    run(tmp_path, "a.txt", verb="track")
    run(below, "a.txt", verb="track")
    for folder in (tmp_path, below):
        (folder / PARTIAL).write_text("")
    (tmp_path / "fresh").mkdir()
    (tmp_path / "fresh" / PARTIAL).write_text("")
    run(tmp_path / "fresh", "a.txt")
    with output_folder(tmp_path, verb="track"):
        pass

    assert [p.parent.name for p in sorted(tmp_path.rglob(PARTIAL))] == ["below", "fresh"]


def test_runs_in_folders_below_are_cleared_too(tmp_path: Path) -> None:
    """Overwriting many results begins each anew; files of others stay."""
    with output_folder(tmp_path / "out", verb="track") as outputs:
        for name in ("a", "b"):
            run(tmp_path / "out" / name, "tracks.csv", verb="track")
            outputs.has_run_below(tmp_path / "out" / name)
        (tmp_path / "out" / "b" / "notes.txt").write_text("mine")
    with output_folder(tmp_path / "out", verb="track", overwrite=True):
        pass

    assert tree(tmp_path / "out") == {"b/notes.txt": "mine"}
    assert not (tmp_path / "out" / "a").exists()


def test_overwriting_can_wait(tmp_path: Path) -> None:
    """A run that is refused before it clears leaves the results of the one before."""
    run(tmp_path, "a.png")
    with (
        pytest.raises(InputError, match="no"),
        output_folder(tmp_path, verb="segment", overwrite=True, clear=False),
    ):
        raise InputError("no")

    assert tree(tmp_path) == {"a.png": "ours"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["a", "file/a.png"])
def test_folders_and_files_do_not_replace_each_other(
    name: str, overwrite: bool, tmp_path: Path
) -> None:
    """A folder in the place of a file is refused, and a file in that of a folder."""
    (tmp_path / "a").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="expected room for the file"):
        run(tmp_path, name, overwrite=overwrite)


def test_links_are_not_ours(tmp_path: Path) -> None:
    """A link in the place of a result is not followed."""
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(InputError, match="not made by Nexus"):
        run(tmp_path / "out", "a.txt")
    run(tmp_path / "out", "a.txt", overwrite=True)

    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert tree(tmp_path / "out") == {"a.txt": "ours"}


def test_a_folder_called_like_a_folder_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text is always below the folder, a path has it in front, also through a link."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "images")
    run(Path("images"), "images/a.png", "b.png")
    with output_folder("images", verb="segment") as outputs:
        found = [
            outputs.is_ours("images/a.png"),
            outputs.is_ours(Path("images/b.png")),
            outputs.is_ours(Path("link/b.png")),
            outputs.is_ours("a.png"),
        ]
        with pytest.raises(InputError, match="expected a file below 'images', got 'b.png'"):
            outputs.made(Path("b.png"))

    assert found == [True, True, True, False]


@pytest.mark.parametrize("blocked", ["file", "file/out"])
def test_a_file_is_no_folder(blocked: str, tmp_path: Path) -> None:
    """What cannot be a folder is refused."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="expected the output to be a folder"):
        run(tmp_path / blocked, "a.png")


def test_a_damaged_manifest_makes_files_foreign(tmp_path: Path) -> None:
    """A line that was cut off, or is none, is passed over: what it noted is not ours."""
    run(tmp_path, "a.png", "b.png")
    manifest = tmp_path / STATE_FOLDER / "files.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20] + b"\n[]\n\xff\n")
    with pytest.raises(InputError, match=r"with b\.png, not made"):
        run(tmp_path, "a.png", "b.png")

    run(tmp_path, "a.png")


def test_a_full_disk_leaves_the_manifest_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of which a part was written is taken back."""

    class Full:
        """A stream with room for three bytes."""

        def __init__(self, stream: object) -> None:
            self.stream, self.left = stream, 3

        def __getattr__(self, name: str) -> object:
            return getattr(self.stream, name)

        def write(self, data: memoryview) -> int:
            if not self.left:
                raise OSError(28, "No space left on device")
            taken, self.left = self.left, 0
            self.stream.write(data[:taken])  # type: ignore[attr-defined]
            return taken

    import nexus.core.outputs as module

    whole = module._append_whole
    with output_folder(tmp_path, verb="train") as outputs:
        write(outputs, "a.txt")
        monkeypatch.setattr(module, "_append_whole", lambda s, line: whole(Full(s), line))  # type: ignore[arg-type]
        with pytest.raises(OSError, match="No space left"):
            write(outputs, "b.txt")
        monkeypatch.undo()
        write(outputs, "c.txt")
    with output_folder(tmp_path, verb="train") as outputs:
        names = outputs.names

    assert names == ["a.txt", "c.txt"]
    assert tree(tmp_path) == {"a.txt": "ours", "c.txt": "ours"}
