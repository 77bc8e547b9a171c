"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raystill.platform.spec.section import Count, Fraction, Natural, Part, Positive


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
    shards: Count = Field(
        1, description="parameter servers that the meta-parameters are cut among; changes no bit (docs/scaling.md)"
    )
    batch_size: Count = Field(512, description="real images of one member's outer loss")
    intermediate_every: Count | None = Field(
        None,
        description="add the outer loss after each this many inner steps, on real images of its own; none does not",
    )
    intermediate_weight: Positive = Field(0.3, description="weight of the mean of these losses beside the last one's 1")
    intermediate_size: Count = Field(128, description="real images of each of these losses")
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
    teacher_content: str | None = Field(None, description="sha256 of the teacher's file; filled in as a run is planned")
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
    rollbacks: Annotated[int, Field(ge=0, le=9)] = Field(
        0, description="times that a diverged run goes back, to learn on at half the rates from other draws; 0 stops it"
    )
    rollback_to: Count = Field(
        100, description="steps between the states that are kept to go back to; the older of the last two is taken"
    )
    diverged: Positive | None = Field(
        None, description="meta-loss above which a step has diverged; none calls only what is not finite so"
    )
    ema: Fraction = Field(0.0, description="decay of the running average that is validated and kept; 0 keeps the last")

    @model_validator(mode="after")
    def _chunks_divide_members(self) -> OuterSpec:
        if self.members % self.chunk:
            raise ValueError(f"outer.members ({self.members}) must be a multiple of outer.chunk ({self.chunk})")
        if self.delay and self.staleness is not None:
            raise ValueError("outer.delay is for synchronous runs and outer.staleness for asynchronous ones; give one")
        return self
