"""Outer optimisers: their memory of each array (such as moments), and the step of one block of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from raystill.platform.registry import nearest
from raystill.platform.spec import OuterSpec

Memory = Mapping[str, np.ndarray]
"""An optimiser's arrays for one meta-parameter, by name, each of its shape."""


class Optimiser(NamedTuple):
    """An outer optimiser; all of it is elementwise, so that any cut into blocks gives the same bits.

    Attributes:
        init: array -> its memory before the first step, float32.
        update: (spec, x, gradient, memory, rate, t) of a block -> (x, memory); all arrays float64, the rate that of the
            array's group times the schedule's factor, t the number of this step, from 1.
    """

    init: Callable[[np.ndarray], Memory]
    update: Callable[[OuterSpec, np.ndarray, np.ndarray, Memory, float, int], tuple[np.ndarray, Memory]]


def _two_moments(x: np.ndarray) -> Memory:
    return {"first": np.zeros_like(x), "second": np.zeros_like(x)}


def _adam(
    spec: OuterSpec, x: np.ndarray, gradient: np.ndarray, memory: Memory, rate: float, t: int
) -> tuple[np.ndarray, Memory]:
    """Adam (Kingma & Ba 2015, 1412.6980, Algorithm 1)."""
    m = spec.beta1 * memory["first"] + (1 - spec.beta1) * gradient
    v = spec.beta2 * memory["second"] + (1 - spec.beta2) * np.square(gradient)
    move = (m / (1 - spec.beta1**t)) / (np.sqrt(v / (1 - spec.beta2**t)) + 1e-8)
    return x - rate * move, {"first": m, "second": v}


OPTIMISERS = {"adam": Optimiser(_two_moments, _adam)}


def resolve(spec: OuterSpec) -> Optimiser:
    """The optimiser that `outer.optimiser` names.

    Raises:
        ValueError: an unknown name.
    """
    if spec.optimiser not in OPTIMISERS:
        raise ValueError(f"outer.optimiser: unknown {spec.optimiser!r}; {nearest(spec.optimiser, OPTIMISERS)}")
    return OPTIMISERS[spec.optimiser]
