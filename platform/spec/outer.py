"""Section `outer`: the optimiser of the meta-parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raystill.platform.spec.section import Count, Fraction, Natural, Part, Positive


class OuterSpec(Part):
    """The outer loop: an optimiser over the meta-parameters."""

    steps: Count = Field(400, description="outer steps")
    members: Count = Field(4, description="initialisations averaged in each outer step; a multiple of chunk")
    chunk: Count = Field(2, description="members in one work item; the evaluators share members / chunk items")
    delay: Annotated[int, Field(ge=0, le=16)] = Field(
        0,
        description="updates between the meta-parameters that a gradient was computed at and its use, 0 to "
        "16; 1 hides every wait for the update",
    )
    staleness: Natural | None = Field(
        None,
        description="asynchronous runs: largest number of updates between a gradient's computation and its "
        "use; none: synchronous, which alone gives the same bits again",
    )
    shards: Count = Field(
        1, description="parameter servers that share the meta-parameters; changes no bit (docs/results/one-server.md)"
    )
    batch_size: Count = Field(512, description="real images in one member's outer loss")
    intermediate_every: Count | None = Field(
        None,
        description="also take the outer loss after each so many inner steps, on real images of its own; "
        "none: only after the last step",
    )
    intermediate_weight: Positive = Field(
        0.3, description="weight of the mean of the intermediate losses; the last loss has weight 1"
    )
    intermediate_size: Count = Field(128, description="real images in each intermediate loss")
    batch: Literal["per_member", "shared"] = Field(
        "per_member",
        description="real minibatch of the outer loss: one per_member, or one shared by all members (Algorithm 1)",
    )
    objective: str = Field(
        "cross_entropy",
        description="outer loss of each real sample: an objective's name, or an entry point of "
        "raystill.objectives; with outer.teacher also kd, hinton, logit_matching",
    )
    teacher: Path | None = Field(
        None,
        description="file of the network whose outputs the outer objective compares with: a .safetensors of "
        "`raystill kd`, on every node",
    )
    teacher_content: str | None = Field(
        None, description="sha256 of the teacher's file; filled in when a run is planned"
    )
    temperature: Positive = Field(
        4.0, description="temperature T of the outer objective, where it has one (outer.teacher)"
    )
    optimiser: str = Field("adam", description="outer optimiser: adam")
    lr: Positive = Field(0.01, description="outer learning rate for images")
    label_lr: Positive = Field(0.01, description="outer learning rate for soft labels")
    rate_lr: Positive = Field(0.01, description="outer learning rate for inner learning rates and momentum")
    beta1: Fraction = Field(0.5, description="Adam's decay of the first moment")
    beta2: Fraction = Field(0.999, description="Adam's decay of the second moment")
    schedule: Literal["constant", "decay", "cosine"] = Field(
        "cosine", description="learning-rate schedule of the outer optimiser"
    )
    cycles: Annotated[int, Field(ge=1, le=8)] = Field(
        1,
        description="number of cosines in a row, each twice as long as the one before (SGDR), 1 to 8 "
        "(schedule: cosine)",
    )
    warmup: Natural = Field(0, description="outer steps of linear warm-up")
    decay_every: Count = Field(100, description="outer steps between decays (schedule: decay)")
    decay_factor: Positive = Field(0.5, description="factor on the rates at each decay (schedule: decay)")
    final: Fraction = Field(0.02, description="share of the rates left at the end (schedule: cosine)")
    clip: Positive | None = Field(1.0, description="largest norm of the meta-gradient; none: no clipping")
    clip_relative: Positive | None = Field(
        None,
        description="adaptive clipping: largest norm of a chunk's gradient, as a multiple of the usual norm "
        "of a chunk; none: no clipping",
    )
    rollbacks: Annotated[int, Field(ge=0, le=9)] = Field(
        0,
        description="how often a diverged run may go back to an earlier state and go on with halved rates and "
        "other draws, 0 to 9; 0: it stops",
    )
    rollback_to: Count = Field(
        100, description="outer steps between states to go back to; a rollback takes the older of the last two"
    )
    diverged: Positive | None = Field(
        None, description="outer loss above which a run counts as diverged; none: only a loss that is not finite"
    )
    ema: Fraction = Field(
        0.0,
        description="decay of the running average of the meta-parameters that is validated and saved; 0: none",
    )

    @model_validator(mode="after")
    def _chunks_divide_members(self) -> OuterSpec:
        if self.members % self.chunk:
            raise ValueError(f"outer.members ({self.members}) must be a multiple of outer.chunk ({self.chunk})")
        if self.delay and self.staleness is not None:
            raise ValueError("outer.delay is for synchronous runs and outer.staleness for asynchronous ones; give one")
        return self
