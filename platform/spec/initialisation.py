"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from raystill.platform.spec.section import Natural, Part


class InitialisationSpec(Part):
    """Where the learner starts: theta0 ~ p(theta0)."""

    kind: str = Field(
        "random",
        description="random: fresh networks at each step; fixed: one network, whose weights are part of the result; "
        "pool: networks of a pool that `raystill pretrain` made; pretrained: one pre-trained network; or an entry "
        "point of raystill.initialisations",
    )
    path: Path | None = Field(None, description="pool's folder; for pretrained also a safetensors file of weights")
    member: Natural = Field(0, description="which network of the pool's train part is the one (pretrained)")
    content: str | None = Field(None, description="sha256 of what the path holds; filled in as a run is planned")
    single: bool | None = Field(None, description="whether all networks start from one; filled in as a run is planned")


class DonorSpec(Part):
    """A state of another run that this one goes on from, with values of its own."""

    checkpoint: str | None = Field(
        None,
        description="checkpoint whose state, step and best data the run takes over: RUN/checkpoints/step-..., a folder "
        "or URI; none begins anew",
    )
    step: Natural | None = Field(None, description="its outer step; filled in as a run is planned")
    content: str | None = Field(None, description="sha256 of what it holds; filled in as a run is planned")
