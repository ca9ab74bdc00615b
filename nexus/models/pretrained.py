"""Models that come from the table of weights or from a checkpoint file."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from typing_extensions import Self

from nexus.core.device import resolve_device, resolve_dtype
from nexus.core.errors import CheckpointError, InputError, NexusWarning, UnknownModelError
from nexus.core.files import as_path
from nexus.core.weights.checkpoint import load_strict, read_checkpoint, read_metadata
from nexus.core.weights.hub import fetch, fetch_hub_folder
from nexus.models.frame import with_input_side
from nexus.models.policy import Policy
from nexus.models.promptable import PromptableModel
from nexus.models.registry import FAMILIES, MODELS, is_hub_id, model_spec, name_of_hub_id

_LOG = logging.getLogger(__name__)

POLICY_KEY = "nexus_policy"
"""Word in the header of a fine-tuned checkpoint: JSON of what its policy has otherwise."""


class PretrainedModel(PromptableModel):
    """A promptable model with an entry in the table of models.

    A subclass is made as `cls(config, variant, policy)`.

    Attributes:
        families: Families of the table that the class is at home with.
        variants: Its configurations, by the names of the table.
        reads_folders: It takes folders and repositories in Hugging Face's layout.
    """

    families: ClassVar[tuple[str, ...]] = ()
    variants: ClassVar[Mapping[str, Any]] = {}
    reads_folders: ClassVar[bool] = False

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        input_side: int | None = None,
    ) -> Self:
        """Load published weights, fetching them the first time.

        Args:
            name: A name of `nexus models`; the Hugging Face id of a model there; or, for a
                class that reads Hugging Face's layout, of any repository with such a model.
            device: None takes CUDA, MPS or the CPU, the first that is present.
            dtype: 'float32' (None), 'bfloat16' or 'float16'.
            input_side: Side of the model frame; None takes the trained one.

        Raises:
            UnknownModelError: No such name, or a model of another class.
            WeightsNotFoundError: Not cached, and offline.
            DownloadError: Every source failed.
        """
        placement = resolve_device(device), resolve_dtype(dtype)
        if cls.reads_folders and is_hub_id(name):
            return cls._from_folder(fetch_hub_folder(name), name)._placed(*placement, input_side)
        name = name_of_hub_id(name)
        spec = model_spec(name)
        cls._check_family(name)
        return cls._from_file(fetch(spec.file), name)._placed(*placement, input_side)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        variant: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        input_side: int | None = None,
    ) -> Self:
        """Load weights from a file: .pt, .pth or .safetensors with official keys.

        A class that reads Hugging Face's layout takes a file with its keys or a folder with
        config.json as well. The variant says which model it is, a name of `nexus models`; a folder
        says that itself. Other arguments are those of `from_pretrained`.

        Raises:
            InputError: No variant.
            UnknownModelError: An unknown variant, or one of another class.
            FileNotFoundError: There is no such file.
            CheckpointError: Damaged, unsafe to read, or another model's.
        """
        placement = resolve_device(device), resolve_dtype(dtype)
        as_path(path, "a file of weights")
        if cls.reads_folders and Path(path).is_dir():
            return cls._from_folder(Path(path), variant)._placed(*placement, input_side)
        if variant is None:
            mine = (name for name, spec in MODELS.items() if spec.family in cls.families)
            raise InputError(
                f"expected variant= to say which model {str(path)!r} holds, got None",
                hint="one of " + ", ".join(mine),
            )
        cls._check_family(variant)
        return cls._from_file(Path(path), variant)._placed(*placement, input_side)

    @classmethod
    def _from_file(cls, path: Path, variant: str) -> Self:
        """Load a file that holds a model of the table."""
        state = cls._official(read_checkpoint(path))
        policy = policy_of_file(path, model_spec(variant).policy)
        return cls._filled(cls.variants[variant], variant, policy, state, str(path))

    @classmethod
    def _from_folder(cls, folder: Path, variant: str | None) -> Self:
        """Load a folder in Hugging Face's layout, for classes that read it."""
        raise InputError(f"expected a file of {cls.__name__}, got the folder {str(folder)!r}")

    @classmethod
    def _official(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename foreign checkpoint entries to the official names."""
        return state

    @classmethod
    def _filled(
        cls, config: Any, variant: str, policy: Policy, state: Mapping[str, Tensor], source: str
    ) -> Self:
        """Build the model without initialising it and fill it with `state`."""
        make = cast(Callable[[Any, str, Policy], Self], cls)
        start_s = time.perf_counter()
        with torch.device("meta"):
            model = make(config, variant, policy)
        load_strict(model, state, what=variant, source=source)
        values, took_s = sum(p.numel() for p in model.parameters()), time.perf_counter() - start_s
        _LOG.info(
            "loaded %s: %.1f million values of %s, %.2f s", variant, values / 1e6, source, took_s
        )
        return model

    def _placed(self, device: torch.device, dtype: torch.dtype, input_side: int | None) -> Self:
        """Move to where and how the caller wants the model."""
        self.policy = with_input_side(self.policy, input_side)
        name = str(dtype).removeprefix("torch.")
        _LOG.info(
            "%s in %s on %s, input side %d", self.variant, name, device, self.policy.input_side
        )
        if device.type == "cpu" and dtype == torch.float16:
            warnings.warn(
                "float16 on a CPU, which mostly calculates it by detours, is about ten times "
                "slower than float32; `dtype='float32'` or `dtype='bfloat16'` is faster",
                NexusWarning,
                stacklevel=4,
            )
        return self.to(device=device, dtype=dtype)

    @classmethod
    def _check_family(cls, name: str) -> None:
        family = model_spec(name).family
        if family not in cls.families:
            module, _, right = FAMILIES[family].partition(":")
            raise UnknownModelError(
                f"expected a model of {cls.__name__}, got {name!r}, which is one of {right}",
                hint=f"from {module} import {right}; {right}.from_pretrained({name!r})",
            )


def class_of(name: str) -> type[PretrainedModel]:
    """Return the class that a name of the table belongs to.

    Raises:
        UnknownModelError: Not in the table.
    """
    module, _, class_name = FAMILIES[model_spec(name).family].partition(":")
    return cast(type[PretrainedModel], getattr(importlib.import_module(module), class_name))


def policy_words(variant: str, policy: Policy) -> dict[str, str]:
    """Return what the header of a file says of a policy; nothing where it is the table's.

    `policy_of_file` reads it.
    """
    spec = MODELS.get(variant)
    if spec is None or spec.policy == policy:
        return {}
    usual = dataclasses.asdict(spec.policy)
    changed = {k: v for k, v in dataclasses.asdict(policy).items() if v != usual[k]}
    return {POLICY_KEY: json.dumps(changed, sort_keys=True)}


def policy_of_file(path: Path, policy: Policy) -> Policy:
    """Return a model's policy with what the header of its checkpoint says otherwise.

    Fine-tuning may teach clicks to a model that knew boxes alone, or another input side.

    Raises:
        CheckpointError: The header names no such field, or a value it cannot have.
    """
    words = read_metadata(path).get(POLICY_KEY)
    if words is None:
        return policy
    try:
        changes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(words).items()
        }
        usual = dataclasses.asdict(policy)
        if not all(_is_alike(value, usual[name]) for name, value in changes.items()):
            raise TypeError("a value of another type")
        return dataclasses.replace(policy, **changes)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(
            f"expected fields of a Policy as {POLICY_KEY!r} in the header of {str(path)!r}, "
            f"got {words[:200]!r}"
        ) from error


def _is_alike(value: Any, usual: Any) -> bool:
    """Tell whether a value can stand where `usual` does: of its type, or no limit."""
    numbers = (int, float)
    if type(value) in numbers and (type(usual) in numbers or usual is None):
        return True
    return type(value) is type(usual) or (value is None and type(usual) is float)
