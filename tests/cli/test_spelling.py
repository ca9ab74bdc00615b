"""Errors name options on the command line, and arguments in Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from nexus.cli import main as cli
from nexus.cli.spelling import as_options
from nexus.core.errors import InputError
from nexus.data.images.loading import load_image


def spelled(verb: str, text: str) -> str:
    group = cli.typer.main.get_command(cli.app)
    return as_options(group.get_command(None, verb))(text)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("verb", "text", "wanted"),
    [
        ("segment", "raise `max_pixels`", "raise --max-pixels"),
        ("segment", "`max_pixels=None` for no limit", "--max-pixels 0 for no limit"),
        ("segment", "or pass `device='cpu'`", "or pass --device cpu"),
        ("segment", "`multimask=False`", "--single"),
        ("track", "or `overwrite=True`", "or --overwrite"),
        ("track", "`formats=('jsonl',)`", "--format ('jsonl',)"),
        ("track", "`overwrite=False`", "no --overwrite"),
        ("evaluate", "`split='val'` or `split='test'`", "--split val or --split test"),
        ("evaluate", "`confidence=0.9`", "--confidence 0.9"),
        ("generate", "`points_per_side=16`", "--set points_per_side=16"),
        ("generate", "`points_per_side=None`", "--set points_per_side=null"),
        ("generate", "`min_stability_score` above 1", "--min-stability above 1"),
        (
            "train",
            "lower `optimizer.learning_rate=1e-4`",
            "lower --set optimizer.learning_rate=1e-4",
        ),
        ("segment", "`nexus models` and `load_model(x)`", "`nexus models` and `load_model(x)`"),
        ("track", "`from_checkpoint('a.pt', variant=...)`", "--model NAME --checkpoint 'a.pt'"),
        ("segment", "`unknown` and `unknown=1`", "`unknown` and `unknown=1`"),
    ],
)
def test_arguments_become_the_options_of_the_verb(verb: str, text: str, wanted: str) -> None:
    """A name the verb has becomes its option, a value stays, and all else is left."""
    assert spelled(verb, text) == wanted


def test_one_error_speaks_to_both_sides(tmp_path: Path) -> None:
    """The same limit is an argument to a caller in Python and an option on the command line."""
    picture = tmp_path / "a.png"
    Image.new("RGB", (20, 20)).save(picture)
    with pytest.raises(InputError, match=r"raise `max_pixels` \(`max_pixels=None` for no limit\)"):
        load_image(picture, max_pixels=9)
    result = CliRunner().invoke(
        cli.app,
        [
            "segment",
            str(picture),
            "--box",
            "1,1,9,9",
            "--max-pixels",
            "9",
            "--out",
            str(tmp_path / "o"),
        ],
    )

    assert result.exit_code == 1
    assert "raise --max-pixels (--max-pixels 0 for no limit)" in result.stderr
    assert "`" not in result.stderr


def test_every_argument_a_hint_names_is_in_backticks_in_python_too() -> None:
    """Outside a verb an error says what Python takes."""
    from nexus.core.device import resolve_device

    with pytest.raises(InputError, match="pass `device='cpu'`"):
        resolve_device("cuda:99")
