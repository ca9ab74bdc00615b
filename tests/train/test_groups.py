"""What is held out together."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nexus.core.errors import InputError
from nexus.train.groups import check_rule, group_split, groups_of


@dataclass(frozen=True)
class Item:
    name: str
    group: str | None = None


def items(*names: str) -> list[Item]:
    return [Item(name) for name in names]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (
            ["patient1_a.png", "patient1_b.png", "patient2.png"],
            ["patient1", "patient1", "patient2"],
        ),
        (["sub-01_ses-1.png", "sub-02_ses-1.png"], ["sub-01", "sub-02"]),
        (["study1_Patient_3.png", "study1_patient_4.png"], ["patient_3", "patient_4"]),
        (["case 7 slice 1.png", "case 8 slice 1.png"], ["case 7", "case 8"]),
        (["017/a.png", "018/a.png", "018/b.png"], ["017", "018", "018"]),
        (["benign/1.png", "malignant/2.png"], ["benign/1.png", "malignant/2.png"]),
        (["concept1.png", "concept2.png"], ["concept1.png", "concept2.png"]),
        (["patient1.png", "other.png"], ["patient1.png", "other.png"]),
        (["img_1.png", "img_2.png"], ["img_1.png", "img_2.png"]),
    ],
)
def test_groups_are_seen_in_names(names: list[str], groups: list[str]) -> None:
    """A patient before a volume, then folders with numbers; else each item is by itself."""
    assert groups_of(items(*names), "auto", "s") == groups


def test_a_rule_of_the_callers() -> None:
    """Its first group, or all it fits; what a reader knows counts before it."""
    given = items("ab_1", "ab_2", "cd_1")

    assert groups_of(given, r"^(\w+)_", "s") == ["ab", "ab", "cd"]
    assert groups_of(given, "^..", "s") == ["ab", "ab", "cd"]
    assert groups_of([Item("ab_1", "v1"), *given[1:]], "^..", "s") == ["v1", "ab", "cd"]
    assert groups_of(given, None, "s") == ["ab_1", "ab_2", "cd_1"]
    with pytest.raises(InputError, match="to fit every name of the set 's', got 'x', which does"):
        groups_of(given, "x", "s")


@pytest.mark.parametrize(
    ("rule", "message"), [("(", "a regular expression, got '\\('"), (".*", "fit a part of a name")]
)
def test_a_rule_that_is_none(rule: str, message: str) -> None:
    """One that does not compile or fits anything is refused; auto and null are rules."""
    check_rule(None)
    check_rule("auto")
    with pytest.raises(InputError, match=message):
        check_rule(rule)


def test_whole_groups_are_held_out() -> None:
    """The last by name, and one at least; none of a group is on the other side."""
    given = items(*(f"case{n}_{k}" for n in range(1, 6) for k in range(2)))
    learnt, held_out = group_split(given, 0.4, "auto", "s")
    few = group_split(given[:4], 0.1, "auto", "s")

    assert [item.name for item in held_out] == ["case4_0", "case4_1", "case5_0", "case5_1"]
    assert learnt == given[:6]
    assert [item.name for item in few[1]] == ["case2_0", "case2_1"]
    assert group_split(given[:2], 0, "auto", "s") == (given[:2], [])


@pytest.mark.parametrize(
    ("names", "message"),
    [(["case1_1", "case1_2"], "got 2 of 'case1' alone"), (["a.png"], "got 'a.png' alone")],
)
def test_one_group_alone(names: list[str], message: str) -> None:
    """Nothing of it can be held out, which is said with what helps."""
    with pytest.raises(InputError, match=f"two groups in the set 's'.* {message}") as caught:
        group_split(items(*names), 0.25, "auto", "s")
    assert "data.held_out=0" in str(caught.value.hint)
