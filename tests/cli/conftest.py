"""Fixtures of the tests of `nexus segment`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import nexus.models.cv
from tests.cli.segmenting import HEIGHT, WIDTH, FakeModel


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[FakeModel]:
    """Replace the loading of models by fakes, which gather here."""
    models: list[FakeModel] = []

    def load_model(*arguments: Any, **options: Any) -> FakeModel:
        models.append(FakeModel(*arguments, **options))
        return models[-1]

    monkeypatch.setattr(nexus.models.cv, "load_model", load_model)
    return models


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a picture of a given name."""

    def make(name: str) -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), "gray").save(path)
        return path

    return make
