from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import nexus
import nexus.models.cv
from nexus.core.errors import InputError, PromptError, UnknownModelError
from nexus.core.types.prompt import Prompt
from nexus.predict.oneshot import clear_model_cache, segment

IMAGE = np.zeros((8, 8, 3), np.uint8)


class FakeModel:
    """Hands back what it was asked."""

    def predict(self, **arguments: Any) -> dict[str, Any]:
        """Return the arguments."""
        return {"model": self, **arguments}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str, str]]]:
    """Replace the loading of models by fakes; gather what was loaded; start and end empty."""
    calls: list[tuple[str, str, str]] = []

    def load_model(name: str, *, device: object, dtype: object) -> FakeModel:
        calls.append((name, str(device), str(dtype)))
        if name == "nothing":
            raise UnknownModelError("no such model")
        return FakeModel()

    monkeypatch.setattr(nexus.models.cv, "load_model", load_model)
    clear_model_cache()
    yield calls
    clear_model_cache()


def ask(**arguments: Any) -> dict[str, Any]:
    """Call segment and return what its fake model was asked."""
    return segment(IMAGE, **arguments)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"point": (1, 2)}, ([[1, 2]], [1], None)),
        ({"point": (1, 2), "label": 0}, ([[1, 2]], [0], None)),
        ({"points": [[1, 2], [3, 4]], "labels": [1, 0]}, ([[1, 2], [3, 4]], [1, 0], None)),
        ({"box": (1, 2, 3, 4)}, (None, None, [1, 2, 3, 4])),
        ({"box": (1, 2, 3, 4), "point": [2, 3]}, ([[2, 3]], [1], [1, 2, 3, 4])),
        ({"prompt": (1, 2)}, ([[1, 2]], [1], None)),
        ({"prompt": {"box": [1, 2, 3, 4]}}, (None, None, [1, 2, 3, 4])),
        ({"prompt": Prompt(box=[1, 2, 3, 4])}, (None, None, [1, 2, 3, 4])),
    ],
)
def test_every_spelling_of_a_prompt_reaches_the_model(
    arguments: dict[str, Any], expected: tuple[Any, Any, Any], loads: list[Any]
) -> None:
    """Parts and whole prompts become one Prompt, next to the image and the kind of answer."""
    asked = ask(**arguments, multimask_output=True)
    prompt = asked["prompt"]

    parts = (prompt.points, prompt.labels, prompt.box)
    assert tuple(part if part is None else part.tolist() for part in parts) == expected
    assert asked["image"] is IMAGE
    assert asked["multimask_output"] is True


def test_a_mask_is_a_prompt(loads: list[Any]) -> None:
    """Logits of an earlier result go in as mask."""
    assert ask(mask=np.ones((4, 4), np.float32))["prompt"].mask.shape == (4, 4)


def test_segment_is_at_the_top_of_the_package() -> None:
    """`nexus.segment` is this function."""
    assert nexus.segment is segment


def test_a_named_model_is_loaded_once(loads: list[Any]) -> None:
    """A second call with the same name, device and number format loads nothing."""
    first, second = ask(box=(0, 0, 2, 2)), ask(point=(1, 1))
    explicit = ask(point=(1, 1), device=loads[0][1], dtype="float32")

    assert first["model"] is second["model"] is explicit["model"]
    assert [call[0] for call in loads] == ["lite_medsam"]
    assert loads[0][2] == "torch.float32"


def test_device_and_dtype_belong_to_the_key(loads: list[Any]) -> None:
    """Another number format is another model."""
    one = ask(point=(1, 1), device="cpu")
    other = ask(point=(1, 1), device="cpu", dtype="bfloat16")

    assert one["model"] is not other["model"]
    assert loads[1] == ("lite_medsam", "cpu", "torch.bfloat16")


def test_the_last_two_models_are_kept(loads: list[Any]) -> None:
    """A third model pushes out the one used longest ago, and its memory is given back."""
    gone = weakref.ref(ask(point=(1, 1), model="a")["model"])
    kept = ask(point=(1, 1), model="b")["model"]
    ask(point=(1, 1), model="c")
    gc.collect()

    assert gone() is None
    assert ask(point=(1, 1), model="b")["model"] is kept
    assert [call[0] for call in loads] == ["a", "b", "c"]


def test_clearing_the_cache_lets_models_go(loads: list[Any]) -> None:
    """After clear_model_cache the memory is free and the next call loads again."""
    gone = weakref.ref(ask(point=(1, 1))["model"])
    clear_model_cache()
    gc.collect()

    assert gone() is None
    ask(point=(1, 1))
    assert len(loads) == 2


def test_a_load_that_fails_is_tried_again_and_pushes_nothing_out(loads: list[Any]) -> None:
    """A wrong name leaves the cache as it was, and is asked for anew each time."""
    ask(point=(1, 1), model="a")
    ask(point=(1, 1), model="b")
    for _ in range(2):
        with pytest.raises(UnknownModelError, match="no such model"):
            ask(point=(1, 1), model="nothing")
    ask(point=(1, 1), model="a")
    ask(point=(1, 1), model="b")

    assert [call[0] for call in loads] == ["a", "b", "nothing", "nothing"]


def test_threads_wait_for_one_load_and_do_not_hold_up_another_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight threads load a model once; while it loads, a thread with another model goes on."""
    entered, release = threading.Event(), threading.Event()
    calls: list[str] = []

    def load_model(name: str, **options: object) -> FakeModel:
        calls.append(name)
        if name == "slow":
            entered.set()
            assert release.wait(30)
        return FakeModel()

    monkeypatch.setattr(nexus.models.cv, "load_model", load_model)
    clear_model_cache()
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(ask(point=(1, 1), model="slow")["model"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    assert entered.wait(30)
    other = ask(point=(1, 1), model="fast")["model"]
    release.set()
    for thread in threads:
        thread.join(30)
    clear_model_cache()

    assert calls == ["slow", "fast"]
    assert len(found) == 8
    assert len({id(model) for model in found}) == 1
    assert other is not found[0]


def test_a_loaded_model_is_used_as_it_is(loads: list[Any]) -> None:
    """A model object answers itself; nothing is loaded."""
    model = FakeModel()

    assert ask(point=(1, 1), model=model)["model"] is model
    assert loads == []


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({}, PromptError, r"points, a box or a mask, got an empty one"),
        ({"prompt": (1, 2), "box": (0, 0, 1, 1)}, PromptError, r"got prompt and box\nhint: put"),
        ({"point": (1, 2), "points": [[1, 2]]}, PromptError, r"'point' or 'points' .* got both"),
        ({"box": (5, 5, 1, 1)}, PromptError, r"x0 < x1 and y0 < y1"),
        ({"point": (1, 2), "label": 7}, PromptError, r"labels 1 \(foreground\) or 0"),
        ({"point": (1, 2), "model": 5}, InputError, r"name or a loaded model, got int\nhint: load"),
        ({"point": (1, 2), "device": "tpu9"}, InputError, r"expected a device"),
        ({"point": (1, 2), "dtype": "int8"}, InputError, r"dtype to be one of"),
        (
            {"point": (1, 2), "model": FakeModel(), "device": "cpu"},
            InputError,
            r"model's name only, got them with a loaded model\nhint: move the model itself",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_loading(
    arguments: dict[str, Any], kind: type[Exception], message: str, loads: list[Any]
) -> None:
    """Wrong prompts, models and devices say what was expected; no model is loaded for them."""
    with pytest.raises(kind, match=message):
        ask(**arguments)

    assert loads == []
