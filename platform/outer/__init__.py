"""The outer loop as pure functions: reduce gradients in a fixed order, then one optimiser step."""

from raystill.platform.outer.step import (
    Applied,
    Arrays,
    OuterState,
    apply,
    begin,
    factor,
    norm_of,
    reduce,
    slowed,
    tame,
)

__all__ = ["Applied", "Arrays", "OuterState", "apply", "begin", "factor", "norm_of", "reduce", "slowed", "tame"]
