"""Mean and spread of a cell of a table, and the choice of the best share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def best_share(accuracies: Sequence[float], share: float = 0.2) -> list[int]:
    """Positions of the best share of candidates (at least one), best first, the earlier one on ties.

    Optimised real (1811.10959, section 4): the best 20 % of many random sets. Choose by validation, never by test.
    """
    order = sorted(range(len(accuracies)), key=lambda at: (-accuracies[at], at))
    return order[: max(1, round(share * len(order)))]


class Summary(NamedTuple):
    """Mean, standard deviation (of a sample, n - 1) and number of values; std is nan where n is 1."""

    mean: float
    std: float
    n: int

    @property
    def spread(self) -> float:
        """The standard deviation; 0 of a single value, as tables and curves show it."""
        return self.std if self.n > 1 else 0.0


def summary(values: Sequence[float]) -> Summary:
    """Mean and spread of a table's cell, in the values' units.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("summary of no values")
    array = np.asarray(values, dtype=np.float64)
    return Summary(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else math.nan, len(array))


def ahead_by_more_than_spreads(a_mean: float, a_std: float, b_mean: float, b_std: float) -> bool:
    """Whether a's mean less its spread lies above b's mean plus its spread.

    Args:
        a_mean, b_mean: in the same units.
        a_std, b_std: in the means' units; 0 for a value that has no spread, such as k-NN on a fixed set.

    Returns:
        False where a spread is unknown (nan).
    """
    return a_mean - a_std > b_mean + b_std
