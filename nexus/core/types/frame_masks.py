"""What one frame of a video shows of the objects that are tracked in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.types.masks import Masks, MaskStack


@dataclass(frozen=True, eq=False)
class FrameMasks(MaskStack):
    """K objects on one frame, as NumPy arrays on the CPU; `np.asarray` gives the masks.

    An object that has no answer on the frame yet has an empty mask, an IoU of 0 and an object
    score logit of -1024.

    Attributes:
        index: Number of the frame.
        time_s: When it is shown, seconds from the start.
        object_ids: The caller's K ids, in the order the objects were first prompted.
        masks: (K, H, W) bool in the original frame; they may overlap.
        iou_scores: (K,) float32, the model's own estimate of each mask's IoU with the object.
        object_score_logits: (K,) float32, above 0 where the object is in the frame.
        low_res_logits: (K, h, w) float32 mask logits in the model frame.
        memory: What the next `track` looks back at; None on frames of a session, which keeps its
            memory to itself.
        notes: What makes this result weaker than asked for; empty if nothing does.
    """

    index: int
    time_s: float
    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    iou_scores: NDArray[np.float32]
    object_score_logits: NDArray[np.float32]
    low_res_logits: NDArray[np.float32]
    memory: Any = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.object_ids)

    def mask(self, object_id: int) -> NDArray[np.bool_]:
        """Return the (H, W) mask of one object.

        Raises:
            KeyError: No object of that id is on the frame.
        """
        if object_id not in self.object_ids:
            raise KeyError(f"expected an id among {list(self.object_ids)}, got {object_id!r}")
        return np.asarray(self.masks[self.object_ids.index(object_id)])

    @property
    def logits(self) -> NDArray[np.float32]:
        """(K, H, W) float32 mask logits at the size of the frame, worked out when asked for."""
        import torch
        import torch.nn.functional as F

        low = torch.from_numpy(self.low_res_logits).unsqueeze(1)
        full = F.interpolate(low, size=self.masks.shape[1:], mode="bilinear", align_corners=False)
        return np.asarray(full.squeeze(1))


@dataclass(frozen=True, eq=False)
class PromptedMasks(Masks):
    """The masks of a prompt on an image that may be the first frame of a video.

    Attributes:
        memory: Lets `track` go on from here.
    """

    memory: Any = None
