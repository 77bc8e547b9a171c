"""The spec of an architecture search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raystill.platform.spec import DataSpec, RunSpec, TrackingSpec
from raystill.platform.spec.section import Count, Part, Positive

Ranked = Literal["combined", "curriculum", "real", "parameters", "flops", "grad_norm", "snip", "synflow", "naswot"]


class NasSpec(Part):
    """A search for an architecture."""

    space: str = Field(
        "macro", description="macro, cell or enas; cell@c16n3 and enas@c16n3 for another scale (docs/spaces.md)"
    )
    searcher: Literal["random", "evolution", "tpe"] = Field("evolution", description="who asks for architectures")
    candidates: Count = Field(500, description="architectures that are scored")
    generation: Count = Field(50, description="architectures asked for at a time; results are told in their order")
    ranker: Ranked = Field(
        "combined", description="what scores them; combined: the curriculum, else real data, with three free proxies"
    )
    curriculum: str | None = Field(
        "auto",
        description="run or artefact whose data scores them, or recipe:NAME to distil first; auto takes the recipe of "
        "a generator that teaches this space on these data, where there is one; none is real data",
    )
    networks: Count = Field(1, description="initialisations averaged in a score")
    steps: Count = Field(64, description="minibatches of a score by real data")
    batch: Count = Field(64, description="real images of each of them")
    lr: Positive = Field(0.05, description="first rate of real data's cosine")
    images: Count = Field(2000, description="validation images of each judgement, at most")
    retrain: Count = Field(5, description="best architectures by score that are trained on real data")
    retrain_by: Literal["evaluators", "asha"] = Field(
        "evaluators",
        description="evaluators: each to its end, the same result every time; asha: Ray Tune stops poor ones early",
    )
    retrain_steps: Count | None = Field(
        None,
        description="minibatches of each (64 images, cosine); none: as in the ground truth of this space and data",
    )
    retrain_lr: Positive | None = Field(None, description="first rate of each; none: likewise")
    data: DataSpec = DataSpec()
    run: RunSpec = RunSpec()
    tracking: TrackingSpec = TrackingSpec()
