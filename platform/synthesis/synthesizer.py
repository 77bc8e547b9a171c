"""What a synthesizer is: where its meta-parameters start, and how they become the batches of an unroll."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from raystill.platform.data import DataSet
from raystill.platform.meta import Steps
from raystill.platform.seeds import Address

Meta = dict[str, np.ndarray]
"""Meta-parameters by name, float32: what the server owns and the evaluators differentiate."""


LEARN = "learn"
"""Stream of the addresses under which noise that only learning should see is drawn."""


class Synthesizer(NamedTuple):
    """Pure functions; `steps` is differentiable in the meta-parameters.

    Attributes:
        check: (data) -> None; raises ValueError where the data can not give the start that the spec asks for.
        start: (data, address) -> the first meta-parameters.
        steps: (meta, address) -> the batches of an unroll; the address is there for synthesizers that use noise, and
            its stream is LEARN where a meta-gradient is taken.
        order: int64 [T], which distinct batch each inner step uses.
        groups: name of each learned meta-parameter -> field of the outer spec that holds its rate.
        longer: (meta, T, address) -> T batches, more than were learned; None where there is nothing to make them of.
    """

    check: Callable[[DataSet], None]
    start: Callable[[DataSet, Address], Meta]
    steps: Callable[[Mapping[str, Tensor], Address], Steps]
    order: np.ndarray
    groups: Mapping[str, str]
    longer: Callable[[Mapping[str, Tensor], int, Address], Steps] | None = None
