"""The trainer, on images and on videos: it goes on after a kill, is shared, averages and stops."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nexus.core.errors import CheckpointError, InputError, NexusError
from nexus.core.files import STATE_FOLDER, claimed
from nexus.core.outputs import output_folder
from nexus.core.weights.checkpoint import read_checkpoint, read_metadata
from nexus.train.checkpoints import STATE
from nexus.train.logs import MEASURES, STEPS, read_rows
from nexus.train.loop import fine_tune
from tests.train.tiny_run import RUNS, TinyRun
from tests.train.tiny_worker import worker_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=list(RUNS))
def kind(request: pytest.FixtureRequest) -> str:
    """Images, and videos."""
    return str(request.param)


@pytest.fixture
def run(kind: str) -> TinyRun:
    """The run of a kind."""
    return RUNS[kind]


@pytest.fixture
def root(run: TinyRun, tmp_path: Path) -> Path:
    """A folder with the drawn data."""
    run.draw(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[Path]:
    """Write down whose learning curve is drawn instead of drawing it, which takes a second."""
    folders: list[Path] = []
    monkeypatch.setattr("nexus.train.loop.draw_curve", folders.append)
    return folders


class KilledError(Exception):
    """Stands for what ends a run on the way."""


def kill_at(step: int):
    """Return what ends a run after a step."""

    def told(done: int, loss: float) -> None:
        if done == step:
            raise KilledError

    return told


def losses(out: Path) -> list[float]:
    """Return the losses a run wrote down, checking that no step is missing or twice."""
    rows = read_rows(out / STEPS)
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def weights(out: Path, name: str = "last") -> dict[str, Tensor]:
    """Return the weights a run wrote."""
    return read_checkpoint(out / f"{name}.safetensors")


def flat(tensors: dict[str, Tensor]) -> Tensor:
    """Return all weights as one vector, by the order of the names."""
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def check_equal(one: dict[str, Tensor], other: dict[str, Tensor], atol: float = 0.0) -> None:
    """Compare weights by name."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=0, atol=atol, msg=name)


def started(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.tiny_worker", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str], code: int = 0) -> None:
    """Wait for a run; fail with what it said if it ended otherwise."""
    _, said = process.communicate(timeout=240)

    assert process.returncode == code, said


def test_a_run_is_a_folder(run: TinyRun, root: Path, drawn: list[Path]) -> None:
    """State, best and last weights, logs and card lie in the same files, whatever is learnt."""
    out = root / "out"

    result = fine_tune(run.quick(root, evaluate={"every": 2}), out, model=run.model())

    assert [path.name for path in result.files] == [
        "best.safetensors",
        "last.safetensors",
        "MODEL_CARD.md",
        "summary.json",
    ]
    assert {path.name for path in out.iterdir() if path.is_file()} == {
        *(path.name for path in result.files),
        STATE,
        STEPS,
        MEASURES,
    }
    assert drawn == [out]
    assert [path.name for path in out.glob(".*")] == [STATE_FOLDER]
    assert {row["step"] for row in read_rows(out / MEASURES)} == {0, 2, 4}
    assert [row["loss"] for row in result.log] == losses(out)
    assert (result.folder, result.steps) == (out, 4)


def test_the_card_says_what_was_learnt(run: TinyRun, kind: str, root: Path) -> None:
    """It has the base, the data, the split, the command, and a row of figures for each set."""
    settings = run.quick(root, steps=1)
    result = fine_tune(settings, root / "out", model=run.model(), command="nexus train x.yaml")
    card = (root / "out" / "MODEL_CARD.md").read_text()
    summary = json.loads((root / "out" / "summary.json").read_text())

    assert f"- base: `{run.model().variant}`" in card
    assert f"policy `{settings.adapt.policy}`" in card
    learnt = {
        "images": "8 objects in 4 images of `shapes`",
        "video": "6 annotated frames in 2 videos of `drawn`",
    }
    assert f"- learnt from {learnt[kind]}\n" in card
    noun = {"images": "images", "video": "videos"}[kind]
    assert f"- split: of n {noun} the last floor(n * 0.34) by name are held out" in card
    assert "- command: `nexus train x.yaml`" in card
    shown = {"images": "| box | all | 4 |", "video": "| J | all | 1 |"}[kind]
    assert f"{shown} {result.before[0].value:.4f} | {result.best[0].value:.4f} |" in card
    assert summary["settings"]["optimizer"]["steps"] == 1
    assert summary["figures"]["0"][0]["value"] == result.before[0].value


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(run: TinyRun, kind: str, root: Path) -> None:
    """After kill -9 between two states, the resumed run has curve and weights of one left alone."""
    finished(started(kind, root, root / "killed", 1, 3), -signal.SIGKILL)
    cut = losses(root / "killed")
    finished(started(kind, root, root / "killed", 1))
    finished(started(kind, root, root / "alone", 1))

    assert len(cut) == 3
    assert losses(root / "killed") == losses(root / "alone")
    assert len(losses(root / "alone")) == 5
    for name in ("last", "best"):
        check_equal(weights(root / "killed", name), weights(root / "alone", name))


def test_an_interrupted_run_goes_on_to_the_same_weights(run: TinyRun, root: Path) -> None:
    """Also one that measures on the way and averages, in the process that was interrupted."""
    settings, model = run.quick(root, evaluate={"every": 1}), run.model()
    with pytest.raises(KilledError):
        fine_tune(settings, root / "cut", model=model, on_step=kill_at(3))
    cut = fine_tune(settings, root / "cut", model=model)
    alone = fine_tune(settings, root / "alone", model=run.model())

    assert [row["loss"] for row in cut.log] == [row["loss"] for row in alone.log]
    assert (cut.before, cut.best, cut.last) == (alone.before, alone.best, alone.last)
    check_equal(weights(root / "cut"), weights(root / "alone"))


def test_a_run_without_a_state_begins_anew(run: TinyRun, root: Path) -> None:
    """A run that was killed before its first step was kept is taken up from the beginning."""
    with pytest.raises(KilledError):
        fine_tune(run.quick(root), root / "out", model=run.model(), on_step=kill_at(1))
    result = fine_tune(run.quick(root), root / "out", model=run.model())

    assert [row["step"] for row in result.log] == [1, 2, 3, 4]
    again = fine_tune(run.quick(root), root / "out", model=run.model())
    assert again.log == result.log


@pytest.mark.slow
def test_two_processes_share_a_batch(run: TinyRun, kind: str, root: Path) -> None:
    """Two processes with one row each have losses and weights of one with two rows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    pair = [
        started(kind, root, root / "pair", 1, **world, RANK=rank, LOCAL_RANK=rank) for rank in "01"
    ]
    for process in pair:
        finished(process)

    single = fine_tune(worker_settings(kind, root, 2), root / "single", model=run.model())

    assert losses(root / "pair") == pytest.approx(losses(root / "single"), abs=1e-4)
    # Where a gradient is nothing but rounding, as of a bias before a norm, AdamW makes it a step.
    start = flat(run.model().state_dict())
    shared, alone = (flat(weights(root / name)) for name in ("pair", "single"))
    assert (shared - alone).norm() < 0.05 * (alone - start).norm()
    rows = read_rows(root / "pair" / MEASURES)
    (pooled,) = [row for row in rows if row["step"] == 5 and row["set"] == "all"]
    assert pooled["value"] == pytest.approx(single.last[0].value, abs=1e-4)
    assert pooled["objects"] == single.last[0].objects


def test_a_folder_with_another_run_is_refused(run: TinyRun, root: Path) -> None:
    """A run is not gone on with under other settings or data."""
    out = root / "out"
    fine_tune(run.quick(root, steps=1, rows=1), out, model=run.model())

    with pytest.raises(
        InputError, match=r"optimizer\.rows was 1 and is 2.*\nhint: .*`overwrite=True`"
    ):
        fine_tune(run.quick(root, steps=1, rows=2), out, model=run.model())
    picture = next(path for path in sorted(root.rglob("*")) if path.suffix in (".jpg", ".png"))
    picture.write_bytes(sorted(picture.parent.iterdir())[-1].read_bytes())
    with pytest.raises(InputError, match=r"\(data\) was"):
        fine_tune(run.quick(root, steps=1, rows=1), out, model=run.model())


def test_the_state_of_another_model_is_refused(run: TinyRun, root: Path) -> None:
    """What the state does not hold, the weights that rest, must be the same."""
    fine_tune(run.quick(root, steps=1), root / "out", model=run.model())
    other = run.model()
    with torch.no_grad():
        next(other.image_encoder.parameters()).mul_(2)

    with pytest.raises(InputError, match=r"\(model\) was"):
        fine_tune(run.quick(root, steps=1), root / "out", model=other)


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 cut off"])
def test_a_damaged_state_is_refused(run: TinyRun, root: Path, content: bytes) -> None:
    """A file that is cut off or of another kind is named."""
    with output_folder(root / "out", verb="train") as outputs:
        (root / "out" / STATE).write_bytes(content)
        outputs.made(STATE)

    with pytest.raises(CheckpointError, match=r"state of a training run at '.*state.pt', got"):
        fine_tune(run.quick(root), root / "out", model=run.model())


def test_a_folder_that_another_run_writes_is_refused(run: TinyRun, root: Path) -> None:
    """Two runs cannot mix in one folder; the second is told before it learns anything."""
    with claimed(root / "out"), pytest.raises(NexusError, match="got one that another run is"):
        fine_tune(run.quick(root), root / "out", model=run.model())

    assert not (root / "out" / STEPS).exists()


def test_a_full_disk_is_said_once(run: TinyRun, root: Path) -> None:
    """Space is named, the last state is good, and with room the same call comes to the same."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step: int, loss: float) -> None:
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, former[1]))

    settings, out = run.quick(root, steps=3), root / "full"
    settings = dataclasses.replace(settings, checkpoint_every=1)
    try:
        with pytest.raises(NexusError, match=r"room for .*iB on the disk of .*state\.pt") as caught:
            fine_tune(settings, out, model=run.model(), on_step=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    begun = []
    cut = fine_tune(settings, out, model=run.model(), on_step=lambda step, _: begun.append(step))
    alone = fine_tune(settings, root / "alone", model=run.model())

    assert "free: File too large" in caught.value.message
    assert "make room and start the same command again" in str(caught.value.hint)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert begun == [3]
    assert [row["loss"] for row in cut.log] == [row["loss"] for row in alone.log]
    check_equal(weights(out), weights(root / "alone"))
    assert not list(out.rglob("*.part*"))


def test_averaged_weights_are_kept(run: TinyRun, root: Path) -> None:
    """What is written is the moving average of the weights; the model keeps those that learnt."""
    model, decay = run.model(), 0.9
    average = {name: p.detach().clone() for name, p in model.named_parameters()}

    def follow(step: int, loss: float) -> None:
        mine = min(decay, (1 + step) / (10 + step))
        for name, p in model.named_parameters():
            average[name] = mine * average[name] + (1 - mine) * p.detach()

    fine_tune(run.quick(root, ema=decay), root / "out", model=model, on_step=follow)

    now, last = dict(model.named_parameters()), weights(root / "out")
    moved = [name for name in now if not torch.equal(last[name], now[name])]
    assert moved
    check_equal({name: last[name] for name in now}, average, atol=1e-6)


def test_the_best_checkpoint_is_kept(
    run: TinyRun, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is that of the highest figure, and the header of the file says of which step."""
    figures = iter([0.2, 0.5, 0.9, 0.6, 0.3])
    monkeypatch.setattr("nexus.train.loop.chosen_mean", lambda *_: next(figures))
    seen: dict[int, dict[str, Tensor]] = {}
    model = run.model()

    def keep(step: int, loss: float) -> None:
        seen[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    settings = run.quick(root, evaluate={"every": 1}, ema=None)
    result = fine_tune(settings, root / "out", model=model, on_step=keep)

    assert result.best_step == 2
    check_equal(weights(root / "out", "best"), seen[2])
    check_equal(weights(root / "out", "last"), seen[4])
    notes = json.loads(read_metadata(root / "out" / "best.safetensors")["nexus_training"])
    assert notes["step"] == 2


def test_a_run_stops_early(run: TinyRun, root: Path) -> None:
    """Without improvement for `patience` measurements training ends, and the best is kept."""
    settings = run.quick(root, evaluate={"every": 1, "patience": 2}, steps=50, learning_rate=0.0)

    result = fine_tune(settings, root / "out", model=run.model())

    assert (result.steps, result.best_step) == (2, 0)


def test_a_budget_of_time_ends(run: TinyRun, root: Path) -> None:
    """A run of minutes ends by the clock, its learning rate having fallen."""
    settings = run.quick(root, steps=None, minutes=0.005, rows=1, warmup_steps=0)

    result = fine_tune(settings, root / "out", model=run.model())

    assert result.log[-1]["seconds"] >= 0.3
    assert result.steps == len(result.log) > 1
    assert result.log[-1]["learning_rate"] < 0.5 * result.log[0]["learning_rate"]


def test_without_a_folder_nothing_is_written(
    run: TinyRun, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model learns as it would have, the steps come back, and silence is kept if asked for."""
    monkeypatch.chdir(root)
    fine_tune(run.quick(root, steps=2), root / "out", model=run.model())
    said = capsys.readouterr()
    before = {path for path in root.rglob("*") if "embeddings" not in path.parts}
    result = fine_tune(run.quick(root, steps=2), None, model=run.model(), progress=False)

    assert {path for path in root.rglob("*") if "embeddings" not in path.parts} == before
    assert (result.folder, result.files) == (None, [])
    assert [row["loss"] for row in result.log] == losses(root / "out")
    assert "train: 2 steps" in said.err
    assert capsys.readouterr() == ("", "")


def test_the_model_is_left_as_it_was_found(run: TinyRun, root: Path) -> None:
    """Configuration, what learns, and gradients are as before, also after an error."""
    model = run.model()
    next(model.image_encoder.parameters()).requires_grad_(False)
    config = dataclasses.asdict(model.config) if hasattr(model, "config") else None
    learns = {name: p.requires_grad for name, p in model.named_parameters()}
    with pytest.raises(KilledError):
        fine_tune(run.quick(root), root / "out", model=model, on_step=kill_at(1))

    assert config is None or dataclasses.asdict(model.config) == config
    assert {name: p.requires_grad for name, p in model.named_parameters()} == learns
    assert all(p.grad is None for p in model.parameters())
    assert not model.training


def test_losses_that_run_away_stop_the_run(run: TinyRun, root: Path) -> None:
    """A loss that is no number names the step and what it is from, and spoils no weights."""
    model = run.model()
    decoder = model.mask_decoder if run.measure == "box" else model.sam_mask_decoder
    with torch.no_grad():
        next(decoder.transformer.parameters()).fill_(float("nan"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    with pytest.raises(NexusError, match=r"finite losses, got nan .* at step 1, from \w+"):
        fine_tune(run.quick(root), None, model=model)
    for name, tensor in model.state_dict().items():
        assert tensor.equal(before[name]) or tensor.isnan().any()


def test_nothing_held_out_has_no_figures(run: TinyRun, root: Path) -> None:
    """Then the last weights are the best, and the card says so."""
    settings = run.quick(root, steps=1)
    assert settings.data is not None
    data = dataclasses.replace(settings.data, held_out=0.0)

    result = fine_tune(dataclasses.replace(settings, data=data), root / "out", model=run.model())

    assert (result.before, result.last, result.best_step) == ([], [], 1)
    assert "Nothing was held out." in (root / "out" / "MODEL_CARD.md").read_text()
