"""The outer loop as pure functions: reduce members' gradients in a fixed order, then one optimiser step.

Arrays are numpy float32 by name; sums are float64 and always in the order of the members, so that the result does not
depend on who computed what or which answer came first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

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


def begin(meta: Arrays) -> OuterState:
    """The state before the first step."""
    zeros = {k: np.zeros_like(v) for k, v in meta.items()}
    return OuterState(0, meta, zeros, {k: v.copy() for k, v in zeros.items()}, {k: v.copy() for k, v in meta.items()})


def reduce(chunks: Sequence[Mapping[str, np.ndarray]], members: int) -> Arrays:
    """Mean over members of the chunks' sums, float64, in the order given."""
    total: Arrays = {}
    for chunk in chunks:
        for name, value in chunk.items():
            wide = value.astype(np.float64)
            total[name] = total[name] + wide if name in total else wide
    return {name: value / members for name, value in total.items()}


def factor(spec: OuterSpec, step: int) -> float:
    """The schedule's factor on every rate at a step (0-based)."""
    warm = min(1.0, (step + 1) / spec.warmup) if spec.warmup else 1.0
    if spec.schedule == "decay":
        return warm * float(spec.decay_factor ** (step // spec.decay_every))
    if spec.schedule == "cosine":
        return warm * (spec.final + (1 - spec.final) * 0.5 * (1 + math.cos(math.pi * step / spec.steps)))
    return warm


def _limit(spec: OuterSpec, running: float, norm: float) -> tuple[float, float]:
    """(norm to clip at, new running norm).

    Unrolls spike by orders of magnitude where the inner loop turns unstable; a bound that follows the usual norm keeps
    a spike from steering Adam for many steps (RaT-BPTT, 2310.09982, clips so). A spike itself enters the running norm
    bounded.
    """
    limit = spec.clip if spec.clip is not None else math.inf
    if spec.clip_relative is None:
        return limit, running
    usual = running or norm
    bound = spec.clip_relative * usual
    return min(limit, bound), 0.98 * usual + 0.02 * min(norm, 1.5 * bound)


def apply(
    spec: OuterSpec, groups: Mapping[str, str], state: OuterState, gradients: Mapping[str, np.ndarray]
) -> tuple[OuterState, Applied]:
    """One step of Adam (1412.6980) with norm clipping, and the running average.

    Args:
        groups: meta-parameter -> field of `spec` with its rate; what is not named stays as it is.
        gradients: float64 means from `reduce`.

    Raises:
        FloatingPointError: a gradient, or what becomes of it, is not finite in float32; nothing was applied.
    """
    norm = math.sqrt(sum(float(np.square(gradients[name]).sum()) for name in groups))
    if not math.isfinite(norm):
        raise FloatingPointError(f"the meta-gradient of outer step {state.step} is not finite")
    limit, running = _limit(spec, state.norm, norm)
    shrink = min(1.0, limit / (norm + 1e-12))
    rate, t = factor(spec, state.step), state.step + 1
    meta, first, second, average = (dict(a) for a in (state.meta, state.first, state.second, state.average))
    decay = min(spec.ema, t / (t + 10.0))
    for name, field in groups.items():
        g = gradients[name] * shrink
        m = spec.beta1 * first[name].astype(np.float64) + (1 - spec.beta1) * g
        v = spec.beta2 * second[name].astype(np.float64) + (1 - spec.beta2) * np.square(g)
        move = (m / (1 - spec.beta1**t)) / (np.sqrt(v / (1 - spec.beta2**t)) + 1e-8)
        new = meta[name].astype(np.float64) - rate * getattr(spec, field) * move
        if max(np.abs(new).max(), np.abs(m).max(), v.max()) > np.finfo(np.float32).max:
            raise FloatingPointError(f"the meta-gradient of outer step {state.step} overflows float32 in {name}")
        meta[name], first[name], second[name] = (a.astype(np.float32) for a in (new, m, v))
        average[name] = (decay * average[name] + (1 - decay) * meta[name]).astype(np.float32)
    return replace(state, step=t, meta=meta, first=first, second=second, average=average, norm=running), Applied(
        norm, rate
    )
