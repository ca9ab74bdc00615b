from __future__ import annotations

import pytest

from nexus.core.words import be, counted, plural, singular


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [(0, "image", "0 images"), (1, "image", "1 image"), (2, "box", "2 boxes"), (1, "box", "1 box")],
)
def test_a_count_goes_with_its_noun(count: int, noun: str, said: str) -> None:
    """One alone is singular."""
    assert counted(count, noun) == said


@pytest.mark.parametrize("noun", ["image", "box", "category", "class", "process", "good frame"])
def test_the_plural_leads_back(noun: str) -> None:
    """`singular` undoes `plural`, and leaves a unit as it is."""
    assert singular(plural(noun)) == noun
    assert singular("MiB") == "MiB"


def test_the_verb_goes_with_the_count() -> None:
    """One is, others are."""
    assert [be(count) for count in (0, 1, 2)] == ["are", "is", "are"]
