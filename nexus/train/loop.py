"""The trainer: plain torch, one process or several, images or videos.

A run is a folder. It holds the state it can go on from after a kill at any moment, logs, the best
and the last weights, a picture and a card. Everything random follows from the seed, the step and
the row, so that a run that is taken up again, and one that is shared by two processes, has the
losses of the one that was left alone. What differs between images and videos is their `Task`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nexus.core.errors import NexusError
from nexus.core.files import uninterrupted
from nexus.core.outputs import Outputs, output_folder
from nexus.core.progress import Progress
from nexus.core.room import room_for
from nexus.models.cv import load_model
from nexus.models.pretrained import PretrainedModel
from nexus.train import checkpoints
from nexus.train.card import CARD, SUMMARY, write_card
from nexus.train.checkpoints import RunState
from nexus.train.config import RunSettings, TrainingSettings
from nexus.train.figures import Figure, chosen_mean, figures_of
from nexus.train.freezing import freeze, left_as_found, training_mode
from nexus.train.images.task import ImageTask
from nexus.train.logs import BOARD, CURVE, MEASURES, STEPS, Logs, draw_curve, read_rows
from nexus.train.lora import ADAPTER_FILES, add_lora, merge, save_adapter, weights_digest
from nexus.train.processes import Processes
from nexus.train.schedule import Average, decayed_groups, learning_rate
from nexus.train.sets import Given, with_found_sets
from nexus.train.task import Task
from nexus.train.video.config import VideoTrainingSettings
from nexus.train.video.task import VideoTask
from nexus.train.weights import save_checkpoint

_TASKS: Mapping[type[RunSettings], Callable[[Any, PretrainedModel, Given | None], Task]] = {
    TrainingSettings: ImageTask,
    VideoTrainingSettings: VideoTask,
}


@dataclass(frozen=True)
class TrainingResult:
    """What came of a run.

    Attributes:
        folder: Where everything is; None if nothing was written.
        steps: How many were done in all.
        before: Figures of the model as it came.
        best: Figures of the checkpoint kept as best.
        last: Figures of the last one.
        best_step: After how many steps the best one was.
        files: What this process wrote for people and tools, in the order of the card.
        log: What each step was like, by the columns of `steps.csv`.
    """

    folder: Path | None
    steps: int
    before: list[Figure]
    best: list[Figure]
    last: list[Figure]
    best_step: int
    files: list[Path]
    log: list[dict[str, Any]]


def fine_tune(
    settings: RunSettings,
    out: str | Path | None,
    *,
    data: Given | None = None,
    overwrite: bool = False,
    model: PretrainedModel | None = None,
    command: str | None = None,
    on_step: Callable[[int, float], None] | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Fine-tune a model on images or on videos.

    The same call goes on from the state in the folder, if there is one; what is finished is
    measured no more, and its results are returned.

    Args:
        settings: The run: `TrainingSettings` on images, `VideoTrainingSettings` on videos.
        out: Its folder; None writes nothing.
        data: Images or videos to learn from, and held-out ones, instead of those of the settings.
        overwrite: Remove what Nexus made in the folder and begin anew, and replace files of others.
            It is removed when the data have been read.
        model: Fine-tune this one, in place, instead of what the settings name.
        command: How the run was started, for the card.
        on_step: Called after each step with the steps done and the loss.
        progress: Show how far it is on stderr.

    Raises:
        NexusError: Another run is writing into the folder, the disk is full, or the losses are
            finite no more.
        InputError: The folder holds a run with other settings or data, results of another verb, or
            files of others that would be replaced; a set cannot be used; a model that cannot track
            is to learn from videos.
        WeightsError: The model's weights cannot be fetched or read.
        MissingDependencyError: A package is needed for what the settings ask, and not installed.
    """
    folder = None if out is None else Path(out)
    processes = Processes(settings.model.device, silent=not progress)
    if data is None:
        settings = with_found_sets(settings, processes.messages)
    with ExitStack() as stack:
        outputs: Outputs | None = None
        if folder is not None and processes.is_first:
            stack.enter_context(room_for(folder))
            held = output_folder(folder, verb="train", overwrite=overwrite, clear=False)
            outputs = stack.enter_context(held)
            outputs.reserve(_names(settings))
        if model is None:
            model = load_model(
                settings.model.name,
                settings.model.checkpoint,
                device=processes.device,
                input_side=settings.model.input_side,
            )
        model = model.to(processes.device)
        # Dropout draws from the global generator; the caller's is left as it was.
        stack.enter_context(torch.random.fork_rng())
        stack.enter_context(left_as_found(model))
        torch.manual_seed(settings.seed)
        task = _TASKS[type(settings)](settings, model, data)
        place = _Place(folder, outputs, overwrite)
        return _Run(settings, place, model, task, processes).run(command, on_step)


def _names(settings: RunSettings) -> list[str]:
    """Return the names of the files that a run may write."""
    names = [checkpoints.STATE, checkpoints.BEST, checkpoints.LAST]
    names += [STEPS, MEASURES, CURVE, CARD, SUMMARY]
    if settings.adapt.policy == "lora":
        names += [f"{checkpoints.ADAPTER}/{name}" for name in ADAPTER_FILES]
    return names


@dataclass(frozen=True)
class _Place:
    """The folder of a run.

    Attributes:
        folder: None if nothing is written.
        outputs: The same, held; None in all processes but the first.
        overwrite: Begin anew in it.
    """

    folder: Path | None
    outputs: Outputs | None
    overwrite: bool

    def state_file(self) -> Path | None:
        """Return the state to go on from, having removed what is to be overwritten."""
        if self.overwrite and self.outputs is not None:
            self.outputs.clear()
        path = None if self.folder is None else self.folder / checkpoints.STATE
        return None if path is None or self.overwrite or not path.exists() else path

    def logs(self, after_step: int, parts: Sequence[str], stack: ExitStack) -> Logs | None:
        """Open the logs, which the stack closes; None in all processes but the first."""
        outputs = self.outputs
        if outputs is None:
            return None
        boards = set(outputs.others_in(BOARD))
        for name in (STEPS, MEASURES):
            outputs.made(name, growing=True)
        logs = stack.enter_context(Logs(outputs.folder, after_step, parts))
        for name in (STEPS, MEASURES):  # written anew, and yet to grow
            outputs.made(name, growing=True)
        for path in set(outputs.others_in(BOARD)) - boards:
            outputs.made(path, growing=True)
        return logs

    def logged(self) -> None:
        """Note that the logs grow no more."""
        for name in (STEPS, MEASURES):
            if self.outputs is not None:
                self.outputs.made(name)


class _Run:
    """One run: what it holds, and its steps."""

    def __init__(
        self,
        settings: RunSettings,
        place: _Place,
        model: PretrainedModel,
        task: Task,
        processes: Processes,
    ) -> None:
        self.settings = settings
        self.place = place
        self.folder = place.folder
        self.model = model
        self.task = task
        self.processes = processes
        adapt = settings.adapt
        if adapt.policy == "lora":
            add_lora(model, **vars(adapt.lora))
        freeze(model, adapt.policy)
        parameters = dict(model.named_parameters())
        self.learning = {name: p for name, p in parameters.items() if p.requires_grad}
        model.eval()
        task.prepare(processes)
        recipe = settings.optimizer
        self.optimizer = torch.optim.AdamW(
            decayed_groups(self.learning.items(), recipe.weight_decay, recipe.encoder_share),
            lr=recipe.learning_rate,
            betas=recipe.betas,
        )
        self.average = None if recipe.ema is None else Average(self.learning, recipe.ema)
        # A state of the run does not hold what does not learn.
        frozen = {name: p for name, p in parameters.items() if name not in self.learning}
        base = weights_digest(f"{model.variant} {model.policy}", frozen)
        self.identity = checkpoints.identity_of(settings, task.digest, base)
        self.state = self._taken_up()
        self.log: list[dict[str, Any]] = []

    @property
    def written(self) -> Path | None:
        """The folder, in the process that writes there; None in the others."""
        return self.folder if self.processes.is_first else None

    def run(
        self, command: str | None, on_step: Callable[[int, float], None] | None
    ) -> TrainingResult:
        """Measure, learn, measure, and write everything."""
        folder, state, every = self.written, self.state, self.settings.evaluate.every
        with ExitStack() as stack:
            logs = self.place.logs(state.step, self.task.parts, stack)
            if folder is not None:
                self.log = read_rows(folder / STEPS)
            if not state.figures:
                self._measure(logs)
                self._save()
            with Progress(
                self.settings.optimizer.steps,
                label="train",
                unit="steps",
                done=state.step,
                stream=self.processes.messages,
            ) as progress:
                while not self._is_over():
                    row = self._step()
                    self.log.append(row)
                    if logs is not None:
                        logs.step(row)
                    progress.advance()
                    if every and state.step % every == 0 and not self._is_over():
                        self._measure(logs)
                    if state.step % self.settings.checkpoint_every == 0:
                        self._save()
                    if on_step is not None:
                        on_step(state.step, row["loss"])
            if state.step not in state.figures:
                self._measure(logs)
            self._save()
        self.place.logged()
        self.processes.wait()
        return self._finish(command)

    def _taken_up(self) -> RunState:
        """Return where an earlier run of the folder was, having taken up its weights."""
        path = self.place.state_file()
        if path is None:
            return RunState()
        state, average = checkpoints.load_state(path, self.identity, self.model, self.optimizer)
        if self.average is not None:
            self.average.load(average)
        return state

    def _is_over(self) -> bool:
        return self.state.stopped or self._progress() >= 1

    def _progress(self) -> float:
        """Return the share of the budget that is used."""
        recipe = self.settings.optimizer
        if recipe.minutes is not None:
            return self.state.elapsed_s / (60 * recipe.minutes)
        return self.state.step / (recipe.steps or 1)

    def _step(self) -> dict[str, Any]:
        """Do one step; return its row of the log."""
        recipe, state, processes = self.settings.optimizer, self.state, self.processes
        started = time.perf_counter()
        torch.manual_seed(
            (self.settings.seed * 1_000_003 + state.step) * processes.count + processes.index
        )
        rate = learning_rate(recipe, state.step, self._progress())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        calls = self.task.calls(state.step, processes.index, processes.count)
        training_mode(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        sums = dict.fromkeys(("loss", *self.task.parts), 0.0)
        drawn = [self._learn(call, 1 / len(calls), sums) for call in calls]
        parameters = list(self.learning.values())
        numbers = [*sums.values(), time.perf_counter() - started]
        *means, seconds = processes.average(parameters, numbers)
        norm = float(nn.utils.clip_grad_norm_(parameters, recipe.clip or math.inf))
        if not norm < math.inf:
            raise NexusError(
                f"expected finite losses, got {means[0]:g} with a gradient of norm {norm:g} at "
                f"step {state.step + 1}, from {'; '.join(drawn)}",
                hint="lower learning_rate, or train in float32",
            )
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
            "drawn": "; ".join(drawn),
            "seconds": round(state.elapsed_s, 3),
        }

    def _learn(self, call: Any, share: float, sums: dict[str, float]) -> str:
        """Add the gradients of one call with all its losses; return what the log calls it."""
        bf16 = self.settings.optimizer.dtype == "bfloat16"
        whole: Tensor | None = None
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=bf16):
            drawn, losses = self.task.losses(call)
            for value, parts in losses:
                loss = value * share
                # They share nothing but the encoder: without it each is let go of at once.
                if self.settings.adapt.encoder_learns:
                    whole = loss if whole is None else whole + loss
                else:
                    torch.autograd.backward(loss)
                sums["loss"] += float(loss.detach())
                for name, part in parts.items():
                    sums[name] += part * share
        if whole is not None:
            torch.autograd.backward(whole)
        return drawn

    def _measure(self, logs: Logs | None) -> None:
        """Measure what is held out, and keep the weights if they are the best so far."""
        state = self.state
        # Nothing was taught yet: the figures before are those of the model as anybody has it.
        untaught = nullcontext() if state.step else self.task.as_it_came()
        with self._as_measured(), untaught:
            held_out = self.processes.share_of(self.task.held_out)
            found = self.processes.gather([self.task.measure(item) for item in held_out])
            figures = figures_of([figure for of_item in found for figure in of_item])
            state.figures[state.step] = figures
            self._choose(chosen_mean(figures, self.settings.evaluate))
        if logs is not None:
            for figure in figures:
                logs.measure(figure, state.step, state.elapsed_s)

    def _choose(self, mean: float | None) -> None:
        """Keep the weights in the model as best, or count towards stopping."""
        state = self.state
        if mean is not None and state.best is not None and mean <= state.best:
            state.waiting += 1
            patience = self.settings.evaluate.patience
            state.stopped = patience is not None and state.waiting >= patience
            return
        state.best, state.best_step, state.waiting = mean, state.step, 0
        if self.written is not None:
            self._export(self.written / checkpoints.BEST)
            if self.settings.adapt.policy == "lora":
                save_adapter(self.model, self.written / checkpoints.ADAPTER)

    def _as_measured(self) -> AbstractContextManager[None]:
        """Let the model be in eval mode, and have its average for the length of a block."""
        self.model.eval()
        return nullcontext() if self.average is None else self.average.in_place(self.learning)

    def _export(self, path: Path) -> None:
        """Write a checkpoint with official names, adapters merged into the weights."""
        notes = {"step": self.state.step, "data": self.task.digest, "seed": self.settings.seed}
        header = checkpoints.header_of(self.model.variant, self.model.policy, notes)
        adapted = self.settings.adapt.policy == "lora"
        save_checkpoint(merge(copy.deepcopy(self.model)) if adapted else self.model, path, header)

    def _save(self) -> None:
        if self.written is not None:
            average = {} if self.average is None else self.average.weights
            held = self.identity, self.state, self.model, self.optimizer, average
            with uninterrupted():
                checkpoints.save_state(self.written / checkpoints.STATE, *held)

    def _finish(self, command: str | None) -> TrainingResult:
        """Write the last weights, the picture and the card."""
        state, folder = self.state, self.written
        files: list[Path] = []
        before, best, last = (state.figures[step] for step in (0, state.best_step, state.step))
        result = TrainingResult(
            self.folder, state.step, before, best, last, state.best_step, files, self.log
        )
        if folder is None:
            return result
        files += [folder / name for name in (checkpoints.BEST, checkpoints.LAST)]
        with self._as_measured():
            self._export(files[-1])
        picture = draw_curve(folder)
        if picture is not None:
            files.append(picture)
        facts = {
            "variant": self.model.variant,
            "learning": sum(parameter.numel() for parameter in self.learning.values()),
            "device": str(self.processes.device),
            "processes": self.processes.count,
            "command": command,
        }
        files += write_card(folder, self.settings, self.task, state, facts)
        return result
