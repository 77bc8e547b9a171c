"""The meta-gradient engine: pure functions of flat parameters."""

from raystill.platform.meta.engine import GRAPH_BYTES, Engine, make_engine
from raystill.platform.meta.optimisers import Optimiser, differentiated
from raystill.platform.meta.outer_losses import outer_loss, stacked_outer_loss
from raystill.platform.meta.unroll import MetaGradient, Steps, train, unroll, unrolled_loss

__all__ = [
    "GRAPH_BYTES",
    "Engine",
    "MetaGradient",
    "Optimiser",
    "Steps",
    "differentiated",
    "make_engine",
    "outer_loss",
    "stacked_outer_loss",
    "train",
    "unroll",
    "unrolled_loss",
]
