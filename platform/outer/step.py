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

from raystill.platform.outer.blocks import blocks
from raystill.platform.spec import OuterSpec

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class OuterState:
    """Meta-parameters, Adam's two moments, the running average, how many steps made them, and the running norm."""

    step: int
    meta: Arrays
    first: Arrays
    second: Arrays
    average: Arrays
    norm: float = 0.0


class Applied(NamedTuple):
    """What one outer step did: the meta-gradient's norm before clipping, and the factor on the rates."""

    gradient_norm: float
    rate: float


def init(meta: Arrays) -> OuterState:
    """The state before the first step."""
    zeros = {k: np.zeros_like(v) for k, v in meta.items()}
    return OuterState(0, meta, zeros, {k: v.copy() for k, v in zeros.items()}, {k: v.copy() for k, v in meta.items()})


def reduce(chunks: Sequence[Mapping[str, np.ndarray]], members: int, factors: Sequence[float] | None = None) -> Arrays:
    """Mean over members of the chunks' sums, float64, in the order given; block by block, so that a sum stays in cache.

    Args:
        factors: of each chunk, from `adaptive_clipping`; None is 1.
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


def schedule(spec: OuterSpec, step: int) -> float:
    """The schedule's factor on every rate at a step (0-based)."""
    warm = min(1.0, (step + 1) / spec.warmup) if spec.warmup else 1.0
    if spec.schedule == "decay":
        return warm * float(spec.decay_factor ** (step // spec.decay_every))
    if spec.schedule == "cosine":
        return warm * (spec.final + (1 - spec.final) * 0.5 * (1 + math.cos(math.pi * _phase(spec, step))))
    return warm


def _phase(spec: OuterSpec, step: int) -> float:
    """How much of its cycle a step has behind it, 0 to 1; cycle k is 2^k times as long as the first (1608.03983)."""
    first = spec.steps / (2**spec.cycles - 1)
    cycle = min(int(math.log2(step / first + 1)), spec.cycles - 1)
    return (step - first * (2**cycle - 1)) / (first * 2**cycle)


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
    seen = sum(min(norm, 1.5 * bound) for norm in norms) / len(norms)
    return [min(1.0, bound / (norm + 1e-12)) for norm in norms], 0.98 * usual + 0.02 * seen


def apply(
    spec: OuterSpec, groups: Mapping[str, str], state: OuterState, gradients: Mapping[str, np.ndarray], norm: float
) -> tuple[OuterState, Applied]:
    """One step of Adam (1412.6980) with norm clipping, and the running average; of all positions, or of a shard's.

    Args:
        groups: meta-parameter -> field of `spec` with its rate; what is not named stays as it is.
        gradients: float64 means from `reduce`.
        norm: of the gradients of all positions.

    Raises:
        FloatingPointError: a gradient, or what becomes of it, is not finite in float32; nothing was applied.
    """
    if not math.isfinite(norm):
        raise FloatingPointError(f"the meta-gradient of outer step {state.step} is not finite")
    shrink = min(1.0, spec.clip / (norm + 1e-12)) if spec.clip is not None else 1.0
    rate, t = schedule(spec, state.step), state.step + 1
    decay = min(spec.ema, t / (t + 10.0))
    old = (state.meta, state.first, state.second, state.average)
    meta, first, second, average = new = tuple(dict(arrays) for arrays in old)
    for name, field in groups.items():
        for arrays in new:
            arrays[name] = np.empty(arrays[name].shape, np.float32)
        x0, m0, v0, a0, x1, m1, v1, a1, g0 = (arrays[name].reshape(-1) for arrays in (*old, *new, gradients))
        for at in blocks(x0.size):  # what lies between is in a core's cache
            g = g0[at] * shrink
            m = spec.beta1 * m0[at].astype(np.float64) + (1 - spec.beta1) * g
            v = spec.beta2 * v0[at].astype(np.float64) + (1 - spec.beta2) * np.square(g)
            move = (m / (1 - spec.beta1**t)) / (np.sqrt(v / (1 - spec.beta2**t)) + 1e-8)
            x = x0[at].astype(np.float64) - rate * getattr(spec, field) * move
            if max(np.abs(x).max(), np.abs(m).max(), v.max()) > np.finfo(np.float32).max:
                raise FloatingPointError(f"the meta-gradient of outer step {state.step} overflows float32 in {name}")
            x1[at], m1[at], v1[at] = x, m, v
            a1[at] = decay * a0[at] + (1 - decay) * x1[at]
    return replace(state, step=t, meta=meta, first=first, second=second, average=average), Applied(norm, rate)
