"""What errors say: values cut short, arguments as the reader writes them."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from nexus.core.errors import InputError, NexusError, NexusWarning, arguments_spelled, shown
from nexus.core.types import Prompt


def test_a_value_is_shown_on_one_line_and_cut() -> None:
    """A short value is its repr; of a long one the middle is left out."""
    assert shown("sam") == "'sam'"
    assert shown(np.zeros((2, 2))) == "array([[0., 0.], [0., 0.]])"
    long = shown(list(range(100_000)))

    assert len(long) <= 80
    assert long.startswith("[0, 1, 2")
    assert long.endswith("99999]")


def test_a_value_that_cannot_be_shown_is_named_by_its_type() -> None:
    """A repr that fails does not hide the error it should explain."""

    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown(Bad()) == "a Bad"


def test_no_message_is_longer_than_a_screen() -> None:
    """Whatever is put into a message or hint, its ends are there and its middle is cut."""
    error = InputError("expected a word, got " + "x" * 300_000 + " here", hint="y" * 300_000)

    assert len(str(error)) < 3000
    assert error.message.startswith("expected a word, got xxx")
    assert error.message.endswith("xxx here")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_mask_prompt_that_is_not_finite_is_told_in_a_line(bad: float) -> None:
    """The message counts the values and shows one, not all 65,536 of them."""
    mask = np.zeros((256, 256), np.float32)
    mask[3, 4] = bad
    with pytest.raises(
        InputError, match=r"finite numbers for mask logits, got 1 NaN or infinite among 65,536"
    ) as info:
        Prompt(mask=mask)

    assert len(str(info.value)) < 200


@pytest.mark.parametrize("address", ["https://a.org/b.png", "s3://a/b", "rtsp://cam:554/1"])
def test_an_address_keeps_its_slashes(address: str) -> None:
    """An address that went through pathlib reads as it was given; a path stays as it is."""
    assert address in str(NexusError(f"got {str(Path(address))!r}"))
    assert "'c:/a b'" in str(NexusError("got 'c:/a b'"))


def test_arguments_are_spelled_as_the_reader_gives_them() -> None:
    """A text in backticks is handed to who shows the error; it travels unspelled."""
    error = NexusError("expected `a=1`, got 2", hint="leave `a` out")
    with arguments_spelled(lambda text: text.replace("`a", "`--a")):
        assert str(error) == "expected `--a=1`, got 2\nhint: leave `--a` out"
        assert (error.message, error.hint) == ("expected `--a=1`, got 2", "leave `--a` out")
        copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error) == "expected `a=1`, got 2\nhint: leave `a` out"


def test_warnings_are_spelled_and_cut_too() -> None:
    """A warning of Nexus reads as an error does."""
    with warnings.catch_warnings(record=True) as caught, arguments_spelled(str.upper):
        warnings.simplefilter("always")
        warnings.warn("weak" + "x" * 9999, NexusWarning, stacklevel=1)
        text = str(caught[0].message)

    assert text.startswith("WEAKX")
    assert len(text) < 3000
