"""The whole spec of `raystill distill` and of `raystill pretrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from raystill.platform.files.digests import digest
from raystill.platform.spec.assess import AssessSpec, ValidationSpec
from raystill.platform.spec.data import DataSpec
from raystill.platform.spec.initialisation import DonorSpec, InitialisationSpec
from raystill.platform.spec.inner import InnerSpec
from raystill.platform.spec.learner import LearnerSpec
from raystill.platform.spec.meta import MetaSpec
from raystill.platform.spec.outer import OuterSpec
from raystill.platform.spec.run import RunSpec, TrackingSpec
from raystill.platform.spec.section import Count, Part, Positive, plain_name
from raystill.platform.spec.synthesizer import SynthesizerSpec


class PretrainSpec(Part):
    """Everything about a pool of pre-trained networks."""

    data: DataSpec = DataSpec()
    learner: LearnerSpec = LearnerSpec()
    members: Count = Field(100, description="networks of the train part")
    held_out: Count = Field(20, description="networks of each of the parts validation and test")
    epochs: Count = Field(3, description="passes over the training data, by SGD with momentum 0.9")
    lr: Positive = Field(0.01, description="first learning rate; it falls to 0 along a cosine")
    run: RunSpec = RunSpec(out=Path("pools"))

    @property
    def distillation(self) -> DistillSpec:
        """The spec that evaluators are built from: the same data and network, from random weights."""
        return DistillSpec(data=self.data, learner=self.learner, run=self.run, tracking=TrackingSpec(enabled=False))

    def dump(self) -> dict[str, Any]:
        """Plain JSON-able mapping, the form in which specs are saved."""
        return self.model_dump(mode="json")

    @property
    def identity(self) -> str:
        """sha256 of the fields that the weights depend on; without the number of networks, so that a pool can grow."""
        method = self.model_dump(mode="json", include={"learner", "epochs", "lr"})
        return digest({**method, "data": self.data.identity, "seed": self.run.seed})


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
    def _intermediate_losses_are_within_the_unroll(self) -> DistillSpec:
        if self.outer.intermediate_every is not None and self.outer.intermediate_every >= self.unroll:
            raise ValueError(
                f"outer.intermediate_every ({self.outer.intermediate_every}) must be below the {self.unroll} inner "
                "steps of synthesizer.steps x synthesizer.epochs; or none"
            )
        return self

    @property
    def unroll(self) -> int:
        """Inner steps T of one unroll."""
        return self.synthesizer.steps * self.synthesizer.epochs

    @property
    def identity(self) -> str:
        """sha256 of the fields that the bits of a result depend on; no place and no number of processes is among them.

        A planned spec identifies files by their content, not by their path.
        """
        # a memory budget changes which steps are computed twice, shards change where; neither changes a bit
        method = self.model_dump(mode="json", exclude={
            "run": True, "tracking": True, "assess": True, "recipe": True, "data": True, "meta": {"memory"},
            "outer": {"shards", "teacher"}, "initialisation": {"path"}, "donor": {"checkpoint"},
        })  # fmt: skip
        return digest({**method, "data": self.data.identity, "seed": self.run.seed})

    def dump(self) -> dict[str, Any]:
        """Plain JSON-able mapping, the form in which specs are saved and sent."""
        return self.model_dump(mode="json")
