"""Typed, frozen experiment specs: one per command, each part owned by the noun that it configures.

A spec says everything about a run; what it leaves to `auto` is resolved once and written back, so that the saved spec
makes the run again. Unknown keys are errors that name the nearest valid key.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Workers = Natural | Annotated[str, Field(pattern=r"^[1-9]\d*:[1-9]\d*$")]


def _plain(field: str, name: str | None) -> None:
    """Raises ValueError unless a name can name a folder, and no other folder."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ValueError(f"{field} {name!r} must be 1-64 of A-Z a-z 0-9 . _ - and start with a letter or digit")


class Part(BaseModel):
    """A frozen section of a spec; unknown keys and non-finite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class DataSpec(Part):
    """Where the real data comes from and how it is split."""

    source: str = Field(
        "digits",
        description="digits, a name looked up under the data root (mnist, cifar10, ...), parquet:PATH, folder:PATH, "
        "or an entry point of raystill.sources",
    )
    root: Path | None = Field(None, description="folder where data sets are found by name; else $RAYSTILL_DATA")
    validation: Fraction = Field(0.1, description="share of train held out by seed where the source has no validation")
    split_seed: Natural = Field(0, description="seed of the held-out split")
    image_column: str = Field("image", description="Parquet column with the encoded image")
    label_column: str = Field("label", description="Parquet column with the integer label")
    size: Count | None = Field(None, description="resize to this many pixels on each side; none keeps the source's")
    limit: Count | None = Field(None, description="use at most this many training images, drawn by the split seed")
    download: bool = Field(False, description="let torchvision download what the data root lacks")
    cache: Path | None = Field(None, description="folder of the Arrow cache; else $RAYSTILL_CACHE or ~/.cache/raystill")


class LearnerSpec(Part):
    """The network that learns from the synthesised data."""

    name: str = Field(
        "lenet",
        description="linear, mlp, lenet, alexnet, convnet, resnet, strips, an entry point of raystill.learners, "
        "or an architecture (macro:d3-w16-x2-k3-max-group-relu-gap)",
    )
    init: Literal["xavier", "kaiming", "orthogonal", "normal", "default"] = Field(
        "xavier", description="distribution that initial weights are drawn from"
    )
    gain: Positive = Field(1.0, description="factor on the initialisation's standard deviation")
    width: Count | None = Field(None, description="channels or hidden units; none takes the network's own")
    depth: Count | None = Field(None, description="blocks or hidden layers; none takes the network's own")


class SynthesizerSpec(Part):
    """What is learned, and how it is cut into inner steps."""

    kind: str = Field("images", description="images, or an entry point of raystill.synthesizers")
    per_class: Count = Field(1, description="images per class (IPC) of each step")
    images: Count | None = Field(
        None, description="images of each step, instead of per_class; may be fewer than classes"
    )
    steps: Count = Field(1, description="distinct steps, each with images of its own")
    epochs: Count = Field(3, description="passes over the steps; the unroll is steps x epochs long")
    labels: Literal["hard", "soft"] = Field(
        "hard", description="fixed one-hot labels, or labels learned beside the images"
    )
    start: Literal["noise", "real", "average", "kmeans"] = Field("noise", description="what the images start from")
    scales: Annotated[int, Field(ge=1, le=8)] = Field(
        1, description="resolutions that an image is the sum of, each half the one before; 1 learns pixels alone"
    )
    noise: Positive = Field(1.0, description="standard deviation of a noise start, in normalised units")

    @model_validator(mode="after")
    def _few_images_need_soft_labels(self) -> SynthesizerSpec:
        if self.images is not None and self.per_class != 1:
            raise ValueError("give synthesizer.images or synthesizer.per_class, not both")
        return self


class InitialisationSpec(Part):
    """Where the learner starts: theta0 ~ p(theta0)."""

    kind: Literal["fixed", "random"] = Field(
        "random", description="one network (its weights are part of the result), or fresh networks at each step"
    )


class InnerSpec(Part):
    """The inner loop: gradient descent on synthesised batches."""

    lr: Positive = Field(0.02, description="inner learning rate that each step starts from")
    learn_lr: bool = Field(True, description="learn one rate for each step, through a softplus")
    jitter: Fraction = Field(
        0.0,
        description="span of a random factor around 1 on the rates while learning; flattens fixed starts",
    )
    momentum: Fraction = Field(0.0, description="inner momentum at the start; 0 is plain gradient descent")
    learn_momentum: bool = Field(False, description="learn the momentum, through a sigmoid")
    objective: str = Field(
        "cross_entropy", description="per-sample inner loss, or an entry point of raystill.objectives"
    )

    @model_validator(mode="after")
    def _momentum_starts_above_zero(self) -> InnerSpec:
        if self.learn_momentum and self.momentum == 0.0:
            raise ValueError("a learned momentum needs inner.momentum above 0 to start from (0.5 is usual)")
        return self


class OuterSpec(Part):
    """The outer loop: an optimiser over the meta-parameters."""

    steps: Count = Field(400, description="outer steps")
    members: Count = Field(4, description="initialisations averaged in each outer step")
    chunk: Count = Field(2, description="members of one work item; members/chunk items are shared by the evaluators")
    delay: Annotated[int, Field(ge=0, le=16)] = Field(
        0,
        description="updates made between a gradient's meta-parameters and its use; 1 hides every wait for the update",
    )
    staleness: Natural | None = Field(
        None,
        description="asynchronous: apply gradients as they come, if at most this many updates late; "
        "none is synchronous, and only that gives the same bits again",
    )
    batch_size: Count = Field(512, description="real images that judge one member")
    batch: Literal["per_member", "shared"] = Field(
        "per_member", description="real minibatch of each member's own, or one for all (Algorithm 1)"
    )
    objective: str = Field(
        "cross_entropy",
        description="per-sample outer loss, or an entry point of raystill.objectives; with a teacher kd, hinton, "
        "logit_matching",
    )
    teacher: Path | None = Field(
        None, description="network that the outer objective asks: a .safetensors of `raystill kd`, on every node"
    )
    temperature: Positive = Field(4.0, description="T of the outer objective, where it has one (outer.teacher)")
    lr: Positive = Field(0.01, description="Adam's rate for images")
    label_lr: Positive = Field(0.01, description="Adam's rate for soft labels")
    rate_lr: Positive = Field(0.01, description="Adam's rate for inner learning rates and momentum")
    beta1: Fraction = Field(0.5, description="Adam's first-moment decay")
    beta2: Fraction = Field(0.999, description="Adam's second-moment decay")
    schedule: Literal["constant", "decay", "cosine"] = Field("cosine", description="course of the outer rates")
    cycles: Annotated[int, Field(ge=1, le=8)] = Field(
        1, description="cosines in a row, each twice as long as the one before (SGDR); good results come early and late"
    )
    warmup: Natural = Field(0, description="outer steps of linear warm-up")
    decay_every: Count = Field(100, description="steps between decays (schedule: decay)")
    decay_factor: Positive = Field(0.5, description="factor of each decay (schedule: decay)")
    final: Fraction = Field(0.02, description="share of the rate left at the end (schedule: cosine)")
    clip: Positive | None = Field(1.0, description="largest norm of the meta-gradient; none does not clip")
    clip_relative: Positive | None = Field(
        None, description="clip each chunk at this multiple of the usual norm of a chunk (unrolls spike); none does not"
    )
    ema: Fraction = Field(0.0, description="decay of the running average that is validated and kept; 0 keeps the last")

    @model_validator(mode="after")
    def _chunks_divide_members(self) -> OuterSpec:
        if self.members % self.chunk:
            raise ValueError(f"outer.members ({self.members}) must be a multiple of outer.chunk ({self.chunk})")
        if self.delay and self.staleness is not None:
            raise ValueError("outer.delay is for synchronous runs and outer.staleness for asynchronous ones; give one")
        return self


class MetaSpec(Part):
    """How the meta-gradient is computed; none of it changes what is computed, but for truncation and precision."""

    sweep: Literal["auto", "reverse", "forward"] = Field(
        "auto", description="reverse-over-reverse or forward-over-reverse"
    )
    stack: Literal["auto", "loop", "vmap"] = Field("auto", description="members one after another, or batched by vmap")
    compile: Literal["auto", "never", "always"] = Field("auto", description="torch.compile of the one-step functions")
    window: Count | None = Field(None, description="differentiate through this many inner steps only")
    window_at: Literal["last", "random"] = Field("last", description="where the window lies (random: RaT-BPTT)")
    chunk: Count = Field(256, description="real images of one piece of the outer pass")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the outer pass's convolutions and products"
    )
    memory: Annotated[ByteSize, Field(gt=0)] | None = Field(
        None,
        description="most that an unroll keeps of its way forward (256MB); the rest is computed again, bit for bit",
    )
    trajectory: Literal["float32", "bfloat16"] = Field(
        "float32", description="of what is kept; bfloat16 takes half and rounds the gradient (docs/long-memory.md)"
    )


class ValidationSpec(Part):
    """Selection on validation data while the run goes on."""

    every: Count = Field(25, description="outer steps between evaluations of the current data")
    networks: Count = Field(4, description="fresh networks per evaluation (random starts)")
    images: Count = Field(2000, description="validation images per evaluation, at most")


class AssessSpec(Part):
    """The one look at test data, and the baselines beside it."""

    networks: Count = Field(20, description="fresh networks for random starts and for baselines")
    baselines: bool = Field(True, description="measure the field's baselines at the same budget")
    candidates: Count = Field(50, description="random real sets tried for the optimised-real baseline")
    architectures: tuple[str, ...] = Field(
        (), description="other learners trained on the distilled data (cross-architecture)"
    )
    cross_networks: Count = Field(5, description="fresh networks for each other architecture")
    seed: Natural = Field(1, description="seed of the networks that are assessed, apart from the run's")


class RunSpec(Part):
    """The run itself: seed, place, workers."""

    seed: Natural = Field(0, description="run seed; every other seed is an address under it")
    name: str | None = Field(None, description="run folder's name; none makes one of the recipe and a number")
    out: Path = Field(Path("runs"), description="folder that run folders are made in")
    workers: Workers | None = Field(
        None,
        description="evaluators; 0 computes in this process, none takes one per GPU or core, 2:64 follows the work",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device of each evaluator")
    storage: str | None = Field(
        None, description="folder or URI (s3://, gs://) that holds the run's checkpoints and a copy of its results"
    )
    checkpoint_every: Count = Field(50, description="outer steps between checkpoints")
    checkpoint_seconds: Positive | None = Field(
        None, description="seconds after which a checkpoint is written all the same; none counts steps alone"
    )
    keep: Count = Field(3, description="checkpoints that are kept")
    cpu_seconds: Positive | None = Field(
        None, description="stop after this many CPU seconds of evaluators; none runs all steps"
    )
    deadline: Positive = Field(600.0, description="longest wait for any one work item, in seconds")
    faults: tuple[str, ...] = Field((), description="faults to inject, for tests: `evaluator 1 at step 3: kill`, ...")
    address: str | None = Field(None, description="Ray cluster to join; else $RAY_ADDRESS; none starts a local one")

    @model_validator(mode="after")
    def _name_is_a_plain_name(self) -> RunSpec:
        _plain("run.name", self.name)
        if self.fleet and self.fleet[0] > self.fleet[1]:
            raise ValueError(f"run.workers: {self.workers} has its least above its most")
        return self

    @property
    def fleet(self) -> tuple[int, int] | None:
        """(least, most) evaluators; None where the machine decides."""
        if self.workers is None or isinstance(self.workers, int):
            return None if self.workers is None else (self.workers, self.workers)
        least, _, most = self.workers.partition(":")
        return int(least), int(most)


class TrackingSpec(Part):
    """MLflow."""

    enabled: bool = Field(True, description="log to MLflow")
    uri: str | None = Field(None, description="tracking store; else $MLFLOW_TRACKING_URI or sqlite:///mlflow.db")
    experiment: str = Field("raystill", description="MLflow experiment")


class DistillSpec(Part):
    """Everything about one distillation."""

    recipe: str | None = Field(None, description="named recipe that this spec started from")
    data: DataSpec = DataSpec()
    learner: LearnerSpec = LearnerSpec()
    synthesizer: SynthesizerSpec = SynthesizerSpec()
    initialisation: InitialisationSpec = InitialisationSpec()
    inner: InnerSpec = InnerSpec()
    outer: OuterSpec = OuterSpec()
    meta: MetaSpec = MetaSpec()
    validation: ValidationSpec = ValidationSpec()
    assess: AssessSpec = AssessSpec()
    run: RunSpec = RunSpec()
    tracking: TrackingSpec = TrackingSpec()

    @model_validator(mode="after")
    def _recipe_is_a_plain_name(self) -> DistillSpec:
        _plain("recipe", self.recipe)  # run folders are named after it
        return self

    @property
    def unroll(self) -> int:
        """Inner steps T of one unroll."""
        return self.synthesizer.steps * self.synthesizer.epochs

    @property
    def identity(self) -> str:
        """sha256 of what the bits of a result depend on; where and by whom it is computed is not among it."""
        # a memory budget changes what is computed twice, and no bit
        told = self.model_dump(mode="json", exclude={"run": True, "tracking": True, "assess": True, "recipe": True,
                                                     "meta": {"memory"}})  # fmt: skip
        return hashlib.sha256(json.dumps({**told, "seed": self.run.seed}, sort_keys=True).encode()).hexdigest()

    def dump(self) -> dict[str, Any]:
        """Plain JSON-able mapping, the form in which specs are saved and sent."""
        return self.model_dump(mode="json")
