"""The outer loop as pure functions: reduce members' gradients in a fixed order, then one optimiser step.

Arrays are numpy float32 by name; sums are float64 and always in the order of the members, so that the result does not
depend on who computed what or which answer came first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from raystill.platform.outer import optimisers
from raystill.platform.outer.blocks import Arrays, blocks
from raystill.platform.outer.schedules import schedule
from raystill.platform.spec import OuterSpec


@dataclass(frozen=True)
class OuterState:
    """The state of the outer loop.

    Attributes:
        step: number of steps taken.
        meta: meta-parameters.
        memory: the optimiser's arrays, such as moments, by name.
        average: the running average of the meta-parameters.
        norm: the usual norm of a chunk's gradient; see `adaptive_clipping`.
    """

    step: int
    meta: Arrays
    memory: dict[str, Arrays]
    average: Arrays
    norm: float = 0.0


class Applied(NamedTuple):
    """Facts of one outer step: the meta-gradient's norm before clipping, and the factor on the rates."""

    gradient_norm: float
    rate: float


def init(spec: OuterSpec, meta: Arrays) -> OuterState:
    """The state before the first step."""
    memory: dict[str, Arrays] = {}
    for name, value in meta.items():
        for key, array in optimisers.resolve(spec).init(value).items():
            memory.setdefault(key, {})[name] = array
    return OuterState(0, meta, memory, {k: v.copy() for k, v in meta.items()})


def reduce(chunks: Sequence[Mapping[str, np.ndarray]], members: int, factors: Sequence[float] | None = None) -> Arrays:
    """Mean over members of the chunks' sums, float64, in the order given; block by block, so that a sum stays in cache.

    Args:
        chunks: sums over the members of each chunk, float32.
        members: of all chunks together.
        factors: of each chunk, from `adaptive_clipping`; None: all 1.
    """
    mean = {name: np.zeros(value.shape) for name, value in chunks[0].items()}
    for name, whole in mean.items():
        total, flat = whole.reshape(-1), [chunk[name].reshape(-1) for chunk in chunks]
        for block in blocks(total.size):
            part = total[block]
            for chunk, factor in zip(flat, factors or [1.0] * len(flat)):
                part += np.multiply(chunk[block], factor, dtype=np.float64)
            part /= members
    return mean


def norm_of(squares: Iterable[Iterable[float]]) -> float:
    """The norm of all positions from the sums of squares of their blocks, the same in whatever order they come."""
    return math.sqrt(math.fsum(chain.from_iterable(squares)))


def slowed(spec: OuterSpec, attempt: int) -> OuterSpec:
    """The spec of a run that was rolled back `attempt` times: each time its rates are halved."""
    rates = {name: getattr(spec, name) * 0.5**attempt for name in ("lr", "label_lr", "rate_lr")}
    return spec.model_copy(update=rates) if attempt else spec


def adaptive_clipping(spec: OuterSpec, running: float, norms: Sequence[float]) -> tuple[list[float], float]:
    """Factors that clip each chunk's gradient at `spec.clip_relative` times the usual norm of a chunk.

    Unrolls spike by orders of magnitude where one member's inner loop turns unstable; a bound that follows the usual
    norm (RaT-BPTT, 2310.09982, clips so), on each chunk by itself, keeps such a member from drowning the others and
    from steering Adam for many steps. A spike enters the running norm bounded.

    Args:
        running: the usual norm; 0 before the first step, whose smallest chunk then is the usual.
        norms: of each chunk's gradient.

    Returns:
        A factor, at most 1, for each chunk, and the new running norm.

    Raises:
        FloatingPointError: a chunk is not finite.
    """
    if spec.clip_relative is None:
        return [1.0] * len(norms), running
    if not all(map(math.isfinite, norms)):
        raise FloatingPointError("the meta-gradient of a chunk is not finite")
    usual = running or min((norm for norm in norms if norm > 0), default=0.0)  # a dead chunk is not the usual
    bound = spec.clip_relative * usual
    bounded = sum(min(norm, 1.5 * bound) for norm in norms) / len(norms)
    return [min(1.0, bound / (norm + 1e-12)) for norm in norms], 0.98 * usual + 0.02 * bounded


def apply(
    spec: OuterSpec, groups: Mapping[str, str], state: OuterState, gradients: Mapping[str, np.ndarray], norm: float
) -> tuple[OuterState, Applied]:
    """One step of the optimiser with norm clipping, and the running average; of all positions, or of a shard's.

    Args:
        groups: meta-parameter -> field of `spec` with its learning rate; others stay unchanged.
        gradients: float64 means from `reduce`.
        norm: of the gradients of all positions.

    Raises:
        FloatingPointError: a gradient or an updated array is not finite in float32; `state` is unchanged.
    """
    if not math.isfinite(norm):
        raise FloatingPointError(f"the meta-gradient of outer step {state.step} is not finite")
    shrink = min(1.0, spec.clip / (norm + 1e-12)) if spec.clip is not None else 1.0
    factor, t, optimiser = schedule(spec, state.step), state.step + 1, optimisers.resolve(spec)
    decay = min(spec.ema, t / (t + 10.0))
    meta, average = dict(state.meta), dict(state.average)
    memory = {key: dict(arrays) for key, arrays in state.memory.items()}
    for name, field in groups.items():
        rate, old = factor * getattr(spec, field), [state.meta[name], state.average[name], gradients[name]]
        for arrays in (meta, average, *memory.values()):
            arrays[name] = np.empty(arrays[name].shape, np.float32)
        x0, a0, g0 = (array.reshape(-1) for array in old)
        x1, a1 = (arrays[name].reshape(-1) for arrays in (meta, average))
        m0, m1 = ({key: m[name].reshape(-1) for key, m in part.items()} for part in (state.memory, memory))
        for at in blocks(x0.size):  # a block of each array stays in a core's cache
            remembered: optimisers.Memory = {key: m[at].astype(np.float64) for key, m in m0.items()}
            x, remembered = optimiser.update(spec, x0[at].astype(np.float64), g0[at] * shrink, remembered, rate, t)
            if max(np.abs(z).max() for z in (x, *remembered.values())) > np.finfo(np.float32).max:
                raise FloatingPointError(f"the meta-gradient of outer step {state.step} overflows float32 in {name}")
            x1[at] = x
            for key, m in remembered.items():
                m1[key][at] = m
            a1[at] = decay * a0[at] + (1 - decay) * x1[at]
    return replace(state, step=t, meta=meta, memory=memory, average=average), Applied(norm, factor)
