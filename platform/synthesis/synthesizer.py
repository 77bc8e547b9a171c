"""The contract of a synthesizer: first meta-parameters, and their map to the batches of an unroll."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

from raystill.platform.data import DataSet
from raystill.platform.meta import Steps
from raystill.platform.seeds import Address

Meta = dict[str, np.ndarray]
"""Meta-parameters by name, float32; the server owns them, evaluators return their gradients."""

LEARN = "learn"
"""Stream of the addresses of meta-gradients: noise for learning only is drawn under it."""


class Synthesizer(NamedTuple):
    """Pure functions; `steps` is differentiable in the meta-parameters.

    Attributes:
        check: (data) -> None; raises a ValueError where the data do not allow the spec's start.
        start: (data, address) -> the first meta-parameters.
        steps: (meta, address) -> the batches of an unroll; the address is for noise, and its stream is LEARN where a
            meta-gradient is computed.
        order: int64 [T], the distinct batch that each inner step uses.
        groups: name of each learned meta-parameter -> field of the outer spec with its rate.
        longer: (meta, T, address) -> T batches, more than were learned; None where there is no generator.
    """

    check: Callable[[DataSet], None]
    start: Callable[[DataSet, Address], Meta]
    steps: Callable[[Mapping[str, Tensor], Address], Steps]
    order: np.ndarray
    groups: Mapping[str, str]
    longer: Callable[[Mapping[str, Tensor], int, Address], Steps] | None = None
