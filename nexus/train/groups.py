"""Which images or videos belong together, so that none of a patient is learnt and measured."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Protocol, TypeVar

from nexus.core.errors import InputError

AUTO = "auto"
"""The rule that looks for patients and volumes by itself."""

# Words that a number follows, as data sets name their files: first those of a person, who may have
# several volumes.
_WORDS = (
    "patient|pat|pt|subject|subj|sub|person|participant",
    "case|volume|vol|study|series|scan",
)
_MARKS = tuple(
    re.compile(rf"(?<![a-z])(?:{words})[ _-]?[a-z]?\d+", re.IGNORECASE) for words in _WORDS
)


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


_Named = TypeVar("_Named", bound=_HasName)


def check_rule(rule: str | None) -> None:
    """Refuse a rule that is no regular expression, or one that fits anything.

    Raises:
        InputError: It is.
    """
    if rule is None or rule == AUTO:
        return
    try:
        empty = re.compile(rule).fullmatch("") is not None
    except re.error as error:
        raise InputError(
            f"expected groups as auto, null or a regular expression, got {rule!r:.80}: {error}",
            hint=r"'^(\w+?)_' takes what is before the first underscore",
        ) from error
    if empty:
        raise InputError(f"expected groups to fit a part of a name, got {rule!r:.80}")


def groups_of(items: Sequence[_HasName], rule: str | None, title: str) -> list[str]:
    """Return what each of some items is a part of.

    Args:
        items: Of one set. A group that the reader knows (`group`: a volume, a patient) counts
            before any rule.
        rule: None takes each item by itself. A regular expression is looked for in the name; its
            first group, or all it fits, is the item's. 'auto' takes a word such as patient, case or
            volume with a number, where all names have one, or else the folders that items lie in,
            where all have a number; else each item by itself.
        title: Of the set, for messages.

    Raises:
        InputError: The regular expression does not fit a name.
    """
    if rule is None:
        return [item.name for item in items]
    known = [getattr(item, "group", None) for item in items]
    if rule == AUTO:
        found = _marked([item.name for item in items])
    else:
        found = [_fitted(rule, item.name, title) for item in items]
    return [own or other for own, other in zip(known, found, strict=True)]


def group_split(
    items: Sequence[_Named], share: float, rule: str, title: str
) -> tuple[list[_Named], list[_Named]]:
    """Return the items to learn from and those held out, whole groups of them.

    Of g groups the last floor(g * share) by name are held out, and one at least.

    Args:
        items: Of one set, in the order of their names.
        share: In [0, 1]; with 0 nothing is held out.
        rule: As in `groups_of`.
        title: As there.

    Raises:
        InputError: One group alone, of which nothing can be held out; or as in `groups_of`.
    """
    if not share:
        return [*items], []
    groups = groups_of(items, rule, title)
    names = sorted(set(groups))
    if len(names) < 2:
        one = f"{len(items)} of {names[0]!r}" if len(items) > 1 else repr(items[0].name)
        raise InputError(
            f"expected at least two groups in the set {title!r}, one of them to be held out, "
            f"got {one} alone",
            hint="data.groups=null holds single images out; data.held_out=0 holds out none",
        )
    first = len(names) - max(1, math.floor(len(names) * share))
    last = set(names[first:])
    pairs = list(zip(items, groups, strict=True))
    return [i for i, g in pairs if g not in last], [i for i, g in pairs if g in last]


def _marked(names: Sequence[str]) -> list[str]:
    for pattern in _MARKS:
        marks = [pattern.search(name) for name in names]
        if all(marks):
            return [mark[0].lower() for mark in marks if mark is not None]
    folders = [name.rpartition("/")[0] for name in names]
    # Folders without numbers are kinds, such as benign and malignant: all kinds are to be learnt.
    if all(re.search(r"\d", folder) for folder in folders):
        return folders
    return [*names]


def _fitted(rule: str, name: str, title: str) -> str:
    found = re.search(rule, name)
    text = None if found is None else next((part for part in found.groups() if part), found[0])
    if not text:
        raise InputError(
            f"expected data.groups to fit every name of the set {title!r}, got {rule!r:.80}, "
            f"which does not fit {name!r}"
        )
    return text
