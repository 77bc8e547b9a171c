"""Learning-rate schedules of the outer loop: the factor on every rate at a step."""

from __future__ import annotations

import math
from collections.abc import Callable

from raystill.platform.spec import OuterSpec
from raystill.platform.training import cosine as half_cosine


def constant(spec: OuterSpec, step: int) -> float:
    """1."""
    return 1.0


def decay(spec: OuterSpec, step: int) -> float:
    """`outer.decay_factor` ** (step // `outer.decay_every`)."""
    return float(spec.decay_factor ** (step // spec.decay_every))


def cosine(spec: OuterSpec, step: int) -> float:
    """From 1 to `outer.final`, in `outer.cycles` half-cosines, each twice as long as the one before (1608.03983)."""
    first = spec.steps / (2**spec.cycles - 1)
    cycle = min(int(math.log2(step / first + 1)), spec.cycles - 1)
    phase = (step - first * (2**cycle - 1)) / (first * 2**cycle)
    return spec.final + (1 - spec.final) * half_cosine(phase, 1)


SCHEDULES: dict[str, Callable[[OuterSpec, int], float]] = {"constant": constant, "decay": decay, "cosine": cosine}


def schedule(spec: OuterSpec, step: int) -> float:
    """The factor at a step (0-based): a linear warm-up times the schedule that `outer.schedule` names."""
    warm = min(1.0, (step + 1) / spec.warmup) if spec.warmup else 1.0
    return warm * SCHEDULES[spec.schedule](spec, step)
