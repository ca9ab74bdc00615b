"""What the documents say is there is there, and their snippets run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from tools.doc_blocks import ROOT, Block, blocks, pages
from tools.doc_names import missing_files, problems_of_code, unknown_names

PYTHON_BLOCKS = [block for page in pages() for block in blocks(page, "python")]
RUN_PAGES = [
    page for page in pages() if any("no-run" not in block.tags for block in blocks(page, "python"))
]


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Return the classes documents refer to without their module."""
    import nexus.core.types
    import nexus.core.weights.hub
    import nexus.models.cv
    import nexus.models.policy
    import nexus.models.registry

    modules = (
        nexus.core.types,
        nexus.models.cv,
        nexus.models.policy,
        nexus.models.registry,
        nexus.core.weights.hub,
    )
    return {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value)
    }


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_names_in_prose_exist(page: Path, names: dict[str, Any]) -> None:
    """Every `nexus.x.y` and `Class.member` in a document stands for something."""
    assert unknown_names(page, names) == []


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.name)
def test_files_in_prose_exist(page: Path) -> None:
    """Every file a document names or links to is in the repository."""
    assert missing_files(page) == []


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=str)
def test_snippets_use_real_names(block: Block) -> None:
    """A Python snippet compiles, and imports, calls and passes only what exists."""
    assert problems_of_code(block.code) == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("from nexus.models.cv import SAN", "nexus.models.cv.SAN"),
        ("from nexus.core.types import Masks\nMasks.bset", "Masks.bset"),
        ("import nexus\nnexus.segment('a.png', bocks=1)", "nexus.segment(bocks=)"),
        (
            "from nexus.models.cv import SAM\nsam = SAM.from_pretrained('sam_vit_b')\nsam.guess()",
            "sam.guess",
        ),
    ],
)
def test_a_wrong_name_is_noticed(code: str, problem: str) -> None:
    """The check above finds what it is there to find."""
    assert problem in problems_of_code(code)


@pytest.mark.slow
@pytest.mark.usefixtures("lite_medsam_weights")
@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda path: path.name)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a page run one after the other, beside a picture `image.png`."""
    draw_picture(tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        if "no-run" not in block.tags:
            # Blank lines first, so that a traceback names the line of the page.
            code = "\n" * (block.line - 1) + block.code
            exec(compile(code, str(page), "exec"), namespace)

    assert len(namespace) > 1


def draw_picture(path: Path) -> None:
    """Draw a bright ellipse on a dark ground, 320 x 240."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (320, 240), (40, 40, 48))
    ImageDraw.Draw(image).ellipse((90, 60, 230, 180), fill=(205, 190, 170))
    image.save(path)


def test_the_error_tree_in_the_docs_is_the_one_in_the_code() -> None:
    """docs/errors.md prints the tree of `nexus.core.errors`."""
    from nexus.core import errors

    (block,) = blocks(ROOT / "docs" / "errors.md", "text")

    assert block.code.strip() in (errors.__doc__ or "")
    assert block.code.startswith("NexusError\n")


def test_the_error_tree_is_the_class_tree() -> None:
    """Each class of `nexus.core.errors` hangs in the drawn tree where it hangs in Python."""
    from nexus.core import errors

    drawn: dict[str, str | None] = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([ |`-]*)([A-Z]\w+(?:Error|Warning))\b", line)
        if match:
            depth = len(match[1]) // 4
            parents = [*parents[:depth], match[2]]
            drawn[match[2]] = parents[depth - 1] if depth else None
    defined = {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }

    assert set(drawn) == set(defined)
    for name, parent in drawn.items():
        assert parent is None or defined[parent] in defined[name].__bases__


WALKS = {
    "life-of-a-mask.md": ("nexus/cli/segment.py", "nexus/core/types/masks.py"),
    "life-of-a-frame.md": ("nexus/cli/track.py", "nexus/core/types/masks.py"),
    "life-of-a-training-step.md": ("nexus/cli/train.py", "nexus/train/checkpoints.py"),
}


@pytest.mark.parametrize("page", WALKS)
def test_a_walk_names_its_files_in_order(page: str) -> None:
    """A walk goes through at most ten files, all of which exist, command line first."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    walk = re.findall(r"^## \d+\. `(nexus/[\w/]+\.py)`", text, re.MULTILINE)
    named = re.findall(r"`(nexus/[\w/]+\.py)`", text)

    assert (walk[0], walk[-1]) == WALKS[page]
    assert len(walk) <= 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("page", WALKS)
def test_a_walk_names_functions_that_exist(page: str) -> None:
    """Every function and class a walk names is defined somewhere in the package."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "nexus").rglob("*.py"))
    named = set(re.findall(r"`([A-Za-z_]+)`", text))

    assert len(named) > 5
    assert {name for name in named if not re.search(rf"(?:def|class) {name}\b", source)} == set()


def test_the_models_page_is_the_table_of_models() -> None:
    """docs/models.md has one row for each model of the registry, with its policy's input side."""
    from nexus.models.registry import MODELS

    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| `\w+` \| [^|]+ \| (\d+) \|", text, re.MULTILINE))

    assert {name: int(side) for name, side in rows.items()} == {
        name: spec.policy.input_side for name, spec in MODELS.items()
    }


def test_the_policy_table_is_true() -> None:
    """Each cell of the policy table of docs/models.md begins with the value the policy has."""
    from nexus.models.registry import MODELS

    text = (ROOT / "docs" / "models.md").read_text("utf-8")
    columns = {1: "sam_vit_b", 2: "medsam_vit_b", 3: "lite_medsam"}
    rows = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.match(r"\| `\w+`[\w ]* \|", line) and line.count("|") == 5
    ]
    wrong = []
    for row in rows:
        field = row[0].split()[0]
        for column, name in columns.items():
            value = getattr(MODELS[name].policy, field)
            if not row[column].startswith(_in_words(value)):
                wrong.append(f"{name}.{field}: {value!r}, documented {row[column]!r}")

    assert len(rows) == 9
    assert wrong == []


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"
