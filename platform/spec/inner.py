"""Section `inner`: how a network trains on the synthesised data."""

from __future__ import annotations

from pydantic import Field, model_validator

from raystill.platform.spec.section import Fraction, Part, Positive


class InnerSpec(Part):
    """The inner loop: gradient descent on synthesised batches."""

    lr: Positive = Field(0.02, description="first value of the inner learning rates")
    learn_lr: bool = Field(
        True, description="learn a rate for each inner step (through a softplus, so that it stays positive)"
    )
    jitter: Fraction = Field(
        0.0,
        description="while learning, multiply the rates by a random factor from 1 - jitter/2 to 1 + jitter/2",
    )
    momentum: Fraction = Field(
        0.0, description="inner momentum, or its first value where it is learned; 0: plain gradient descent"
    )
    learn_momentum: bool = Field(False, description="learn the momentum (through a sigmoid)")
    optimiser: str = Field(
        "auto",
        description="auto: momentum where inner.momentum is not 0, else sgd; sgd; momentum; or an entry point "
        "of raystill.inner_optimisers",
    )
    objective: str = Field(
        "cross_entropy",
        description="loss of each synthesised sample: an objective's name, or an entry point of raystill.objectives",
    )

    @model_validator(mode="after")
    def _momentum_starts_above_zero(self) -> InnerSpec:
        if self.learn_momentum and self.momentum == 0.0:
            raise ValueError("a learned momentum needs inner.momentum above 0 to start from (0.5 is usual)")
        return self
