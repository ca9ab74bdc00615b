"""The listing of public names in docs/api.md."""

from __future__ import annotations

from tools.api_listing import LISTING, listing


def test_the_listing_is_up_to_date() -> None:
    """docs/api.md is what `python -m tools.api_listing` writes."""
    assert LISTING.read_text("utf-8") == listing()


def test_the_listing_has_signatures() -> None:
    """Functions and methods are listed with their arguments, not by name alone."""
    text = listing()

    assert "`Prompt(points: ArrayLike | None = None," in text
    assert "  - `Masks.best`" in text
    assert "`SAM.encode_image(self, image: ImageLike," in text
