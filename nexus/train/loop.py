"""The training loop: plain torch, one process or several.

A run is a folder. It holds the state it can go on from after a kill at any moment, logs, the best
and the last weights, a picture and a card. Everything random follows from the seed, the step and
the row, so that a run that is taken up again, and one that is shared by two processes, has the
losses of the one that was left alone.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nexus.core.errors import InputError
from nexus.core.files import claimed
from nexus.core.interrupts import uninterrupted
from nexus.core.progress import Progress
from nexus.core.types import ImageEmbedding, Prompt
from nexus.models.cv import load_model
from nexus.models.forward import decode_alike
from nexus.models.pretrained import PretrainedModel
from nexus.train import checkpoints
from nexus.train.adapt import Adapted
from nexus.train.card import CardFacts, write_card
from nexus.train.checkpoints import RunState
from nexus.train.config import TrainingSettings
from nexus.train.images.evaluation import Figure, chosen_mean, figures_of, measure_image
from nexus.train.images.plan import Call, Plan
from nexus.train.images.prepare import Prepared, prepare
from nexus.train.images.rounds import Decode, rounds_of
from nexus.train.logs import Logs, draw_curve
from nexus.train.processes import Processes, share_of
from nexus.train.schedule import Average, decayed_groups, learning_rate

_PARTS = ("dice", "bce", "focal", "iou", "keep")


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    Attributes:
        folder: Where everything is.
        steps: How many were done in all.
        before: Figures of the model as it came.
        best: Figures of the checkpoint kept as best.
        last: Figures of the last one.
        best_step: After how many steps the best one was.
        files: What was written for people and tools, in the order of the card.
    """

    folder: Path
    steps: int
    before: list[Figure]
    best: list[Figure]
    last: list[Figure]
    best_step: int
    files: list[Path]


def fine_tune(
    settings: TrainingSettings,
    out: str | Path,
    *,
    resume: bool = False,
    model: PretrainedModel | None = None,
    command: str | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Fine-tune a model on images.

    Args:
        settings: The run.
        out: Its folder.
        resume: Go on from the state in the folder, if there is one.
        model: Fine-tune this one, in place, instead of what the settings name.
        command: How the run was started, for the card.
        on_step: Called after each step with the steps done and the loss.

    Raises:
        NexusError: Another run is writing into the folder.
        InputError: The folder holds a run and `resume` is false, or a run with other settings or
            data; a set cannot be used.
        WeightsError: The model's weights cannot be fetched or read.
        MissingDependencyError: A package is needed for what the settings ask, and not installed.
    """
    folder = Path(out)
    if (folder / checkpoints.STATE).exists() and not resume:
        raise InputError(
            f"expected a folder without a training run, got {str(folder)!r}",
            hint="go on with --resume, or choose another folder",
        )
    processes = Processes(settings.model.device)
    if model is None:
        model = load_model(
            settings.model.name,
            settings.model.checkpoint,
            device=processes.device,
            input_side=settings.model.input_side,
        )
    # Dropout draws from the global generator; the caller's is left as it was.
    with claimed(folder) if processes.is_first else nullcontext(), torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        run = _Run(settings, folder, model.to(processes.device), processes)
        return run.run(command, on_step)


class _Run:
    """One run: what it holds, and its steps."""

    def __init__(
        self,
        settings: TrainingSettings,
        folder: Path,
        model: PretrainedModel,
        processes: Processes,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.processes = processes
        if settings.prompts.clicks:
            model.policy = dataclasses.replace(
                model.policy, box_only=False, candidates=settings.prompts.candidates
            )
        self.fingerprint = model.frontend.fingerprint(model.image_encoder)
        self.model = model
        self.base: PretrainedModel | None = None
        if settings.loss.keep:
            # All but the encoder, which is frozen and so is the base's too.
            shared = {id(model.image_encoder): model.image_encoder}
            self.base = copy.deepcopy(model, shared).eval()
        self.adapted = Adapted(model, settings.adapt)
        self.learning = self.adapted.learning()
        model.eval()
        self.data: Prepared = prepare(model, settings, processes)
        recipe = settings.optimizer
        self.optimizer = torch.optim.AdamW(
            decayed_groups(self.learning.items(), recipe.weight_decay),
            lr=recipe.learning_rate,
            betas=recipe.betas,
        )
        self.average = None if recipe.ema is None else Average(self.learning, recipe.ema)
        self.plan = Plan(
            self.data.objects,
            settings.prompts,
            seed=settings.seed,
            rows=recipe.rows,
            accumulation=recipe.accumulation,
            balance=settings.data.balance,
        )
        self.identity = checkpoints.identity_of(settings, self.data.digest, self.fingerprint)
        self.state = self._taken_up()

    def run(
        self, command: str | None, on_step: Callable[[int, float], None] | None
    ) -> TrainingResult:
        """Measure, learn, measure, and write everything."""
        first = self.processes.is_first
        logs = Logs(self.folder, self.state.step) if first else None
        with logs or nullcontext():
            if not self.state.figures:
                self._measure(logs)
                self._save()
            total = self.settings.optimizer.steps
            with Progress(
                total,
                label="train",
                unit="steps",
                done=self.state.step,
                stream=self.processes.messages,
            ) as progress:
                while not self._is_over():
                    row = self._step()
                    if logs is not None:
                        logs.step(row)
                    progress.advance()
                    self._keep(logs)
                    if on_step is not None:
                        on_step(self.state.step, row["loss"])
            if self.state.step not in self.state.figures:
                self._measure(logs)
            self._save()
        self.processes.wait()
        return self._finish(command)

    def _taken_up(self) -> RunState:
        """Return where an earlier run of the folder was, having taken up its weights."""
        path = self.folder / checkpoints.STATE
        if not path.exists():
            return RunState()
        state, average = checkpoints.load_state(path, self.identity, self.model, self.optimizer)
        if self.average is not None:
            self.average.load(average)
        return state

    def _is_over(self) -> bool:
        recipe, state = self.settings.optimizer, self.state
        spent = self._progress() >= 1 if recipe.minutes else state.step >= (recipe.steps or 0)
        return state.stopped or spent

    def _progress(self) -> float:
        """Return the share of the budget that is used."""
        recipe = self.settings.optimizer
        if recipe.minutes is not None:
            return self.state.elapsed_s / (60 * recipe.minutes)
        return self.state.step / max(1, (recipe.steps or 1))

    def _step(self) -> dict[str, Any]:
        """Do one step; return its row of the log."""
        recipe, state = self.settings.optimizer, self.state
        started = time.perf_counter()
        torch.manual_seed(
            (self.settings.seed * 1_000_003 + state.step) * self.processes.count
            + self.processes.index
        )
        rate = learning_rate(recipe, state.step, self._progress())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        calls = self.plan.calls(state.step, self.processes.index, self.processes.count)
        self.adapted.training_mode()
        self.optimizer.zero_grad(set_to_none=True)
        sums = dict.fromkeys(("loss", *_PARTS), 0.0)
        for call in calls:
            self._learn(call, 1 / len(calls), sums)
        parameters = list(self.learning.values())
        seconds = time.perf_counter() - started
        *means, seconds = self.processes.average(parameters, [*sums.values(), seconds])
        limit = float("inf") if recipe.clip is None else recipe.clip
        norm = float(nn.utils.clip_grad_norm_(parameters, limit))
        self.optimizer.step()
        state.step += 1
        if self.average is not None:
            self.average.update(self.learning, state.step)
        state.elapsed_s += seconds
        return {
            "step": state.step,
            **dict(zip(sums, means, strict=True)),
            "learning_rate": rate,
            "gradient_norm": norm,
            "kinds": "+".join(call.kind for call in calls),
            "seconds": round(state.elapsed_s, 3),
        }

    def _learn(self, call: Call, share: float, sums: dict[str, float]) -> None:
        """Add the gradients of one decoder call with all its rounds."""
        settings = self.settings
        encoder_learns = settings.adapt.encoder_learns
        device = self.processes.device.type
        bf16 = settings.optimizer.dtype == "bfloat16"
        whole: torch.Tensor | None = None
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            embeddings = self.data.embed(call.views)
            for one in rounds_of(
                call,
                _decoder(self.model),
                embeddings,
                settings.prompts,
                settings.loss,
                self.model.policy.logit_limit,
                None if self.base is None else _decoder(self.base),
            ):
                loss = one.loss * share
                # Rounds share nothing but the encoder: without it each is let go of at once.
                if encoder_learns:
                    whole = loss if whole is None else whole + loss
                else:
                    torch.autograd.backward(loss)
                sums["loss"] += float(loss.detach())
                for name, value in one.parts.items():
                    sums[name] += value * share
        if whole is not None:
            torch.autograd.backward(whole)

    def _keep(self, logs: Logs | None) -> None:
        """Measure and save, if it is time for that."""
        state, every = self.state, self.settings.evaluate.every
        if every and state.step % every == 0 and not self._is_over():
            self._measure(logs)
        if state.step % self.settings.checkpoint_every == 0:
            self._save()

    def _measure(self, logs: Logs | None) -> None:
        """Measure the held-out objects, and keep the weights if they are the best so far."""
        settings, state = self.settings.evaluate, self.state
        with self._as_measured():
            mine = [
                measure_image(self.model, one, settings, self.settings.prompts.candidates)
                for one in share_of(self.data.held_out, self.processes)
            ]
            found = self.processes.gather(mine)
            figures = figures_of([figure for image in found for figure in image])
            state.figures[state.step] = figures
            self._choose(chosen_mean(figures, settings))
        if logs is not None:
            for figure in figures:
                logs.measure(
                    {
                        "step": state.step,
                        "measure": figure.measure,
                        "set": figure.set_title,
                        "dsc": figure.dsc,
                        "objects": figure.objects,
                        "seconds": round(state.elapsed_s, 3),
                    }
                )

    def _choose(self, mean: float | None) -> None:
        """Keep the weights in the model as best, or count towards stopping."""
        state = self.state
        if mean is not None and state.best is not None and mean <= state.best:
            state.waiting += 1
            patience = self.settings.evaluate.patience
            state.stopped = patience is not None and state.waiting >= patience
            return
        state.best, state.best_step, state.waiting = mean, state.step, 0
        if self.processes.is_first:
            self._export(self.folder / checkpoints.BEST)
            self.adapted.save_adapter(self.folder / checkpoints.ADAPTER)

    @contextmanager
    def _as_measured(self) -> Iterator[None]:
        """Let the model have its average and be in eval mode for the length of a block."""
        self.model.eval()
        if self.average is None:
            yield
            return
        with self.average.in_place(self.learning):
            yield

    def _export(self, path: Path) -> None:
        notes = {"step": self.state.step, "data": self.data.digest, "seed": self.settings.seed}
        header = checkpoints.header_of(self.model.variant, self.model.policy, notes)
        self.adapted.save(path, header)

    def _save(self) -> None:
        if self.processes.is_first:
            with uninterrupted():
                checkpoints.save_state(
                    self.folder / checkpoints.STATE,
                    self.identity,
                    self.state,
                    self.model,
                    self.optimizer,
                    None if self.average is None else self.average.weights,
                )

    def _finish(self, command: str | None) -> TrainingResult:
        """Write the last weights, the picture and the card."""
        state = self.state
        files = [self.folder / name for name in (checkpoints.BEST, checkpoints.LAST)]
        result = TrainingResult(
            self.folder,
            state.step,
            state.figures[0],
            state.figures[state.best_step],
            state.figures[state.step],
            state.best_step,
            files,
        )
        if not self.processes.is_first:
            return result
        with self._as_measured():
            self._export(files[1])
        picture = draw_curve(self.folder)
        if picture is not None:
            files.append(picture)
        facts = CardFacts(
            variant=self.model.variant,
            steps=state.step,
            best_step=state.best_step,
            elapsed_s=state.elapsed_s,
            learning=sum(parameter.numel() for parameter in self.learning.values()),
            objects=len(self.data.objects),
            images=len(self.data.learnt_images),
            data_digest=self.data.digest,
            figures=state.figures,
            device=str(self.processes.device),
            processes=self.processes.count,
            command=command,
        )
        files += write_card(self.folder, self.settings, facts)
        return result


def _decoder(model: PretrainedModel) -> Decode:
    """Return how a model answers rows of different images."""

    def decode(
        images: Sequence[ImageEmbedding], prompts: Sequence[Prompt], several: bool
    ) -> tuple[Tensor, Tensor]:
        return decode_alike(model, list(images), list(prompts), several)

    return decode
