"""Sections `run` and `tracking`: where and by which processes a run is computed, and where it is logged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from raystill.platform.spec.section import Count, Natural, NoneOf, Part, Positive, Workers, plain_name


class RunSpec(Part):
    """The run: its seed, its folder, its evaluators."""

    seed: Natural = Field(0, description="seed that all random numbers of the run are derived from")
    name: str | None = Field(None, description="name of the run's folder; none: the recipe's name and a number")
    out: Path = Field(Path("runs"), description="folder of the run folders")
    workers: Workers | None = Field(
        None,
        description="number of evaluators; 0: compute in this process; 2:64: between 2 and 64, as work "
        "demands; none: one per GPU, or per core",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device of each evaluator; auto: cuda where there is a GPU"
    )
    storage: str | None = Field(
        None,
        description="folder or URI (s3://, gs://) for the run's checkpoints and a copy of its results; none: "
        "the run's folder alone",
    )
    checkpoint_every: Count = Field(50, description="outer steps between checkpoints")
    checkpoint_seconds: Positive | None = Field(
        None, description="longest time between checkpoints, in seconds; none: outer steps alone decide"
    )
    keep: Count = Field(3, description="number of checkpoints that stay; older ones are deleted")
    cpu_seconds: Positive | None = Field(
        None, description="stop after this many CPU seconds of all evaluators together; none: run all steps"
    )
    deadline: Positive = Field(600.0, description="longest wait for one work item, in seconds")
    faults: Annotated[tuple[str, ...], NoneOf] = Field(
        (), description="faults to inject in tests, such as `evaluator 1 at step 3: kill`"
    )
    address: str | None = Field(
        None, description="address of the Ray cluster to join; none: $RAY_ADDRESS, or else a local cluster"
    )

    @model_validator(mode="after")
    def _name_is_a_plain_name(self) -> RunSpec:
        plain_name("run.name", self.name)
        if self.fleet and self.fleet[0] > self.fleet[1]:
            raise ValueError(f"run.workers: {self.workers}: the first number is above the second; write LEAST:MOST")
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
    uri: str | None = Field(
        None, description="MLflow's tracking store; none: $MLFLOW_TRACKING_URI, or else sqlite:///mlflow.db"
    )
    experiment: str = Field("raystill", description="name of the MLflow experiment")
