"""Section `meta`: how the meta-gradient is computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ByteSize, Field

from raystill.platform.spec.section import Count, Part


class MetaSpec(Part):
    """How the meta-gradient is computed; only truncation and number formats change its value."""

    estimator: str = Field(
        "unroll", description="how the meta-gradient is computed: unroll, or an entry point of raystill.estimators"
    )
    mode: Literal["auto", "reverse", "forward"] = Field(
        "auto", description="unroll: reverse-over-reverse or forward-over-reverse differentiation; auto: reverse"
    )
    stack: Literal["auto", "loop", "vmap"] = Field(
        "auto",
        description="members one after another (loop) or batched (vmap); auto: vmap on a GPU, unless networks "
        "are drawn (learner.draw)",
    )
    compile: Literal["auto", "never", "always"] = Field(
        "auto", description="torch.compile of one inner step; auto: never"
    )
    window: Count | None = Field(None, description="number of inner steps to differentiate through; none: all")
    window_at: Literal["last", "random"] = Field(
        "last", description="position of the window: the last steps, or random ones (RaT-BPTT)"
    )
    chunk: Count = Field(256, description="real images in one piece of the outer loss; bounds the memory")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of the convolutions and products in the outer loss"
    )
    memory: Annotated[ByteSize, Field(gt=0)] | None = Field(
        None,
        description="most bytes that an unroll keeps of its forward pass, such as 256MB; the rest is computed "
        "again, to the same bits; none: keep all",
    )
    trajectory: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="number format of the kept forward pass; bfloat16 takes half the memory and rounds the "
        "gradient (docs/guides/long-memory.md)",
    )
