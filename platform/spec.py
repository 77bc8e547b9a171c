"""Typed, frozen experiment specs: one per command, each part owned by the noun that it configures.

A spec says everything about a run; what it leaves to `auto` is resolved once and written back, so that the saved spec
makes the run again. Unknown keys are errors that name the nearest valid key. The sections of the method itself are in
`method.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from raystill.platform.method import (
    DataSpec,
    DonorSpec,
    InitialisationSpec,
    InnerSpec,
    LearnerSpec,
    MetaSpec,
    OuterSpec,
    SynthesizerSpec,
)
from raystill.platform.parts import Count, Natural, NoneOf, Part, Positive, Workers, digest, plain_name


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
    architectures: Annotated[tuple[str, ...], NoneOf] = Field(
        (), description="other learners trained on the distilled data (cross-architecture)"
    )
    bits: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None, description="also measure the distilled images at so many bits a value, as `raystill export` stores them"
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
    faults: Annotated[tuple[str, ...], NoneOf] = Field(
        (), description="faults to inject, for tests: `evaluator 1 at step 3: kill`, ..."
    )
    address: str | None = Field(None, description="Ray cluster to join; else $RAY_ADDRESS; none starts a local one")

    @model_validator(mode="after")
    def _name_is_a_plain_name(self) -> RunSpec:
        plain_name("run.name", self.name)
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


class PretrainSpec(Part):
    """Everything about a pool of pre-trained networks."""

    data: DataSpec = DataSpec()
    learner: LearnerSpec = LearnerSpec()
    members: Count = Field(100, description="networks of the train part")
    held_out: Count = Field(20, description="networks of each of the parts validation and test")
    epochs: Count = Field(3, description="passes over the training data, by SGD with momentum 0.9")
    lr: Positive = Field(0.01, description="its rate at the start; it falls to 0 along a cosine")
    run: RunSpec = RunSpec(out=Path("pools"))

    @property
    def distillation(self) -> DistillSpec:
        """What evaluators are built from: the same data and network, from random weights."""
        return DistillSpec(data=self.data, learner=self.learner, run=self.run, tracking=TrackingSpec(enabled=False))

    def dump(self) -> dict[str, Any]:
        """Plain JSON-able mapping, the form in which specs are saved."""
        return self.model_dump(mode="json")

    @property
    def identity(self) -> str:
        """sha256 of what the weights depend on; how many there are is not among it, so that a pool can grow."""
        told = self.model_dump(mode="json", include={"data", "learner", "epochs", "lr"})
        return digest({**told, "seed": self.run.seed})


class DistillSpec(Part):
    """Everything about one distillation."""

    recipe: str | None = Field(None, description="named recipe that this spec started from")
    data: DataSpec = DataSpec()
    learner: LearnerSpec = LearnerSpec()
    synthesizer: SynthesizerSpec = SynthesizerSpec()
    initialisation: InitialisationSpec = InitialisationSpec()
    donor: DonorSpec = DonorSpec()
    inner: InnerSpec = InnerSpec()
    outer: OuterSpec = OuterSpec()
    meta: MetaSpec = MetaSpec()
    validation: ValidationSpec = ValidationSpec()
    assess: AssessSpec = AssessSpec()
    run: RunSpec = RunSpec()
    tracking: TrackingSpec = TrackingSpec()

    @model_validator(mode="after")
    def _recipe_is_a_plain_name(self) -> DistillSpec:
        plain_name("recipe", self.recipe)  # run folders are named after it
        return self

    @model_validator(mode="after")
    def _judged_within_the_unroll(self) -> DistillSpec:
        if self.outer.between is not None and self.outer.between >= self.unroll:
            raise ValueError(
                f"outer.between ({self.outer.between}) must be below the {self.unroll} inner steps of "
                "synthesizer.steps x synthesizer.epochs; or none"
            )
        return self

    @property
    def unroll(self) -> int:
        """Inner steps T of one unroll."""
        return self.synthesizer.steps * self.synthesizer.epochs

    @property
    def identity(self) -> str:
        """sha256 of what the bits of a result depend on; where and by whom it is computed is not among it."""
        # a memory budget changes what is computed twice, shards change where, and neither a bit
        told = self.model_dump(mode="json", exclude={"run": True, "tracking": True, "assess": True, "recipe": True,
                                                     "meta": {"memory"}, "outer": {"shards"},
                                                     "initialisation": {"path"}, "donor": {"checkpoint"}})  # fmt: skip
        if self.donor.content is None:  # so that a run that begins anew is the one that it always was
            del told["donor"]
        content = told["outer"].pop("teacher_content")
        if content is not None:  # the file is known by what it holds, wherever it lies
            told["outer"]["teacher"] = content
        return digest({**told, "seed": self.run.seed})

    def dump(self) -> dict[str, Any]:
        """Plain JSON-able mapping, the form in which specs are saved and sent."""
        return self.model_dump(mode="json")
