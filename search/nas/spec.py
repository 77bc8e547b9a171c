"""The spec of an architecture search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raystill.platform.spec import DataSpec, RunSpec, TrackingSpec
from raystill.platform.spec.section import Count, Part, Positive


class NasSpec(Part):
    """A search for an architecture."""

    space: str = Field(
        "macro", description="macro, cell or enas; cell@c16n3 and enas@c16n3 for another scale (docs/guides/spaces.md)"
    )
    searcher: Literal["random", "evolution", "tpe"] = Field("evolution", description="proposes architectures")
    candidates: Count = Field(500, description="architectures to score")
    generation: Count = Field(50, description="architectures proposed at a time, before the searcher sees scores")
    ranker: str = Field(
        "combined",
        description="scores architectures: curriculum, real, parameters, flops, grad_norm, snip, synflow, naswot, or a "
        "plug-in's; combined: the curriculum, or else real data, together with three free proxies",
    )
    curriculum: str | None = Field(
        "auto",
        description="run or artefact to train candidates with, or recipe:NAME to distil one first; auto takes the "
        "recipe of a generator for this space and data, where there is one; none trains on real data",
    )
    networks: Count = Field(1, description="initialisations averaged in a score")
    steps: Count = Field(64, description="minibatches of a score by real data")
    batch: Count = Field(64, description="images of each of them")
    lr: Positive = Field(0.05, description="their initial learning rate, on a cosine to zero")
    images: Count = Field(2000, description="most validation images that measure an accuracy")
    retrain: Count = Field(5, description="best architectures by score to train on real data")
    retrain_by: Literal["evaluators", "asha"] = Field(
        "evaluators",
        description="evaluators: each to its end, the same result every time; asha: Ray Tune stops poor ones early",
    )
    retrain_steps: Count | None = Field(
        None, description="minibatches of each (64 images, cosine); none: as in the ground truth of this space and data"
    )
    retrain_lr: Positive | None = Field(None, description="initial learning rate of each; none: likewise")
    data: DataSpec = DataSpec()
    run: RunSpec = RunSpec()
    tracking: TrackingSpec = TrackingSpec()
