"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from raystill.platform.spec.section import Natural, Part


class InitialisationSpec(Part):
    """Where the learner starts: theta0 ~ p(theta0)."""

    kind: Literal["fixed", "random", "pool", "pretrained"] = Field(
        "random",
        description="one network (its weights are part of the result), fresh networks at each step, networks of a pool "
        "that `raystill pretrain` made, or one pre-trained network",
    )
    path: Path | None = Field(None, description="pool's folder; for pretrained also a safetensors file of weights")
    member: Natural = Field(0, description="which network of the pool's train part is the one (pretrained)")
    content: str | None = Field(None, description="sha256 of what the path holds; filled in as a run is planned")

    @property
    def single(self) -> bool:
        """Whether there is one starting network, whose weights are part of the result."""
        return self.kind in ("fixed", "pretrained")

    @model_validator(mode="after")
    def _path_where_it_is_read(self) -> InitialisationSpec:
        if (self.path is not None) != (self.kind in ("pool", "pretrained")):
            need = "needs" if self.path is None else "takes no"
            raise ValueError(f"initialisation.kind: {self.kind} {need} initialisation.path")
        return self


class DonorSpec(Part):
    """A state of another run that this one goes on from, with values of its own."""

    checkpoint: str | None = Field(
        None,
        description="checkpoint whose state, step and best data the run takes over: RUN/checkpoints/step-..., a folder "
        "or URI; none begins anew",
    )
    step: Natural | None = Field(None, description="its outer step; filled in as a run is planned")
    content: str | None = Field(None, description="sha256 of what it holds; filled in as a run is planned")
