"""Show results: in a notebook, in a window, or as a file where there is neither."""

from __future__ import annotations

import base64
import html
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.core.errors import NexusWarning

_GROUND = 205
_THUMBNAIL_PX = 256
_MOST_ROWS = 20

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""The headings of a table, and its rows."""


class Shown:
    """What can be looked at: over an image, or alone on a grey ground."""

    def overlay(self, image: Any) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB: the image with this drawn on it."""
        raise NotImplementedError

    def _alone(self, longest: int | None, **drawing: Any) -> NDArray[np.uint8]:
        """Return a picture without the image, made no finer than needed for a longest side."""
        raise NotImplementedError

    def _table(self) -> Table:
        """Return what there is to say about this."""
        raise NotImplementedError

    def show(self, image: Any = None, **drawing: Any) -> Path | None:
        """Show this over an image, or alone: in a notebook under the cell, else in a window.

        Args:
            image: As `overlay` takes it; None for a grey ground.
            drawing: What else `overlay` takes, such as `labels=True`.

        Returns:
            None; or, on a machine without a screen, the file that the picture was written to, of
            which a `NexusWarning` tells.

        Raises:
            InputError: As in `overlay`.
        """
        if image is None:
            return display(self._alone(None, **drawing))
        return display(self.overlay(image, **drawing))

    def _repr_png_(self) -> bytes:
        return png_bytes(self._alone(2 * _THUMBNAIL_PX), _THUMBNAIL_PX)

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode()
        headings, rows = self._table()
        lines = [_row("th", headings), *(_row("td", row) for row in rows[:_MOST_ROWS])]
        if len(rows) > _MOST_ROWS:
            lines.append(f"<tr><td>and {len(rows) - _MOST_ROWS} more</td></tr>")
        return (
            '<div style="display:flex;gap:1em;align-items:flex-start">'
            f'<img src="data:image/png;base64,{picture}" alt="{html.escape(repr(self))}">'
            f"<div><code>{html.escape(repr(self))}</code><table>{''.join(lines)}</table></div>"
            "</div>"
        )


def as_array(image: Any) -> NDArray[Any]:
    """Return whatever a model takes as an image, such as the path of a file, as an array.

    Raises:
        ImageError: As in `nexus.data.images.loading.load_image`.
    """
    if isinstance(image, np.ndarray):
        return image
    from nexus.data.images.loading import load_image

    return load_image(image, max_pixels=None)


def ground(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture of nothing, (H, W) grey."""
    return np.full(size_hw, _GROUND, np.uint8)


def png_bytes(picture: NDArray[np.uint8], longest: int | None = None) -> bytes:
    """Return a picture (H, W, 3) as PNG; its longer side at most, and about, `longest` pixels."""
    from PIL import Image

    shown = Image.fromarray(picture)
    if longest is not None:
        side = max(shown.size)
        if side > longest:
            width, height = (max(1, round(length * longest / side)) for length in shown.size)
            shown = shown.resize((width, height), Image.Resampling.LANCZOS)
        elif (times := longest // side) > 1:  # pixels stay pixels
            shown = shown.resize(
                (shown.width * times, shown.height * times), Image.Resampling.NEAREST
            )
    stream = io.BytesIO()
    shown.save(stream, "PNG")
    return stream.getvalue()


def display(picture: NDArray[np.uint8]) -> Path | None:
    """Show a picture (H, W, 3); return the file it was written to where there is no screen."""
    from PIL import Image, ImageShow

    notebook = sys.modules.get("IPython")
    shell = notebook.get_ipython() if notebook else None
    if notebook is not None and getattr(shell, "kernel", None) is not None:
        from importlib import import_module

        shown = import_module("IPython.display")
        shown.display(shown.Image(data=png_bytes(picture)))
        return None
    if _has_screen() and ImageShow.show(Image.fromarray(picture)):
        return None
    number, name = tempfile.mkstemp(prefix="nexus-", suffix=".png")
    with os.fdopen(number, "wb") as file:
        file.write(png_bytes(picture))
    warnings.warn(f"there is no screen: the picture is in {name}", NexusWarning, stacklevel=3)
    return Path(name)


def _has_screen() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"
