"""Typed, frozen experiment specs: one per command, each part owned by the noun that it configures.

A spec says everything about a run; what it leaves to `auto` is resolved once and written back, so that the saved spec
makes the run again. Unknown keys are errors that name the nearest valid key. The sections of the method itself are in
`method.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raystill.platform.spec.section import Count, Natural, NoneOf, Part


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
