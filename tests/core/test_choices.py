from __future__ import annotations

import pytest

from nexus.core.choices import did_you_mean, entry
from nexus.core.errors import InputError

TABLE = {"coco": 1, "lvis": 2}


def test_what_a_name_stands_for() -> None:
    """A known name gives its entry."""
    assert entry(TABLE, "lvis", "a dataset") == 2


def test_a_wrong_name_is_refused_with_the_nearest() -> None:
    """The error lists the names, and the hint is there only where one is near."""
    with pytest.raises(InputError, match="a dataset among coco, lvis, got 'coko'\nhint: .*'coco'"):
        entry(TABLE, "coko", "a dataset")
    with pytest.raises(InputError, match="got 'xyz'") as caught:
        entry(TABLE, "xyz", "a dataset")
    assert caught.value.hint is None
    assert did_you_mean(3, TABLE) is None
