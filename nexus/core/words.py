"""Numbers with their nouns, as messages say them."""

from __future__ import annotations

_IRREGULAR = {
    "box": "boxes",
    "category": "categories",
    "class": "classes",
    "process": "processes",
}


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, singular for 1 alone.

    >>> counted(1, "image"), counted(0, "image"), counted(2, "box")
    ('1 image', '0 images', '2 boxes')
    """
    return f"{count} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun that messages count.

    >>> plural("frame"), plural("category")
    ('frames', 'categories')
    """
    return _IRREGULAR.get(noun, f"{noun}s")


def singular(nouns: str) -> str:
    """Return the singular of a plural that `plural` makes; any other word as it is.

    >>> singular("images"), singular("boxes"), singular("MiB")
    ('image', 'box', 'MiB')
    """
    back = {many: one for one, many in _IRREGULAR.items()}
    return back.get(nouns, nouns[:-1] if nouns.endswith("s") else nouns)


def be(count: int) -> str:
    """Return the verb that goes with a count.

    >>> be(1), be(2)
    ('is', 'are')
    """
    return "is" if count == 1 else "are"
