"""Repositories in Hugging Face's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.core.errors import CheckpointError, DownloadError, WeightsNotFoundError
from nexus.core.weights.hub_folder import fetch_hub_folder, weights_in
from nexus.core.weights.sources import HubSource


class FakeHub:
    """A hub whose default branch moves on after every request."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.folder, self.names, self.commit = folder, names, 0

    def fetch(self, source: HubSource) -> Path:
        commit = source.revision or f"commit{self.commit}"
        self.commit += 1
        if source.filename not in self.names:
            raise DownloadError(f"expected {source}, got: 404")
        path = self.folder / "snapshots" / commit / source.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_all_files_are_of_one_commit(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch that moves between two requests does not mix commits; either weights file does."""
    hub = FakeHub(tmp_path, ("config.json", weights))
    monkeypatch.setattr(HubSource, "fetch", lambda source: hub.fetch(source))
    folder = fetch_hub_folder("owner/name")

    assert folder.name == "commit0"
    assert weights_in(folder) == folder / weights


def test_a_repository_without_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last file tried is named."""
    hub = FakeHub(tmp_path, ("config.json",))
    monkeypatch.setattr(HubSource, "fetch", lambda source: hub.fetch(source))
    with pytest.raises(DownloadError, match=r"pytorch_model.bin of Hugging Face .* 404"):
        fetch_hub_folder("owner/name")


def test_offline_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is made, and the message names the variable and the command."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(HubSource, "find", lambda source: None)
    monkeypatch.setattr(HubSource, "fetch", lambda source: pytest.fail("went to the network"))
    with pytest.raises(WeightsNotFoundError, match=r"HF_HUB_OFFLINE is set.*\n.*hf download o/n"):
        fetch_hub_folder("o/n")


def test_a_folder_without_a_model_says_what_it_has(tmp_path: Path) -> None:
    """The message lists what lies there."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        CheckpointError, match=r"config.json and model.safetensors .* got notes.txt"
    ):
        weights_in(tmp_path)
