"""Typed specs of searches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from raystill.platform.spec import DataSpec, DistillSpec, InnerSpec, LearnerSpec
from raystill.platform.spec import RunSpec as Run
from raystill.platform.spec import TrackingSpec as Tracking
from raystill.platform.spec.section import Count, Natural, Part, Positive

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
    finalists: Count = Field(5, description="best architectures by score that are trained on real data")
    finals: Literal["all", "asha"] = Field(
        "all", description="all: each to its end, the same again every time; asha: by Ray Tune, laggards are stopped"
    )
    final_steps: Count | None = Field(
        None,
        description="minibatches of a finalist (64 images, cosine); none: as the ground truth of space and data",
    )
    final_lr: Positive | None = Field(None, description="first rate of a finalist; none: likewise")
    data: DataSpec = DataSpec()
    run: Run = Run()
    tracking: Tracking = Tracking()


class CardSpec(Part):
    """How well rankers order a ground truth."""

    level: str = Field("mnist", description="ground truth: mnist, cifar, cells or digits (docs/search.md)")
    truth: Path | None = Field(None, description="its Parquet file; else benchmarks/data/truth-LEVEL.parquet")
    curriculum: tuple[str, ...] = Field((), description="runs or artefacts to score by; the first is the one compared")
    untrained: str | None = Field(None, description="artefact of the untrained generator")
    also: tuple[str, ...] = Field((), description="more to score by, each NAME=RUN, a row under its name")
    meta_seconds: Positive | None = Field(None, description="CPU seconds that the first curriculum's training took")
    equal_seconds: bool = Field(
        False, description="also rank by real data for as many CPU seconds as the curriculum took, meta_seconds counted"
    )
    networks: Count = Field(3, description="initialisations of the averaged row")
    resamples: Annotated[int, Field(ge=100, le=100_000)] = Field(2000, description="of the bootstrap")
    seed: Natural = Field(1000, description="of the rankers' networks, apart from the ground truth's")
    run: Run = Run()


def carrier(data: DataSpec, run: Run, tracking: Tracking, objective: str = "cross_entropy") -> DistillSpec:
    """The spec that evaluators of a search are built from; of its learner and images nothing is used."""
    learner = LearnerSpec(name="linear")
    return DistillSpec(data=data, learner=learner, inner=InnerSpec(objective=objective), run=run, tracking=tracking)
