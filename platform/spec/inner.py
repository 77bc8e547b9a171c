"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from raystill.platform.spec.section import Fraction, Part, Positive


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
    optimiser: str = Field(
        "auto",
        description="auto (momentum where there is one), sgd, momentum, or an entry point of raystill.inner_optimisers",
    )
    objective: str = Field(
        "cross_entropy", description="per-sample inner loss, or an entry point of raystill.objectives"
    )

    @model_validator(mode="after")
    def _momentum_starts_above_zero(self) -> InnerSpec:
        if self.learn_momentum and self.momentum == 0.0:
            raise ValueError("a learned momentum needs inner.momentum above 0 to start from (0.5 is usual)")
        return self
