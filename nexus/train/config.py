"""What a fine-tuning run is asked to do: small frozen dataclasses, one for each block of the YAML.

Every field has a value that works, but for the data; `nexus.train.config_file` reads them from a
file and says on which line of it a mistake is. What a run on videos has otherwise is in
`nexus.train.video.config`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from nexus.core.errors import InputError
from nexus.data.clicks.game import BOXES, Kind, check_shares
from nexus.train.groups import check_rule

View = Literal["plain", "mirrored", "upside_down", "turned_90", "turned_180", "turned_270"]
Measure = Literal["box", "one_click", "clicks"]
Policy = Literal["decoder", "prompt_and_decoder", "lora", "all_but_encoder", "full"]
_UNBOUNDED = float("inf")


def ranged(default: Any, low: float, high: float = _UNBOUNDED) -> Any:
    """Return a field with a default, whose number may be `low` to `high`; None passes."""
    return field(default=default, metadata={"range": (low, high)})


class Checked:
    """A dataclass whose `ranged` fields are checked when it is made."""

    def __post_init__(self) -> None:
        for known in dataclasses.fields(self):  # type: ignore[arg-type]
            check_range(known, getattr(self, known.name))


def check_range(known: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a number that a field may not have.

    Raises:
        InputError: It is out of the field's range, or not a number.
    """
    if "range" not in known.metadata or value is None:
        return
    low, high = known.metadata["range"]
    if not low <= value <= high:
        wanted = f"of at least {low:g}" if high == _UNBOUNDED else f"from {low:g} to {high:g}"
        raise InputError(f"expected {known.name} {wanted}, got {value!r}")


@dataclass(frozen=True)
class ModelSettings(Checked):
    """What is fine-tuned.

    Attributes:
        name: A name of `nexus models`.
        checkpoint: Weights to begin with instead of the published ones.
        device: As in `from_pretrained`; with several processes each takes its own.
        input_side: Side of the model frame; None takes the trained one.
    """

    name: str = "lite_medsam"
    checkpoint: str | None = None
    device: str | None = None
    input_side: int | None = None


@dataclass(frozen=True)
class SetSettings(Checked):
    """One dataset.

    Attributes:
        folder: Where it is, below `root` of the data.
        reader: A name of `nexus.data.truth`.
        name: What logs and the card call it; None takes the folder's name.
        split: Which part of the dataset, where it has parts.
        held_out_split: Hold this part out instead of the last items of `split`.
    """

    folder: str
    reader: str = "folder"
    name: str | None = None
    split: str | None = None
    held_out_split: str | None = None

    @property
    def title(self) -> str:
        """What logs and the card call it."""
        return self.name or self.folder.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class SetsSettings(Checked):
    """The datasets of a run, and what of them is held out.

    Attributes:
        sets: The datasets.
        root: Folder that theirs are below; relative to where the command runs.
        held_out: Of n items of a set, the last floor(n * held_out) by name are held out; of n
            groups as many, and one at least.
        groups: What is held out together: None for each item by itself, 'auto' or a regular
            expression; see `nexus.train.groups.group_split`.
    """

    may_be_found: ClassVar[bool] = False
    """Whether no sets means those that are found in `root`."""

    sets: tuple[SetSettings, ...]
    root: str = "."
    held_out: float = ranged(0.25, 0, 0.9)
    groups: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        titles = [entry.title for entry in self.sets]
        if not titles and not self.may_be_found:
            raise InputError("expected at least one entry of sets, got none")
        check_rule(self.groups)
        double = next((title for title in titles if titles.count(title) > 1), None)
        if double is not None:
            raise InputError(
                f"expected sets with names of their own, got {double!r} twice",
                hint="give one of them a name: {folder: ..., name: ...}",
            )


@dataclass(frozen=True)
class DataSettings(SetsSettings):
    """The images, and which of their objects are learnt and measured.

    Without `sets` they are found in `root`, see `nexus.train.sets.found_sets`.

    Attributes:
        most_objects: The largest objects of an image that count.
        min_area: Smaller objects do not count, pixels of the original.
        balance: 0 draws every object alike often, 1 every set; between them is between.
    """

    may_be_found: ClassVar[bool] = True

    sets: tuple[SetSettings, ...] = ()
    most_objects: int = ranged(20, 1)
    min_area: int = ranged(50, 1)
    balance: float = ranged(0.0, 0, 1)


@dataclass(frozen=True)
class LoraSettings(Checked):
    """LoRA, for the policy 'lora'; see `nexus.train.lora`."""

    rank: int = ranged(8, 1)
    alpha: float = ranged(16.0, 0)
    dropout: float = ranged(0.0, 0, 0.9)
    targets: Literal["attention", "attention_and_mlp"] = "attention"
    where: Literal["encoder", "decoder", "both"] = "decoder"


@dataclass(frozen=True)
class AdaptSettings(Checked):
    """Which weights learn.

    Attributes:
        policy: As in `nexus.train.freezing`.
        lora: Used by the policy 'lora'.
    """

    policy: Policy = "prompt_and_decoder"
    lora: LoraSettings = LoraSettings()

    @property
    def encoder_learns(self) -> bool:
        """Whether what images become can change, so that they are encoded at every step."""
        # Of SAM 2's decoder the projections of the finer maps are part of an embedding.
        whole = self.policy in ("all_but_encoder", "full")
        return whole or (self.policy == "lora" and self.lora.where != "decoder")


@dataclass(frozen=True)
class AugmentSettings(Checked):
    """The views of an image that are learnt from, each encoded once if the encoder is frozen.

    Attributes:
        views: Lossless ones; 'plain' is the image as it is, turns are anticlockwise.
        random_views: How many more are drawn with the settings below, once for all.
        flip: Mirrored with this probability.
        rotate_degrees: Turned by up to this on both sides.
        scale: Smallest and largest factor.
        brightness: Changed by up to this share.
        contrast: Changed by up to this share.
    """

    views: tuple[View, ...] = ("plain",)
    random_views: int = ranged(0, 0, 64)
    flip: float = ranged(0.5, 0, 1)
    rotate_degrees: float = ranged(15.0, 0, 180)
    scale: tuple[float, float] = (0.8, 1.2)
    brightness: float = ranged(0.2, 0, 1)
    contrast: float = ranged(0.2, 0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.views and not self.random_views:
            raise InputError("expected at least one of views or random_views, got none")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"expected scale [smallest, largest] above 0, got {list(self.scale)}")


@dataclass(frozen=True)
class PromptSettings(Checked):
    """The prompts of a step.

    Attributes:
        first: Shares of the kinds a first prompt has, see `nexus.data.clicks.game.Target.point`. A
            'near_box' has no truth: what is learnt is to answer as the model did when it came, so
            that it needs `loss.keep`.
        rounds: Prompts a step that begins with a click gives one after the other; each adds a
            click on the largest error of the one before.
        box_rounds: The same for a step that begins with a box.
        mask_prompt: Share of the later rounds that get the mask of the round before.
        candidates: A click alone is answered by three masks of which the best one learns.
        box_jitter: Standard deviation of an edge, as a share of the box's side.
        box_jitter_px: An edge moves no further than this, pixels of the original.
    """

    first: dict[Kind, float] = field(
        default_factory=lambda: {"centre": 0.5, "inner": 0.2, "jittered_box": 0.3}
    )
    rounds: int = ranged(3, 1, 20)
    box_rounds: int = ranged(1, 1, 20)
    mask_prompt: float = ranged(0.5, 0, 1)
    candidates: bool = False
    box_jitter: float = ranged(0.1, 0, 1)
    box_jitter_px: float = ranged(20.0, 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.first, get_args(Kind))

    @property
    def clicks(self) -> bool:
        """Whether the run teaches clicks at all."""
        return any(
            share > 0 and (kind not in BOXES or self.rounds_of(kind) > 1)
            for kind, share in self.first.items()
        )

    def rounds_of(self, kind: Kind) -> int:
        """Return how many prompts a step gives that begins with a kind."""
        if kind == "near_box":
            return 1
        return self.box_rounds if kind in BOXES else self.rounds


@dataclass(frozen=True)
class LossSettings(Checked):
    """Weights of the summands of the loss; see `nexus.train.losses`.

    Attributes:
        dice: Soft Dice of the masks.
        bce: Binary cross entropy of the masks.
        focal: Focal loss of the masks.
        iou: Squared error of the predicted IoU.
        keep: Answers to boxes that the model gave well as it came are to stay as they were, and
            all answers to a 'near_box'; see `nexus.train.rounds.keeping_loss`. Needs a frozen
            encoder.
    """

    dice: float = ranged(1.0, 0)
    bce: float = ranged(1.0, 0)
    focal: float = ranged(0.0, 0)
    iou: float = ranged(0.1, 0)
    keep: float = ranged(0.0, 0)


@dataclass(frozen=True)
class OptimizerSettings(Checked):
    """How the weights learn: AdamW.

    Attributes:
        steps: How many; give these or `minutes`.
        minutes: Stop after this time of training, encoding and evaluation not counted. The
            schedule then follows the clock, and no two runs are quite the same.
        learning_rate: The highest.
        encoder_share: That of the image encoder, if it learns, as a share of the others'.
        schedule: How it falls after the warm-up.
        warmup_steps: It rises over so many.
        final_share: It ends at this share of the highest.
        weight_decay: Of matrices; biases and norms have none.
        betas: AdamW's.
        clip: Largest norm of the gradient; None does not clip.
        rows: Objects of one decoder call on one device, or clips.
        accumulation: Decoder calls of a step, each with a kind of prompt of its own; of clips, how
            often `rows` of them.
        ema: Decay of the moving average of the weights, which is what is measured and kept;
            None keeps the weights themselves.
        dtype: Number format of the arithmetic; weights stay as they are.
    """

    steps: int | None = ranged(None, 1)
    minutes: float | None = ranged(None, 0.001)
    learning_rate: float = ranged(2e-4, 0, 1)
    encoder_share: float = ranged(1.0, 0, 1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int = ranged(30, 0)
    final_share: float = ranged(0.01, 0, 1)
    weight_decay: float = ranged(0.01, 0, 1)
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = ranged(1.0, 1e-6)
    rows: int = ranged(4, 1)
    accumulation: int = ranged(1, 1)
    ema: float | None = ranged(0.99, 0, 0.99999)
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.steps is None) == (self.minutes is None):
            got = "both" if self.steps is not None else "neither"
            raise InputError(f"expected either steps or minutes, got {got}")


@dataclass(frozen=True)
class MeasuringSettings(Checked):
    """What is measured of what is held out, before, after and during training.

    Attributes:
        measures: Their names.
        every: Also after each so many steps; 0 only before and after.
        patience: Stop when so many measurements in a row were no improvement; None never stops.
        choose: The checkpoint kept as best has the highest mean of these; empty for all measured.
    """

    measures: tuple[str, ...]
    every: int = ranged(200, 0)
    patience: int | None = ranged(None, 1)
    choose: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        stray = set(self.choose) - set(self.measures)
        if stray:
            raise InputError(f"expected choose among measures, got also {', '.join(sorted(stray))}")


@dataclass(frozen=True)
class EvaluateSettings(MeasuringSettings):
    """What is measured of held-out objects of images.

    Attributes:
        measures: 'box' (tight box), 'one_click' (at the maximum of the distance transform),
            'clicks' (that one, then clicks on the largest error).
        clicks: How many clicks 'clicks' gives in all.
        mask_prompt: Later clicks come with the mask before them.
    """

    measures: tuple[Measure, ...] = ("box", "one_click", "clicks")
    choose: tuple[Measure, ...] = ()
    clicks: int = ranged(3, 2, 20)
    mask_prompt: bool = True


@dataclass(frozen=True)
class CacheSettings(Checked):
    """Where embeddings of a frozen encoder are kept.

    Attributes:
        folder: None takes `embeddings` beside the fetched weights.
        dtype: Number format of the embeddings learnt from; held-out ones are float32.
    """

    folder: str | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"


@dataclass(frozen=True)
class RunSettings(Checked):
    """What every run has, whatever it learns from.

    Attributes:
        data: The datasets; None where a caller brings its own.
        seed: Order of the data, prompts and random views follow from it.
        checkpoint_every: Steps between states a killed run can go on from.
    """

    data: SetsSettings | None
    optimizer: OptimizerSettings
    model: ModelSettings = ModelSettings()
    adapt: AdaptSettings = AdaptSettings()
    evaluate: MeasuringSettings = EvaluateSettings()
    seed: int = ranged(0, 0, 2**63 - 1)
    checkpoint_every: int = ranged(100, 1)


@dataclass(frozen=True)
class TrainingSettings(RunSettings):
    """A whole run on images."""

    data: DataSettings
    evaluate: EvaluateSettings = EvaluateSettings()
    augment: AugmentSettings = AugmentSettings()
    prompts: PromptSettings = field(default_factory=PromptSettings)
    loss: LossSettings = LossSettings()
    cache: CacheSettings = CacheSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss.keep and self.adapt.encoder_learns:
            raise InputError(
                f"expected loss.keep 0 where the encoder learns, got {self.loss.keep:g}",
                hint="choose a policy that leaves the encoder as it is, such as decoder",
            )
        if self.prompts.first.get("near_box") and not self.loss.keep:
            raise InputError(
                "expected loss.keep above 0 for prompts.first.near_box, got 0",
                hint="a near_box has no truth: what it teaches is to answer as before",
            )
