from __future__ import annotations

import pytest

from nexus.core.errors import InputError
from nexus.core.steps import steps_of


def test_a_function_is_told_of_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    """It gets steps done and steps in all; nothing is written."""
    told: list[tuple[int, int]] = []
    with steps_of(lambda *seen: told.append(seen), 5, done=1) as steps:
        steps.advance(2)
        steps.advance(2)

    assert told == [(3, 5), (5, 5)]
    assert capsys.readouterr().err == ""


def test_true_is_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """True writes what was done; False and NEXUS_LOG=quiet write nothing."""
    with steps_of(True, 1, label="encode") as steps:
        steps.advance()
    shown = capsys.readouterr().err
    with steps_of(False, 1) as steps:
        steps.advance()

    assert shown.startswith("encode: 1 image in ")
    assert capsys.readouterr().err == ""


def test_anything_else_is_refused() -> None:
    """A word or a number is no progress."""
    with pytest.raises(InputError, match="expected progress to be True, False or a function, got"):
        steps_of("yes", 1)  # type: ignore[arg-type]
