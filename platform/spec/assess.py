"""Sections `validation` and `assess`: how the distilled data are evaluated."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raystill.platform.spec.section import Count, Natural, NoneOf, Part


class ValidationSpec(Part):
    """Selection on validation data during the run."""

    every: Count = Field(25, description="outer steps between evaluations of the current data")
    networks: Count = Field(4, description="fresh networks in each evaluation (random starts)")
    images: Count = Field(2000, description="largest number of validation images in an evaluation")


class AssessSpec(Part):
    """The assessment on test data, and the baselines beside it."""

    networks: Count = Field(20, description="fresh networks for random starts and for the baselines")
    baselines: bool = Field(True, description="evaluate the field's baselines at the same budget")
    candidates: Count = Field(50, description="random real sets tried for the baseline that picks the best of them")
    architectures: Annotated[tuple[str, ...], NoneOf] = Field(
        (), description="further learners to train on the distilled data (cross-architecture)"
    )
    bits: Annotated[int, Field(ge=1, le=8)] | None = Field(
        None,
        description="also evaluate the distilled images at 1 to 8 bits a value, as `raystill export` stores "
        "them; none: do not",
    )
    cross_networks: Count = Field(5, description="fresh networks of each further learner")
    seed: Natural = Field(1, description="seed of the assessed networks; independent of run.seed")
