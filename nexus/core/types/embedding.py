"""An encoded image and how the original lies in a model's frame."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.core.errors import EmbeddingError
from nexus.core.files import replacing

if TYPE_CHECKING:
    import torch

_EMBEDDING_FORMAT = "nexus.image_embedding.1"


@dataclass(frozen=True)
class Geometry:
    """How an original image lies in a model's square input frame.

    Attributes:
        original_size_hw: Height and width of the original image, pixels.
        resized_size_hw: Height and width of the resized image inside the frame, top-left aligned.
        input_side: Side of the square frame, pixels.
        scale_xy: Factors from original to frame coordinates.
    """

    original_size_hw: tuple[int, int]
    resized_size_hw: tuple[int, int]
    input_side: int
    scale_xy: tuple[float, float]


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """An encoded image: all a model needs to answer prompts on it, any number of times.

    Attributes:
        features: (C, gh, gw) output of the image encoder.
        geometry: How the original image lies in the model frame.
        model: Name of the variant that made it, e.g. 'sam_vit_b'.
        fingerprint: Digest of that model's encoder weights and preprocessing policy.
        high_res_features: Finer feature maps of models that have them, finest first.
    """

    features: torch.Tensor
    geometry: Geometry
    model: str
    fingerprint: str
    high_res_features: tuple[torch.Tensor, ...] = ()

    @property
    def original_size_hw(self) -> tuple[int, int]:
        """Height and width of the original image, pixels."""
        return self.geometry.original_size_hw

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return self.features.device

    @property
    def nbytes(self) -> int:
        """Bytes of all feature maps."""
        return sum(t.numel() * t.element_size() for t in (self.features, *self.high_res_features))

    def to(self, device: str | torch.device) -> ImageEmbedding:
        """Return a copy on `device`; the same object if it is already there."""
        if self.features.device == self.features.new_empty(0, device=device).device:
            return self
        finer = tuple(t.to(device) for t in self.high_res_features)
        return dataclasses.replace(self, features=self.features.to(device), high_res_features=finer)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write to a safetensors file, whole or not at all; return its path.

        Raises:
            OSError: The file cannot be written.
        """
        from safetensors.torch import save_file

        maps = (self.features, *self.high_res_features)
        names = _tensor_names(len(maps))
        tensors = {n: t.detach().cpu().contiguous() for n, t in zip(names, maps, strict=True)}
        told = {"format": _EMBEDDING_FORMAT, "model": self.model, "fingerprint": self.fingerprint}
        header = json.dumps(told | dataclasses.asdict(self.geometry))
        target = Path(path)
        with replacing(target) as temporary:
            save_file(tensors, temporary, metadata={"nexus": header})
        return target

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: Any = None,
        device: str | torch.device = "cpu",
    ) -> ImageEmbedding:
        """Read a file written by `save`.

        Args:
            path: The file.
            model: If given, a model that must be the one that made the embedding. `predict`
                makes the same check, so leaving it out only delays the answer.
            device: Where to put the features.

        Raises:
            FileNotFoundError: There is no such file.
            EmbeddingError: Not an embedding file, damaged, or made by another model.
        """
        from safetensors import SafetensorError, safe_open

        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"no image embedding at {str(source)!r}")
        try:
            with safe_open(source, framework="pt", device=str(device)) as file:
                header = json.loads((file.metadata() or {}).get("nexus", "{}"))
                if header.get("format") != _EMBEDDING_FORMAT:
                    raise EmbeddingError(
                        f"expected an image embedding saved by Nexus, got {str(source)!r}, "
                        "which is another safetensors file"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise EmbeddingError(
                f"expected a whole safetensors file, got {str(source)!r}: {error}",
                hint="encode the image again",
            ) from error
        original, resized, side, scale = (header[f.name] for f in dataclasses.fields(Geometry))
        geometry = Geometry(tuple(original), tuple(resized), side, tuple(scale))
        features, *finer = (tensors[name] for name in _tensor_names(len(tensors)))
        embedding = cls(features, geometry, header["model"], header["fingerprint"], tuple(finer))
        if model is not None:
            model.check_embedding(embedding)
        return embedding


def _tensor_names(count: int) -> list[str]:
    return ["features", *(f"high_res_features.{index}" for index in range(count - 1))]
