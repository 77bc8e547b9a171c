"""The spec of a rank card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from raystill.platform.spec import RunSpec
from raystill.platform.spec.section import Count, Natural, Part, Positive


class CardSpec(Part):
    """How well rankers order a ground truth."""

    level: str = Field("mnist", description="ground truth: mnist, cifar, cells or digits (docs/guides/search.md)")
    truth: Path | None = Field(None, description="its Parquet file; none takes benchmarks/data/truth-LEVEL.parquet")
    curriculum: tuple[str, ...] = Field((), description="runs or artefacts to score by; the first is compared")
    untrained: str | None = Field(None, description="artefact of the untrained generator")
    also: tuple[str, ...] = Field((), description="more to score by, each NAME=RUN, a row under its name")
    meta_seconds: Positive | None = Field(None, description="CPU seconds that the first curriculum's training took")
    equal_seconds: bool = Field(
        False, description="also rank by real data for as many CPU seconds as the curriculum took, meta_seconds counted"
    )
    networks: Count = Field(3, description="initialisations of the averaged row")
    resamples: Annotated[int, Field(ge=100, le=100_000)] = Field(2000, description="resamples of the bootstrap")
    seed: Natural = Field(1000, description="seed of the rankers' networks, apart from the ground truth's")
    run: RunSpec = RunSpec()
