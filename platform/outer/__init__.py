"""The outer loop as pure functions: reduce gradients in a fixed order, then one optimiser step."""

from raystill.platform.outer.schedules import schedule
from raystill.platform.outer.step import (
    Applied,
    Arrays,
    OuterState,
    adaptive_clipping,
    apply,
    init,
    norm_of,
    reduce,
    slowed,
)

__all__ = [
    "Applied",
    "Arrays",
    "OuterState",
    "adaptive_clipping",
    "apply",
    "init",
    "norm_of",
    "reduce",
    "schedule",
    "slowed",
]
