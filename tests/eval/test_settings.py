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


def test_an_option_is_taken_where_one_protocol_looks_at_it() -> None:
    """Of several protocols one is enough; what is not given is not held against any."""
    assert settings_of(("box", "clicks"), {"clicks": 3, "jitter": 0.1, "seed": 1}).clicks == 3
    assert settings_of("detections", {"multimask": "best", "input_side": 512}).input_side == 512
    assert settings_of("vos", {"input_side": 512, "leave_out_last": True}).leave_out_last


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
        (
            "click",
            {"clicks": 3},
            "expected the option clicks with the protocol clicks, got it with ",
        ),
        ("click", {"clicks": 20}, "click, which does not look at it\nhint: choose the protocol cl"),
        (("box", "click"), {"clicks": 3}, "got it with box, click, which does not look at it"),
        ("click", {"jitter": 0.1}, "the option jitter with the protocol box or medical-box, got"),
        ("box", {"tolerance_mm": 1.0}, "the option tolerance_mm with the protocol medical-box, "),
        ("vos", {"max_objects": 3}, "the option max_objects with the protocol box or click or "),
        ("vos", {"multimask": "best"}, "the option multimask with the protocol box or click or"),
        ("detections", {"min_area": 9}, "the option min_area with the protocol box or click or"),
        ("box", {"leave_out_last": True}, "the option leave_out_last with the protocol vos, got"),
        ("box", {"seed": 1}, "expected the option seed with a jitter above 0, got it without"),
        ("box", {"input_side": 100}, "expected input_side to be a whole multiple of 16"),
    ],
)
def test_wrong_settings_are_named(protocol: Any, options: dict[str, Any], message: str) -> None:
    """What cannot be is an InputError that says so."""
    with pytest.raises(InputError, match=re.escape(message)):
        settings_of(protocol, options)
