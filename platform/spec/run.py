"""Typed, frozen experiment specs: one per command, each part owned by the noun that it configures.

A spec says everything about a run; what it leaves to `auto` is resolved once and written back, so that the saved spec
makes the run again. Unknown keys are errors that name the nearest valid key. The sections of the method itself are in
`method.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raystill.platform.spec.section import Count, Natural, NoneOf, Part, Positive, Workers, plain_name


class RunSpec(Part):
    """The run itself: seed, place, workers."""

    seed: Natural = Field(0, description="run seed; every other seed is an address under it")
    name: str | None = Field(None, description="run folder's name; none makes one of the recipe and a number")
    out: Path = Field(Path("runs"), description="folder that run folders are made in")
    workers: Workers | None = Field(
        None,
        description="evaluators; 0 computes in this process, none takes one per GPU or core, 2:64 follows the work",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device of each evaluator")
    storage: str | None = Field(
        None, description="folder or URI (s3://, gs://) that holds the run's checkpoints and a copy of its results"
    )
    checkpoint_every: Count = Field(50, description="outer steps between checkpoints")
    checkpoint_seconds: Positive | None = Field(
        None, description="seconds after which a checkpoint is written all the same; none counts steps alone"
    )
    keep: Count = Field(3, description="checkpoints that are kept")
    cpu_seconds: Positive | None = Field(
        None, description="stop after this many CPU seconds of evaluators; none runs all steps"
    )
    deadline: Positive = Field(600.0, description="longest wait for any one work item, in seconds")
    faults: Annotated[tuple[str, ...], NoneOf] = Field(
        (), description="faults to inject, for tests: `evaluator 1 at step 3: kill`, ..."
    )
    address: str | None = Field(None, description="Ray cluster to join; else $RAY_ADDRESS; none starts a local one")

    @model_validator(mode="after")
    def _name_is_a_plain_name(self) -> RunSpec:
        plain_name("run.name", self.name)
        if self.fleet and self.fleet[0] > self.fleet[1]:
            raise ValueError(f"run.workers: {self.workers} has its least above its most")
        return self

    @property
    def fleet(self) -> tuple[int, int] | None:
        """(least, most) evaluators; None where the machine decides."""
        if self.workers is None or isinstance(self.workers, int):
            return None if self.workers is None else (self.workers, self.workers)
        least, _, most = self.workers.partition(":")
        return int(least), int(most)


class TrackingSpec(Part):
    """MLflow."""

    enabled: bool = Field(True, description="log to MLflow")
    uri: str | None = Field(None, description="tracking store; else $MLFLOW_TRACKING_URI or sqlite:///mlflow.db")
    experiment: str = Field("raystill", description="MLflow experiment")
