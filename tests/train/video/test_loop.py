"""Fine-tuning on videos learns, goes on where it was, and leaves nothing behind but weights."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

from nexus.core.errors import CheckpointError, InputError, NexusError
from nexus.core.files import STATE_FOLDER, claimed
from nexus.core.weights.checkpoint import read_checkpoint
from nexus.models.cv.edgetam import EdgeTAM
from nexus.models.cv.sam2 import SAM2, SAM2Config
from nexus.train.video.clip_forward import clip_logits
from nexus.train.video.clip_sampling import ClipSettings, draw_clip
from nexus.train.video.loop import STATE, WEIGHTS, VideoStep, VideoTrainingSettings, fine_tune_video
from nexus.train.video.loss import video_loss
from tests.models.tiny_sam2 import TINY_EDGETAM, TINY_SAM2, tiny_sam2
from tests.train.moving_square import moving_square

CONFIGS = pytest.mark.parametrize("config", [TINY_SAM2, TINY_EDGETAM], ids=["sam2", "edgetam"])
CLICKS = ClipSettings(frames=3, first={"click": 1.0}, clicks=0, reverse=0.0, flip=0.0)
FAST = VideoTrainingSettings(
    clips=CLICKS, steps=9, learning_rate=8e-3, weight_decay=0.0, clip_norm=1.0, train_encoder=True
)
SHORT = dataclasses.replace(
    FAST,
    clips=ClipSettings(frames=2, clicks=1, corrected_frames=1),
    steps=4,
    checkpoint_every=2,
    warmup_steps=2,
)


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Write down whose learning curve is drawn instead of drawing it, which takes a second."""
    folders: list[Path] = []
    monkeypatch.setattr("nexus.train.video.loop.draw_curve", folders.append)
    return folders


class KilledError(Exception):
    """Stands for what ends a run on the way."""


def kill_at(step: int):
    """Return what ends a run after a step."""

    def told(done: VideoStep) -> None:
        if done.step == step:
            raise KilledError

    return told


def loss_of(model: SAM2, folder: Path) -> float:
    """Return the loss of a click on the first frame of the drawn clip."""
    sample = draw_clip([moving_square(folder)], CLICKS, 99)
    with torch.no_grad():
        shown = clip_logits(model, sample.frames, {0: sample.prompts()})
    return float(video_loss(shown, sample)["loss"])


@CONFIGS
def test_the_loss_halves_on_a_moving_square(config: SAM2Config, tmp_path: Path) -> None:
    """A few steps more than halve the loss of a clip that is tracked from one click."""
    model = tiny_sam2(config=config)
    before = loss_of(model, tmp_path)
    steps = fine_tune_video(model, [moving_square(tmp_path)], FAST)

    assert [one.step for one in steps] == list(range(1, 10))
    assert loss_of(model, tmp_path) < before / 2
    assert steps[-1].loss < steps[0].loss / 2


def test_a_frozen_encoder_stays_as_it_is(tmp_path: Path) -> None:
    """Without `train_encoder` all parts but the encoder change, memory's among them."""
    model = tiny_sam2()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fine_tune_video(
        model, [moving_square(tmp_path)], dataclasses.replace(SHORT, train_encoder=False)
    )
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}

    assert not any(name.startswith("image_encoder.") for name in changed)
    for part in ("memory_attention.", "memory_encoder.", "sam_mask_decoder.", "obj_ptr_proj."):
        assert any(name.startswith(part) for name in changed)


def test_the_model_is_left_as_it_was_found(tmp_path: Path) -> None:
    """Configuration, what learns, and gradients are as before, also after an error."""
    model = tiny_sam2()
    model.image_encoder.requires_grad_(False)
    config, learns = model.config, {n: p.requires_grad for n, p in model.named_parameters()}
    with pytest.raises(KilledError):
        fine_tune_video(model, [moving_square(tmp_path)], SHORT, on_step=kill_at(1))

    assert model.config == config
    assert {n: p.requires_grad for n, p in model.named_parameters()} == learns
    assert all(p.grad is None for p in model.parameters())
    assert not model.training


def test_statistics_of_batch_norms_are_kept(tmp_path: Path) -> None:
    """EdgeTAM's running means are those it came with."""
    model = tiny_sam2(config=TINY_EDGETAM)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    fine_tune_video(model, [moving_square(tmp_path)], dataclasses.replace(SHORT, steps=1))

    assert any("running_mean" in name for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_the_same_seed_gives_the_same_steps(tmp_path: Path) -> None:
    """Two runs are equal to the last digit, one with another seed is not."""
    video = moving_square(tmp_path, objects=2)
    short = dataclasses.replace(SHORT, steps=2)
    one, same = (fine_tune_video(tiny_sam2(), [video], short) for _ in range(2))
    other = fine_tune_video(tiny_sam2(), [video], dataclasses.replace(short, seed=1))

    assert one == same
    assert one != other


def test_rates_warm_up_and_fall(tmp_path: Path) -> None:
    """Half the rate in the first of two steps of warm-up; the encoder's is a share of it."""
    steps = fine_tune_video(tiny_sam2(), [moving_square(tmp_path)], SHORT)

    assert steps[0].learning_rate == pytest.approx(SHORT.learning_rate / 2)
    assert steps[1].learning_rate > steps[2].learning_rate > steps[3].learning_rate


def test_a_killed_run_goes_on_to_the_same_losses(tmp_path: Path) -> None:
    """Steps and weights of a run taken up again are those of one that was never stopped."""
    video, whole = moving_square(tmp_path / "video", objects=2), tiny_sam2()
    wanted = fine_tune_video(whole, [video], SHORT)
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        fine_tune_video(tiny_sam2(), [video], SHORT, out, on_step=kill_at(3))
    model = tiny_sam2(seed=5)
    steps = fine_tune_video(model, [video], SHORT, out, resume=True)

    assert steps == wanted
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.state_dict().items())


def test_a_run_without_a_state_begins_anew(tmp_path: Path) -> None:
    """A run that was killed before its first state is taken up from the beginning."""
    video, out = moving_square(tmp_path / "video"), tmp_path / "run"
    with pytest.raises(KilledError):
        fine_tune_video(tiny_sam2(), [video], SHORT, out, on_step=kill_at(1))
    steps = fine_tune_video(tiny_sam2(), [video], SHORT, out, resume=True)

    assert len(steps) == 4


def test_a_folder_is_for_one_run(tmp_path: Path) -> None:
    """Two runs cannot mix in one folder; the second is told before it learns anything."""
    model, out = tiny_sam2(), tmp_path / "run"
    before = model.memory_attention.norm.weight.clone()
    with claimed(out), pytest.raises(NexusError, match="got one that another run is using"):
        fine_tune_video(model, [moving_square(tmp_path / "video")], SHORT, out)

    assert torch.equal(model.memory_attention.norm.weight, before)
    assert not (out / STATE).exists()


@pytest.mark.parametrize(
    ("config", "cls", "variant"),
    [(TINY_SAM2, SAM2, "sam2.1_hiera_tiny"), (TINY_EDGETAM, EdgeTAM, "edgetam")],
)
def test_weights_load_like_official_ones(
    config: SAM2Config,
    cls: type[SAM2],
    variant: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`from_checkpoint` reads both the weights and the state of a run."""
    model, out = tiny_sam2(config=config), tmp_path / "run"
    fine_tune_video(
        model, [moving_square(tmp_path / "video")], dataclasses.replace(SHORT, steps=1), out
    )
    monkeypatch.setattr(cls, "variants", {variant: config})
    for name in (WEIGHTS, STATE):
        loaded = cls.from_checkpoint(out / name, variant=variant, device="cpu")

        assert all(torch.equal(loaded.state_dict()[n], t) for n, t in model.state_dict().items())
    assert set(read_checkpoint(out / WEIGHTS)) == set(model.state_dict())


def test_the_log_has_a_row_for_each_step(tmp_path: Path, drawn: list[Path]) -> None:
    """`steps.csv` holds the steps that were returned, with what they learnt from, and is drawn."""
    out = tmp_path / "run"
    settings = dataclasses.replace(SHORT, clips_per_step=2)
    steps = fine_tune_video(tiny_sam2(), [moving_square(tmp_path / "video")], settings, out)
    with (out / "steps.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["loss"]) for row in rows] == [one.loss for one in steps]
    assert rows[0]["clips"].count("square:") == 2
    assert drawn == [out]
    assert [path.name for path in out.glob(".*")] == [STATE_FOLDER]


def test_bfloat16_learns_too(tmp_path: Path) -> None:
    """Its first loss is that of float32 within its precision, and weights stay float32."""
    video, short = moving_square(tmp_path), dataclasses.replace(SHORT, steps=2)
    exact = fine_tune_video(tiny_sam2(), [video], short)
    model = tiny_sam2()
    steps = fine_tune_video(model, [video], dataclasses.replace(short, dtype="bfloat16"))

    assert steps[0].loss == pytest.approx(exact[0].loss, rel=0.05)
    assert steps[0].loss != exact[0].loss
    assert model.no_mem_embed.dtype == torch.float32


def test_checkpointing_and_cuts_run_in_the_loop(tmp_path: Path) -> None:
    """Checkpointing changes no loss; cutting off memories changes those after the first step."""
    video, short = moving_square(tmp_path), dataclasses.replace(SHORT, steps=2)
    plain, spare, cut = (
        fine_tune_video(tiny_sam2(), [video], dataclasses.replace(short, **values))
        for values in ({}, {"checkpointing": True}, {"gradient_frames": 0})
    )

    assert [one.loss for one in spare] == pytest.approx([one.loss for one in plain], rel=1e-4)
    assert cut[0].loss == pytest.approx(plain[0].loss, rel=1e-6)
    assert cut[0].gradient_norm != pytest.approx(plain[0].gradient_norm, rel=1e-3)


def test_progress_is_shown_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says what is done; without the request nothing is written."""
    video, short = moving_square(tmp_path), dataclasses.replace(SHORT, steps=1)
    fine_tune_video(tiny_sam2(), [video], short)
    silent = capsys.readouterr()
    fine_tune_video(tiny_sam2(), [video], short, progress=True)

    assert (silent.out, silent.err) == ("", "")
    assert "train: 1 steps" in capsys.readouterr().err


def test_an_earlier_run_is_not_written_over(tmp_path: Path) -> None:
    """A folder with a state asks for `resume`."""
    video, out = moving_square(tmp_path / "video"), tmp_path / "run"
    short = dataclasses.replace(SHORT, steps=1)
    fine_tune_video(tiny_sam2(), [video], short, out)
    with pytest.raises(InputError) as caught:
        fine_tune_video(tiny_sam2(), [video], short, out)

    assert "expected a folder without an earlier run" in str(caught.value)
    assert "resume=True" in str(caught.value)


def test_a_run_is_not_taken_up_with_other_settings(tmp_path: Path) -> None:
    """The message names what has changed, then and now."""
    video, out = moving_square(tmp_path / "video"), tmp_path / "run"
    fine_tune_video(tiny_sam2(), [video], dataclasses.replace(SHORT, steps=1), out)
    with pytest.raises(InputError) as caught:
        fine_tune_video(tiny_sam2(), [video], SHORT, out, resume=True)

    assert "got another steps (1 then, 4 now)" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a state", b"PK\x03\x04 cut off"])
def test_a_damaged_state_is_refused(content: bytes, tmp_path: Path) -> None:
    """A file that is cut off or of another kind is named."""
    video, out = moving_square(tmp_path / "video"), tmp_path / "run"
    out.mkdir()
    (out / STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match="got a damaged file"):
        fine_tune_video(tiny_sam2(), [video], SHORT, out, resume=True)


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    """An EdgeTAM does not take up a run of a SAM 2."""
    video, out = moving_square(tmp_path / "video"), tmp_path / "run"
    short = dataclasses.replace(SHORT, steps=1)
    fine_tune_video(tiny_sam2(), [video], short, out)
    with pytest.raises(CheckpointError, match="expected the .* tensors of tiny"):
        fine_tune_video(tiny_sam2(config=TINY_EDGETAM), [video], short, out, resume=True)


def test_losses_that_run_away_stop_the_run(tmp_path: Path) -> None:
    """A loss that is no number names the step and the clips, and spoils no weights."""
    model = tiny_sam2()
    with torch.no_grad():
        model.memory_encoder.out_proj.weight.fill_(float("nan"))
    before = model.memory_attention.norm.weight.clone()
    with pytest.raises(NexusError) as caught:
        fine_tune_video(model, [moving_square(tmp_path)], SHORT)

    assert "expected finite losses, got nan" in str(caught.value)
    assert "at step 1, from square:" in str(caught.value)
    assert torch.equal(model.memory_attention.norm.weight, before)


def test_videos_are_needed() -> None:
    """Without a usable video there is nothing to learn from."""
    with pytest.raises(InputError, match="at least two annotated frames, got none among 0"):
        fine_tune_video(tiny_sam2(), [], SHORT)
