"""`nexus.segment`: one image, one prompt, one call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

from nexus.core.errors import InputError, PromptError

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

    from nexus.core.types import Masks, PromptLike
    from nexus.data.images.loading import ImageLike
    from nexus.models.promptable import PromptableModel

_MODELS_KEPT = 2
_kept: OrderedDict[tuple[str, str, str], Future[PromptableModel]] = OrderedDict()
_lock = threading.Lock()


def segment(
    image: ImageLike,
    *,
    point: ArrayLike | None = None,
    points: ArrayLike | None = None,
    label: int | None = None,
    labels: ArrayLike | None = None,
    box: ArrayLike | None = None,
    mask: ArrayLike | torch.Tensor | None = None,
    prompt: PromptLike | None = None,
    model: str | PromptableModel = "lite_medsam",
    multimask_output: bool | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Masks:
    """Segment one object in an image.

    A model given by name is loaded once and kept for later calls, the last two that were used.
    For many prompts on one image load a model and encode the image once: see `SAM.encode_image`.

    Args:
        image: Whatever `nexus.data.images.load_image` reads.
        point: (2,) one x, y in pixels of the image; or
        points: (N, 2) several of the same object.
        label: Of the point: 1 foreground, 0 background; 1 if left out. Or
        labels: (N,) one for each point.
        box: (4,) x0, y0, x1, y1 in pixels of the image.
        mask: (h, w) low-resolution logits of an earlier result, or (H, W) bool.
        prompt: All of this in one, instead of the arguments above.
        model: A name of `nexus models`, or a loaded model.
        multimask_output: Return three candidates, or one mask. None means three for a single
            foreground point alone, and one otherwise.
        device: For a model given by name; None takes the best device there is.
        dtype: For a model given by name; None is float32.

    Raises:
        ImageError: The image cannot be read or used.
        PromptError: No prompt, two at once, or one that does not fit the image.
        UnknownModelError: No such model.
        WeightsError: Its weights cannot be fetched or read.
        InputError: A device that is not there, or device or dtype given with a loaded model.
    """
    from nexus.core.types import Prompt

    parts = {"point": point, "points": points, "label": label, "labels": labels}
    given = {k: part for k, part in {**parts, "box": box, "mask": mask}.items() if part is not None}
    if prompt is not None and given:
        raise PromptError(
            f"expected either prompt or its parts, got prompt and {', '.join(given)}",
            hint="put all of it into one Prompt(points=..., labels=..., box=..., mask=...)",
        )
    parsed = Prompt.of(given if prompt is None else prompt)
    loaded = _model(model, device, dtype)
    return loaded.predict(image=image, prompt=parsed, multimask_output=multimask_output)


def clear_model_cache() -> None:
    """Let go of the models that `segment` keeps, and the memory they take."""
    with _lock:
        _kept.clear()


def _model(
    model: str | PromptableModel, device: str | torch.device | None, dtype: str | torch.dtype | None
) -> PromptableModel:
    """Return a loaded model; threads that want the same one by name wait for a single load."""
    if not isinstance(model, str):
        if not hasattr(model, "predict"):
            raise InputError(
                f"expected a model's name or a loaded model, got {type(model).__name__}",
                hint="load a file with SAM.from_checkpoint(path, variant=...)",
            )
        if device is not None or dtype is not None:
            raise InputError(
                "expected device and dtype with a model's name only, got them with a loaded model",
                hint="move the model itself: model.to(device)",
            )
        return model
    from nexus.core.device import resolve_device, resolve_dtype
    from nexus.models.cv import load_model

    target, number = resolve_device(device), resolve_dtype(dtype)
    key = (model, str(target), str(number))
    with _lock:
        loads = key not in _kept
        future = _kept.setdefault(key, Future())
    if loads:  # here; others wait for this thread, and those with another key do not
        try:
            future.set_result(load_model(model, device=target, dtype=number))
        except BaseException as error:
            with _lock:
                _kept.pop(key, None)
            future.set_exception(error)
    loaded = future.result()
    with _lock:
        _kept[key] = future
        _kept.move_to_end(key)
        while len(_kept) > _MODELS_KEPT:
            _kept.popitem(last=False)
    return loaded
