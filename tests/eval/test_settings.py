from __future__ import annotations

import re
from typing import Any

import pytest

from nexus.core.errors import InputError
from nexus.eval.settings import settings_of


def test_options_are_fields() -> None:
    """Protocols and options become settings; what is not given has its default."""
    settings = settings_of("clicks", {"clicks": 3, "max_objects": 5})

    assert settings.protocols == ("clicks",)
    assert (settings.clicks, settings.max_objects, settings.min_area) == (3, 5, 1)
    assert not settings.is_video
    assert settings_of(["vos"], {}).is_video


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("boxes", {}, "expected a protocol among box,"),
        ("boxes", {}, "hint: did you mean 'box'?"),
        ((), {}, "expected protocols of different names, got ()"),
        (("box", "box"), {}, "expected protocols of different names"),
        (("box", "vos"), {}, "expected the protocol vos alone, got box, vos"),
        ("box", {"click": 3}, "hint: did you mean 'clicks'?"),
        ("box", {"clicks": 0}, "expected clicks to be 1 or more, got 0"),
        ("box", {"min_area": 1.5}, "expected min_area to be 1 or more, got 1.5"),
        ("box", {"max_objects": True}, "expected max_objects to be 1 or more, got True"),
        ("box", {"jitter": 1.0}, "expected jitter in [0, 1), got 1.0"),
        ("box", {"multimask": "three"}, "expected multimask among auto, single, best"),
        ("box", {"tolerance_mm": 0.0}, "expected tolerance_mm above 0, got 0.0"),
        ("box", {"input_side": 100}, "expected input_side to be a whole multiple of 16"),
    ],
)
def test_wrong_settings_are_named(protocol: Any, options: dict[str, Any], message: str) -> None:
    """What cannot be is an InputError that says so."""
    with pytest.raises(InputError, match=re.escape(message)):
        settings_of(protocol, options)
