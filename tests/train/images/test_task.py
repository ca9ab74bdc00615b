"""Learning from images: it fits them, under every policy, and what it taught loads anywhere."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nexus.core.errors import NexusWarning
from nexus.core.types import Masks, Prompt
from nexus.data.truth import open_images
from nexus.eval.metrics import dice
from nexus.eval.run import evaluate
from nexus.models.cv import SAM, SAM2
from nexus.models.policy import LITE_MEDSAM_POLICY, Policy
from nexus.models.pretrained import PretrainedModel
from nexus.train import loop
from nexus.train.config import (
    AdaptSettings,
    EvaluateSettings,
    LoraSettings,
    OptimizerSettings,
    PromptSettings,
    TrainingSettings,
)
from nexus.train.images.sets import counted_truths
from nexus.train.images.task import measure_image
from nexus.train.logs import MEASURES, STEPS, read_rows
from nexus.train.loop import fine_tune
from nexus.train.sets import split_sets
from tests.models.tiny import TINY, TINY_POLICY, tiny_sam
from tests.models.tiny_sam2 import TINY_SAM2, tiny_sam2
from tests.train.tiny_run import draw_set, tiny_settings


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the drawn set `shapes`."""
    draw_set(tmp_path / "shapes")
    return tmp_path


def losses(out: Path) -> list[float]:
    """Return the losses a run wrote down."""
    return [row["loss"] for row in read_rows(out / STEPS)]


def quick(root: Path, **changes: object) -> TrainingSettings:
    """Return settings of two steps that measure boxes alone."""
    return tiny_settings(
        root,
        **{
            "optimizer": OptimizerSettings(steps=2, rows=2, learning_rate=1e-2, warmup_steps=0),
            "evaluate": EvaluateSettings(("box",), every=0),
            **changes,
        },
    )


def test_the_loss_falls(root: Path) -> None:
    """A tiny decoder fits the drawn shapes, and the files of the run are there."""
    settings = tiny_settings(
        root,
        optimizer=OptimizerSettings(steps=20, rows=4, learning_rate=3e-2, warmup_steps=2, ema=None),
        prompts=PromptSettings({"jittered_box": 1.0}),
        evaluate=EvaluateSettings(("box",), every=10),
    )

    result = fine_tune(settings, root / "out", model=tiny_sam())

    curve = losses(root / "out")
    assert np.mean(curve[-5:]) < 0.8 * np.mean(curve[:5])
    assert result.best[0].value == max(row["value"] for row in read_rows(root / "out" / MEASURES))
    assert {path.name for path in result.files} == {
        "best.safetensors",
        "last.safetensors",
        "learning_curve.png",
        "MODEL_CARD.md",
        "summary.json",
    }
    assert all(path.is_file() for path in result.files)
    measured = {row["step"] for row in read_rows(root / "out" / MEASURES)}
    assert measured == {0, 10, 20}


def test_chance_goes_on_where_it_was(root: Path) -> None:
    """Dropout draws the same in a run that was interrupted."""
    settings = tiny_settings(root, adapt=AdaptSettings("lora", LoraSettings(rank=2, dropout=0.3)))

    def interrupt(step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(settings, root / "cut", model=tiny_sam(), on_step=interrupt)
    fine_tune(settings, root / "cut", model=tiny_sam())
    fine_tune(settings, root / "alone", model=tiny_sam())

    assert losses(root / "cut") == pytest.approx(losses(root / "alone"), abs=1e-5)


@pytest.mark.parametrize(
    ("family", "variant", "policy"),
    [("sam", "mobile_sam", "prompt_and_decoder"), ("sam2", "sam2.1_hiera_tiny", "lora")],
)
def test_the_result_loads_as_any_checkpoint(
    root: Path, monkeypatch: pytest.MonkeyPatch, family: str, variant: str, policy: str
) -> None:
    """What was learnt comes back by `from_checkpoint` under official names, LoRA merged."""
    if family == "sam":
        monkeypatch.setitem(SAM.variants, variant, TINY)
        model: PretrainedModel = SAM(TINY, variant, TINY_POLICY)
        model.load_state_dict(tiny_sam().state_dict())
    else:
        monkeypatch.setitem(SAM2.variants, variant, TINY_SAM2)
        model = tiny_sam2()
        model.frontend.variant = variant
    adapt = AdaptSettings(policy, LoraSettings(rank=2, where="both"))  # type: ignore[arg-type]
    optimizer = OptimizerSettings(steps=2, rows=2, learning_rate=1e-2, warmup_steps=0, ema=None)

    fine_tune(quick(root, adapt=adapt, optimizer=optimizer), root / "out", model=model)

    path = root / "out" / "last.safetensors"
    loaded = type(model).from_checkpoint(path, variant=variant, device="cpu", input_side=64)
    image = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    box = Prompt(box=(8, 8, 30, 30))
    model.eval()
    expected, got = (one.predict(image, box).low_res_logits for one in (model, loaded))
    assert np.abs(got - expected).max() < 1e-4
    assert (root / "out" / "adapter").is_dir() == (policy == "lora")


def test_clicks_that_were_taught_are_not_warned_of(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of a box-only model says that clicks were taught, or that they were not."""
    monkeypatch.setitem(SAM.variants, "lite_medsam", TINY)

    def learn(first: dict[str, float]) -> SAM:
        out = root / "+".join(first)
        model = SAM(TINY, "lite_medsam", LITE_MEDSAM_POLICY)
        model.load_state_dict(tiny_sam().state_dict())
        model.policy = TINY_POLICY
        fine_tune(quick(root, prompts=PromptSettings(first)), out, model=model)  # type: ignore[arg-type]
        return SAM.from_checkpoint(out / "best.safetensors", variant="lite_medsam", device="cpu")

    model = SAM(TINY, "lite_medsam", LITE_MEDSAM_POLICY)
    taught = learn({"centre": 1.0})

    assert taught.policy == dataclasses.replace(TINY_POLICY, candidates=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = taught.predict(np.zeros((48, 48, 3), np.uint8), (20, 20))
    assert len(masks) == 1  # three candidates were not taught
    with pytest.warns(NexusWarning, match="trained on box prompts alone"):
        model.predict(np.zeros((48, 48, 3), np.uint8), (20, 20))


@pytest.mark.parametrize("policy", ["full", "lora"])
def test_an_encoder_can_learn(root: Path, policy: str) -> None:
    """With a learning encoder its weights change, and no embedding is kept."""
    model = tiny_sam()
    adapt = AdaptSettings(policy, LoraSettings(rank=2, where="encoder"))  # type: ignore[arg-type]
    before = {name: p.detach().clone() for name, p in model.image_encoder.named_parameters()}

    fine_tune(quick(root, adapt=adapt), root / "out", model=model)

    now = dict(model.image_encoder.named_parameters())
    moved = [name for name in now if name not in before or not torch.equal(now[name], before[name])]
    assert any("blocks.0" in name for name in moved)
    assert not (root / "embeddings").exists()


def test_bfloat16_and_candidates(root: Path) -> None:
    """Half precision and three masks for a lone click give finite losses that learn."""
    settings = quick(
        root,
        optimizer=OptimizerSettings(steps=3, rows=2, dtype="bfloat16", ema=None),
        prompts=PromptSettings({"centre": 1.0}, candidates=True, mask_prompt=1.0),
        evaluate=EvaluateSettings(("one_click",), every=0),
    )

    result = fine_tune(settings, root / "out", model=tiny_sam())

    assert all(np.isfinite(losses(root / "out")))
    assert result.last[0].measure == "one_click"


def test_figures_are_those_of_predict(tmp_path: Path) -> None:
    """A box and a click by hand, through `predict`, score what the measures say."""
    draw_set(tmp_path / "shapes")
    data = tiny_settings(tmp_path).data
    image, model = split_sets(open_images, data)[0][0], tiny_sam(4)
    pixels = image.labelled.load_image()
    truths, settings = counted_truths(image, data), EvaluateSettings(clicks=2)

    found = measure_image(model, image, truths, lambda: model.encode_image(pixels), settings)

    assert [(f.measure, f.object_id) for f in found] == [
        (measure, truth.object_id) for measure in ("box", "one_click", "clicks") for truth in truths
    ]
    truth = truths[0]
    by_hand = model.predict(pixels, Prompt(box=truth.box_xyxy), multimask_output=False).best
    assert found[0].value == pytest.approx(dice(by_hand, truth.mask))
    assert all(0 <= figure.value <= 1 for figure in found)


@pytest.mark.parametrize("candidates", [False, True])
def test_figures_are_those_of_the_evaluation(root: Path, candidates: bool) -> None:
    """Before and after, each measure is the protocol of that name: one definition, one figure.

    Before a run the model answers a click as it came, with the best of three masks; afterwards as
    it was taught.
    """
    changes = {"ema": None, "steps": 3, "rows": 2, "learning_rate": 1e-2, "warmup_steps": 0}
    kinds = {"centre": 0.5, "jittered_box": 0.5}
    settings = quick(
        root,
        optimizer=OptimizerSettings(**changes),
        prompts=PromptSettings(kinds, candidates=candidates),
        evaluate=EvaluateSettings(clicks=3, every=0),
    )
    held_out = [image.labelled for image in split_sets(open_images, settings.data)[1]]
    options = {"clicks": 3, "max_objects": settings.data.most_objects, "min_area": 20}

    def evaluated(model: PretrainedModel) -> list[float]:
        protocols = ("box", "click", "clicks")
        found = evaluate(model, held_out, protocols, **options)
        return [found.mean("dice", protocol) for protocol in protocols]

    model = tiny_sam(4)
    wanted = evaluated(model)
    result = fine_tune(settings, root / "out", model=model)

    assert model.policy.candidates is candidates
    assert [f.value for f in result.before if f.set_title == "all"] == pytest.approx(wanted)
    last = [figure.value for figure in result.last if figure.set_title == "all"]
    assert last == pytest.approx(evaluated(model))
    card = (root / "out" / "MODEL_CARD.md").read_text()
    assert "| one click |" in card
    assert "Prompts and answers are those of `nexus evaluate --protocol" in card


def test_a_model_that_gained_nothing_answers_as_it_came(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no weights were better than those before, best.safetensors says what those answer."""
    means = iter((0.9, 0.1))
    said: list[bool] = []

    def header_of(variant: str, policy: Policy, notes: object) -> dict[str, str]:
        said.append(policy.candidates)
        return {}

    monkeypatch.setattr(loop, "chosen_mean", lambda *_: next(means))
    monkeypatch.setattr(loop.checkpoints, "header_of", header_of)
    fine_tune(quick(root, prompts=PromptSettings({"centre": 1.0})), root / "out", model=tiny_sam())

    assert said == [True, False]


def test_a_found_object_needs_no_more_clicks(tmp_path: Path) -> None:
    """Where the first click is answered rightly, later figures are those of the first."""
    draw_set(tmp_path / "shapes")
    data = tiny_settings(tmp_path).data
    image = split_sets(open_images, data)[0][0]
    truth = counted_truths(image, data)[0]

    class Knows:
        def predict_batch(self, embedding: object, prompts: list[Prompt]) -> list[Masks]:
            asked.append(prompts)
            return [Masks(truth.mask[None], np.ones(1), np.zeros((1, 4, 4), np.float32))]

    asked: list[list[Prompt]] = []
    settings = EvaluateSettings(("one_click", "clicks"), clicks=3)
    model: Any = Knows()
    found = measure_image(model, image, [truth], lambda: Any, settings)

    assert [len(prompts) for prompts in asked] == [1]
    assert [figure.value for figure in found] == [1.0, 1.0]


def test_masks_that_were_cut_are_on_the_card(root: Path) -> None:
    """JPEG masks teach one object each; a warning, the card and the summary say what was done."""
    for path in sorted((root / "shapes" / "masks").iterdir()):
        drawn = (np.asarray(Image.open(path)) == 2).astype(np.uint8) * 255
        Image.fromarray(drawn).save(path.with_suffix(".jpg"), quality=60)
        path.unlink()
    with pytest.warns(NexusWarning, match="^shapes: 6 of 6 masks: grey levels cut half-way"):
        fine_tune(quick(root), root / "out", model=tiny_sam())
    card = (root / "out" / "MODEL_CARD.md").read_text()
    summary = json.loads((root / "out" / "summary.json").read_text())

    assert "- `shapes`: 6 of 6 masks: grey levels cut half-way between dark and bright" in card
    assert summary["masks"]["shapes"]["images"] == 6
    assert summary["counts"]["objects"] == 4
