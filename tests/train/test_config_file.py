"""Reading a run's YAML: every mistake is named with its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nexus.core.errors import InputError
from nexus.train.config import OptimizerSettings, PromptSettings, SetSettings
from nexus.train.config_file import parse_settings, read_settings, recipe_file

ROOT = Path(__file__).parents[2]
GOOD = """\
data:
  root: pictures
  sets:
    - {folder: kvasir}
    - {folder: deep/ph2, name: skin, split: train}
optimizer:
  learning_rate: 2e-4
  steps: 1_000
  clip: null
  betas: [0.9, 0.95]
prompts:
  first: {centre: 1, box: 0.5}
evaluate: {every: 10}
seed: 3
"""


def test_values_become_what_their_fields_are() -> None:
    """Numbers with an exponent, lists, blocks, null and defaults are read as the fields say."""
    settings = parse_settings(GOOD, "run.yaml")

    assert settings.data.sets == (
        SetSettings("kvasir"),
        SetSettings("deep/ph2", name="skin", split="train"),
    )
    assert settings.optimizer == OptimizerSettings(
        steps=1000, learning_rate=2e-4, clip=None, betas=(0.9, 0.95)
    )
    assert settings.prompts.first == {"centre": 1.0, "box": 0.5}
    assert settings.prompts.rounds == PromptSettings().rounds
    assert settings.seed == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "learning_rate: 2e-4",
            "learning_rat: 2e-4",
            "run.yaml, line 7: unknown key 'learning_rat'; did you mean 'learning_rate'?",
        ),
        ("2e-4", "fast", "line 7: expected a number for learning_rate, got 'fast'"),
        ("2e-4", "'2e-4'", "line 7: expected a number for learning_rate, got '2e-4'"),
        ("2e-4", "-1", "line 7: expected learning_rate from 0 to 1, got -1.0"),
        ("2e-4", ".nan", "line 7: expected a number for learning_rate, got '.nan'"),
        ("2e-4", "[1]", "line 7: expected one value for learning_rate, got a sequence"),
        ("1_000", "1.5", "line 8: expected a whole number for steps, got '1.5'"),
        ("[0.9, 0.95]", "[0.9]", "line 10: expected 2 values for betas, got a sequence"),
        ("[0.9, 0.95]", "0.9", "line 10: expected a list for betas, got '0.9'"),
        ("box: 0.5", "bxo: 0.5", "line 12: unknown key 'bxo'; did you mean 'box'?"),
        ("{every: 10}", "often", "line 13: expected a block with keys such as 'measures', got"),
        (
            "{every: 10}",
            "{measures: [boxes]}",
            "line 13: expected measures to be one of box, one_click, clicks, got 'boxes'",
        ),
        ("seed: 3", "seed: 3\nseed: 4", "line 15: expected 'seed' once, got it twice"),
        ("  steps: 1_000\n", "", "line 7: expected either steps or minutes, got neither"),
        ("- {folder: kvasir}", "- {name: a}", "line 4: expected the key 'folder', got none"),
        ("seed: 3", "seed: [3", "line 15: expected YAML, got expected ',' or ']'"),
        ("{centre: 1, box: 0.5}", "{centre: 0}", "line 12: expected shares of first prompts"),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, message: str) -> None:
    """Typos, wrong types, ranges and missing keys say where they are."""
    with pytest.raises(InputError) as caught:
        parse_settings(GOOD.replace(old, new), "run.yaml")

    assert message in caught.value.message


def test_overrides_replace_and_add() -> None:
    """`key=value` reaches blocks, lists and keys the file does not have."""
    overrides = ["optimizer.steps=5", "data.sets.1.folder=x/y", "adapt.lora.rank=2", "seed=9"]

    settings = parse_settings(GOOD, "run.yaml", overrides)

    assert settings.optimizer.steps == 5
    assert settings.data.sets[1].folder == "x/y"
    assert settings.adapt.lora.rank == 2
    assert settings.seed == 9


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.stps=5", "--set optimizer.stps=5: unknown key 'stps'; did you mean 'steps'?"),
        ("optimizer.steps=x", "--set optimizer.steps=x: expected a whole number for steps"),
        ("optimizer.steps", "expected --set KEY=VALUE, got 'optimizer.steps'"),
        ("data.sets.7.name=x", "expected a count from 0 to 1, got '7'"),
        ("seed.x=1", "expected a block before 'x', got a value"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    """A mistake on the command line is shown with the option it is in."""
    with pytest.raises(InputError) as caught:
        parse_settings(GOOD, "run.yaml", [override])

    assert message in caught.value.message


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    """YAML of an old editor is refused with its line and what to do."""
    (tmp_path / "run.yaml").write_bytes(b"task: images\n# f\xfcr uns\n")
    with pytest.raises(InputError, match=r"run.yaml, line 2: expected text in UTF-8, .* 0xfc"):
        read_settings(tmp_path / "run.yaml")
    with pytest.raises(InputError, match="got a folder"):
        read_settings(tmp_path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is named, and so are the recipes there are."""
    with pytest.raises(FileNotFoundError, match="expected a YAML file of a training run"):
        read_settings(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="expected a recipe among domain, points, got 'dots'"):
        recipe_file("dots")


SETS = {
    "points": ["kvasir_seg", "ph2_skin", "busi_us", "acdc_mri"],
    "domain": ["acdc_mri", "cxr_covid"],
}


@pytest.mark.parametrize("name", SETS)
def test_recipes_are_for_any_folder(name: str) -> None:
    """The recipes that come with the package name no sets, and hold whole groups out."""
    settings = read_settings(recipe_file(name), ["data.root=somewhere"])

    assert settings.data.root == "somewhere"
    assert settings.data.sets == ()
    assert settings.data.groups == "auto"
    assert settings.prompts.clicks == (name == "points")


@pytest.mark.parametrize("name", SETS)
def test_the_measured_runs_are_the_recipes(name: str) -> None:
    """The examples behind the published figures are the recipes on named sets, split by image."""
    example = read_settings(ROOT / "examples" / "fine_tune" / f"{name}.yaml")
    recipe = read_settings(recipe_file(name))
    data = dataclasses.replace(recipe.data, sets=example.data.sets, groups=None)

    assert [entry.folder for entry in example.data.sets] == SETS[name]
    assert all(entry == SetSettings(entry.folder) for entry in example.data.sets)
    assert example == dataclasses.replace(recipe, data=data)
