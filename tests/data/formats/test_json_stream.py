from __future__ import annotations

import io
import json

import pytest

from nexus.core.errors import InputError
from nexus.data.formats.json_stream import write_array


@pytest.mark.parametrize("items", [[], [1], [{"a": "ü"}, [None]]])
def test_the_array_is_json(items: list[object]) -> None:
    """Whatever is streamed reads back as the list of it."""
    stream = io.StringIO()
    write_array(stream, iter(items))

    assert json.loads(stream.getvalue()) == items


def test_what_json_cannot_hold() -> None:
    """NaN is refused with a hint, since other programs cannot read it."""
    with pytest.raises(InputError, match="plain finite JSON values") as caught:
        write_array(io.StringIO(), [float("nan")])
    assert "float(...)" in str(caught.value.hint)
