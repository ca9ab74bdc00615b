"""A model in Hugging Face's layout: config.json and weights in one folder of the hub's cache."""

from __future__ import annotations

from pathlib import Path

from nexus.core.errors import CheckpointError, DownloadError, WeightsNotFoundError
from nexus.core.weights.hub import offline_variable
from nexus.core.weights.sources import HubSource

WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")


def fetch_hub_folder(repo_id: str, revision: str | None = None) -> Path:
    """Return the cached folder of one commit of a repository, fetching what is not there yet.

    Which repository and revision is told as in `HubSource`.

    Raises:
        WeightsNotFoundError: Not in the cache, and the machine is told to be offline.
        DownloadError: The hub cannot be reached, or has no such repository or files.
    """
    config = _get(HubSource(repo_id, "config.json", revision))
    # The folder is named by its commit, which the weights must be of too.
    first, second = (HubSource(repo_id, name, config.parent.name) for name in WEIGHT_NAMES)
    try:
        _get(first)
    except (DownloadError, WeightsNotFoundError):
        _get(second)
    return config.parent


def weights_in(folder: Path) -> Path:
    """Return the weights file of a folder in Hugging Face's layout.

    Raises:
        CheckpointError: The folder lacks config.json or weights.
    """
    for name in WEIGHT_NAMES:
        if (folder / "config.json").is_file() and (folder / name).is_file():
            return folder / name
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise CheckpointError(
        f"expected config.json and {' or '.join(WEIGHT_NAMES)} in {str(folder)!r}, got {present}"
    )


def _get(source: HubSource) -> Path:
    variable = offline_variable()
    if variable is None:
        return source.fetch()
    found = source.find()
    if found is None:
        raise WeightsNotFoundError(
            f"expected {source} in the Hugging Face cache because {variable} is set, got none",
            hint=f"where there is a network, run: hf download {source.repo_id}; or copy the "
            "repository's folder here and load it with from_checkpoint(folder)",
        )
    return found
