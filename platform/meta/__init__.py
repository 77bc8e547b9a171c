"""The meta-gradient engine: pure functions of flat parameters."""

from raystill.platform.meta.engine import GRAPH_BYTES, Engine, make_engine
from raystill.platform.meta.outer_loss import judge, stacked_judge
from raystill.platform.meta.unroll import Steps, Sweep, train, unroll, unrolled_loss

__all__ = [
    "GRAPH_BYTES",
    "Engine",
    "Steps",
    "Sweep",
    "judge",
    "make_engine",
    "stacked_judge",
    "train",
    "unroll",
    "unrolled_loss",
]
