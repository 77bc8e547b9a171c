"""The method, as sections of a spec: data, learner, synthesizer, start, inner and outer loop, meta-gradient.

What the bits of a result depend on is said here; what a run is beside that, in `spec.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ByteSize, Field

from raystill.platform.spec.section import Count, Part


class MetaSpec(Part):
    """How the meta-gradient is computed; none of it changes what is computed, but for truncation and precision."""

    estimator: str = Field(
        "unroll", description="how the meta-gradient is made: unroll, or an entry point of raystill.estimators"
    )
    mode: Literal["auto", "reverse", "forward"] = Field(
        "auto", description="reverse-over-reverse or forward-over-reverse"
    )
    stack: Literal["auto", "loop", "vmap"] = Field("auto", description="members one after another, or batched by vmap")
    compile: Literal["auto", "never", "always"] = Field("auto", description="torch.compile of the one-step functions")
    window: Count | None = Field(None, description="differentiate through this many inner steps only")
    window_at: Literal["last", "random"] = Field("last", description="where the window lies (random: RaT-BPTT)")
    chunk: Count = Field(256, description="real images of one piece of the outer pass")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the outer pass's convolutions and products"
    )
    memory: Annotated[ByteSize, Field(gt=0)] | None = Field(
        None,
        description="most that an unroll keeps of its way forward (256MB); the rest is computed again, bit for bit",
    )
    trajectory: Literal["float32", "bfloat16"] = Field(
        "float32", description="of what is kept; bfloat16 takes half and rounds the gradient (docs/long-memory.md)"
    )
