"""`nexus fetch` brings weights here, or says which could not be had."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner, Result

from nexus.cli import main as cli
from nexus.core.weights import hub
from nexus.core.weights.hub import UrlSource, WeightFile
from nexus.models.registry import MODELS

GOOD = b"weights"


@pytest.fixture(autouse=True)
def empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Leave two models in the table: one whose address sends its file, one whose does not."""
    digest = hashlib.sha256(GOOD).hexdigest()
    for name in [*MODELS]:
        if name not in ("mobile_sam", "edgetam"):
            monkeypatch.delitem(MODELS, name)
    for name, spec in [*MODELS.items()]:
        source = UrlSource(f"https://weights.test/{name}")
        file = WeightFile(f"{name}.pt", (source,), digest, None, len(GOOD))
        monkeypatch.setitem(MODELS, name, dataclasses.replace(spec, file=file))
    served: list[str] = []

    def download(url: str, part: Path, **_: object) -> None:
        served.append(url)
        part.write_bytes(GOOD if url.endswith("mobile_sam") else b"garbage")

    monkeypatch.setattr(hub, "download", download)
    return served


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["fetch", *arguments])


def test_weights_are_fetched_and_their_paths_printed(
    two_models: list[str], nexus_home: Path
) -> None:
    """The file is where models look for it; a second run says that it is there, and asks nobody."""
    first, second = run("mobile_sam"), run("mobile_sam")

    path = nexus_home / "weights" / "mobile_sam.pt"
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout == f"{path}\n"
    assert path.read_bytes() == GOOD
    assert "mobile_sam is there already, and good" in second.stderr
    assert len(two_models) == 1


@pytest.mark.usefixtures("two_models")
def test_one_that_cannot_be_had_does_not_stop_the_others() -> None:
    """A wrong digest is an error of that model; the exit code is 3."""
    result = run("edgetam", "mobile_sam")

    assert result.exit_code == 3
    assert result.stderr.startswith("error: edgetam: expected edgetam.pt, got a failure from every")
    assert "hint: " in result.stderr
    assert result.stdout.endswith("mobile_sam.pt\n")


@pytest.mark.usefixtures("two_models")
def test_a_damaged_file_is_said(nexus_home: Path) -> None:
    """What lies there and is not what it should be is an error that names the file."""
    path = nexus_home / "weights" / "mobile_sam.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut")
    result = run("mobile_sam")

    assert result.exit_code == 3
    assert f"expected 7 bytes in {path}, got 3" in result.stderr
    assert f"hint: delete {path}" in result.stderr


def test_all_is_every_model(two_models: list[str]) -> None:
    """--all takes the whole table; --json tells what came of each."""
    result = run("--all", "--json")

    records = {record["name"]: record for record in json.loads(result.stdout)}
    assert result.exit_code == 3
    assert list(records) == list(MODELS)
    assert records["mobile_sam"]["error"] is None
    assert "a failure from every source" in records["edgetam"]["error"]
    assert len(two_models) == 2


def test_a_dry_run_fetches_nothing(two_models: list[str]) -> None:
    """--dry-run says what there is and how much is missing."""
    run("mobile_sam")
    result = run("--all", "--dry-run")

    assert result.exit_code == 0
    assert result.stdout.endswith("mobile_sam.pt\n")
    assert result.stderr.splitlines()[-2:] == ["edgetam is not there", "1 file to fetch, 7 bytes"]
    assert len(two_models) == 1


def test_wrong_names_are_said_before_anything_is_fetched(two_models: list[str]) -> None:
    """An unknown name, no name, and names beside --all are wrong usage."""
    unknown, none, both = run("mobile_sam", "mobil_sam"), run(), run("mobile_sam", "--all")

    assert unknown.exit_code == none.exit_code == both.exit_code == 2
    assert "hint: did you mean 'mobile_sam'?" in unknown.stderr
    assert "expected names of models or --all, got neither" in none.stderr
    assert "got both" in both.stderr
    assert two_models == []
    assert unknown.stdout == ""


def test_offline_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the network is forbidden, what is missing is named with where to put it."""
    monkeypatch.setenv("NEXUS_OFFLINE", "1")
    result = run("edgetam")

    assert result.exit_code == 3
    assert "error: edgetam: expected edgetam.pt on this machine" in result.stderr
