"""Sections `initialisation` and `donor`: the weights and the state that a run starts from."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from raystill.platform.spec.section import Natural, Part


class InitialisationSpec(Part):
    """The distribution of the first weights: theta0 ~ p(theta0)."""

    kind: str = Field(
        "random",
        description="first weights of the networks: random: fresh at each step; fixed: one set of weights, "
        "which is part of the result; pool: networks of a folder made by `raystill pretrain`; "
        "pretrained: one of them, or a file; or an entry point of raystill.initialisations",
    )
    path: Path | None = Field(None, description="the pool's folder; for pretrained also a safetensors file of weights")
    member: Natural = Field(0, description="index of the network in the pool's train part (pretrained)")
    content: str | None = Field(None, description="sha256 of the content of path; filled in when a run is planned")
    single: bool | None = Field(
        None, description="whether all networks start from the same weights; filled in when a run is planned"
    )


class DonorSpec(Part):
    """The checkpoint of another run that this run continues from, with its own settings."""

    checkpoint: str | None = Field(
        None,
        description="checkpoint of another run, whose state, outer step and best data this run takes over: "
        "RUN/checkpoints/step-..., a folder or URI; none: start anew",
    )
    step: Natural | None = Field(None, description="outer step of that checkpoint; filled in when a run is planned")
    content: str | None = Field(None, description="sha256 of that checkpoint; filled in when a run is planned")
