"""An encoded image and how the original lies in a model's frame."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.device import resolve_device
from nexus.core.errors import EmbeddingError, EmbeddingNotFoundError, InputError
from nexus.core.files import as_path
from nexus.core.types.showing import Shown, Table, as_array
from nexus.core.types.values import ByValue
from nexus.core.weights.tensor_file import write_tensors

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
class ImageEmbedding(ByValue, Shown):
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

    def __repr__(self) -> str:
        kind = str(self.features.dtype).removeprefix("torch.")
        finer = f", high_res_features={len(self.high_res_features)}"
        return (
            f"{type(self).__name__}(model={self.model!r}, features={tuple(self.features.shape)}, "
            f"dtype={kind}, device='{self.device}', size_hw={self.original_size_hw}"
            f"{finer if self.high_res_features else ''})"
        )

    def overlay(self, image: Any, *, alpha: float = 0.6) -> NDArray[np.uint8]:
        """Return the image with what tells its parts apart for the encoder laid over it as colour.

        Red, green and blue are the three principal components of the features: parts that the
        encoder finds alike have like colours.

        Args:
            image: The one that was encoded: a path, or whatever else a model takes.
            alpha: How much of the colours covers the image, 0 none to 1 all.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            InputError: An image that cannot be read or has another size, or `alpha` out of range.
        """
        from PIL import Image

        from nexus.ops.draw import overlay

        if not 0 <= alpha <= 1:
            raise InputError(f"expected alpha in [0, 1], got {alpha!r}")
        picture = overlay(as_array(image), [])
        height, width = self.original_size_hw
        if picture.shape[:2] != (height, width):
            raise InputError(
                f"expected the image that was encoded, of {width} x {height} pixels, "
                f"got one of {picture.shape[1]} x {picture.shape[0]}"
            )
        colors = Image.fromarray(self._alone(None))
        colors = colors.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(Image.blend(Image.fromarray(picture), colors, alpha))

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
        maps = (self.features, *self.high_res_features)
        names = _tensor_names(len(maps))
        told = {"format": _EMBEDDING_FORMAT, "model": self.model, "fingerprint": self.fingerprint}
        header = json.dumps(told | dataclasses.asdict(self.geometry))
        return write_tensors(path, dict(zip(names, maps, strict=True)), {"nexus": header})

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
            EmbeddingNotFoundError: There is no such file.
            EmbeddingError: Not an embedding file, damaged, or made by another model.
            InputError: The device does not exist on this machine.
        """
        from safetensors import SafetensorError, safe_open

        source = as_path(path, "an image embedding")
        if not source.is_file():
            got = "a folder" if source.is_dir() else "no such file"
            raise EmbeddingNotFoundError(
                f"expected an image embedding at {str(source)!r}, got {got}"
            )
        place = resolve_device(device)
        try:
            with safe_open(source, framework="pt", device=str(place)) as file:
                header = json.loads((file.metadata() or {}).get("nexus", "{}"))
                if not isinstance(header, dict) or header.get("format") != _EMBEDDING_FORMAT:
                    raise EmbeddingError(
                        f"expected an image embedding saved by Nexus, got {str(source)!r}, "
                        "which is another safetensors file"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            original, resized, side, scale = (header[f.name] for f in dataclasses.fields(Geometry))
            geometry = Geometry(tuple(original), tuple(resized), side, tuple(scale))
            features, *finer = (tensors[name] for name in _tensor_names(len(tensors)))
            made_by = header["model"], header["fingerprint"]
        except (SafetensorError, ValueError, LookupError, TypeError) as error:
            raise EmbeddingError(
                f"expected a whole safetensors file, got {str(source)!r}: {error}",
                hint="encode the image again",
            ) from error
        embedding = cls(features, geometry, *made_by, tuple(finer))
        if model is not None:
            model.check_embedding(embedding)
        return embedding

    def _alone(self, longest: int | None, **drawing: Any) -> NDArray[np.uint8]:
        """Return the features alone as colours, a pixel each, padding left out."""
        _, rows, columns = self.features.shape
        side = self.geometry.input_side
        height, width = self.geometry.resized_size_hw
        kept = np.s_[:, : -(-height * rows // side), : -(-width * columns // side)]
        features = self.features.detach().float().cpu().numpy()[kept]  # (C, gh, gw)
        return _principal_colors(features.transpose(1, 2, 0))

    def _table(self) -> Table:
        height, width = self.original_size_hw
        return ("what", "value"), [
            ("image", f"{width} x {height} px"),
            ("model", self.model),
            ("features", " x ".join(map(str, self.features.shape))),
            ("memory", f"{self.nbytes / 2**20:.1f} MiB on {self.device}"),
        ]


def _principal_colors(features: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the three principal components of features (gh, gw, C) as colours: (gh, gw, 3)."""
    flat = features.reshape(-1, features.shape[2]).astype(np.float64)  # (gh * gw, C)
    flat = flat - flat.mean(0)
    axes = np.linalg.eigh(flat.T @ flat)[1][:, ::-1][:, :3]  # (C, 3), the widest spread first
    # The sign of an axis is arbitrary, and would change the colours from machine to machine.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), range(axes.shape[1])])
    spread = flat @ axes
    low, high = np.percentile(spread, (1, 99), axis=0)
    shades = ((spread - low) / np.where(high > low, high - low, 1)).clip(0, 1) * 255
    colors = np.zeros((len(flat), 3), np.uint8)
    colors[:, : shades.shape[1]] = shades.round()
    return colors.reshape(*features.shape[:2], 3)


def _tensor_names(count: int) -> list[str]:
    return ["features", *(f"high_res_features.{index}" for index in range(count - 1))]
