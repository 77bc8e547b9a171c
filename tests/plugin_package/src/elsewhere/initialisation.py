"""Fresh networks whose weights are all multiplied by one number."""

from __future__ import annotations

from torch import Tensor

from raystill.platform.initialisation.starts import Start, fresh
from raystill.platform.learners import Learner
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec


def scaled(spec: DistillSpec, factor: float = 0.5) -> Start:
    """`factor` times a fresh network's weights.

    Raises:
        ValueError: a factor that is not above zero.
    """
    if factor <= 0:
        raise ValueError(f"initialisation.kind: factor ({factor}) must be above 0")

    def start(learner: Learner, address: Address) -> Tensor:
        return factor * fresh(learner, address)

    return start
