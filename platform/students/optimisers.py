"""Optimisers of students by name, and their learning-rate schedules."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from raystill.platform.registry import nearest
from raystill.platform.spec.section import Fraction, Part, Positive
from raystill.platform.training import cosine

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class OptimizerSpec(Part):
    """The optimiser of a student."""

    name: str = Field("sgd", description="sgd (Nesterov), adam, adamw, or timm's lars, lamb")
    lr: Positive = Field(0.05, description="highest rate")
    momentum: Fraction = Field(0.9, description="of sgd and lars")
    weight_decay: float = Field(5e-4, ge=0.0, description="decay of the weights")
    schedule: Literal["constant", "cosine"] = Field("cosine", description="learning-rate schedule after the warm-up")
    warmup: Fraction = Field(0.05, description="share of the steps in which the rate rises from 0")
    clip: Positive | None = Field(1.0, description="largest norm of a gradient; none does not clip")


def _sgd(spec: OptimizerSpec) -> Make:
    return lambda p: torch.optim.SGD(
        p, spec.lr, spec.momentum, weight_decay=spec.weight_decay, nesterov=spec.momentum > 0
    )


def _timm(name: str, **fixed: Any) -> Callable[[OptimizerSpec], Make]:
    def make(spec: OptimizerSpec) -> Make:
        try:
            import timm.optim
        except ImportError:
            raise ValueError(f"optimizer.name: {name.lower()} is timm's: pip install 'raystill[students]'") from None
        kind = getattr(timm.optim, name)
        takes = inspect.signature(kind).parameters
        settings = {"lr": spec.lr, "weight_decay": spec.weight_decay, "momentum": spec.momentum, **fixed}
        return lambda p: kind(p, **{k: v for k, v in settings.items() if k in takes})

    return make


OPTIMIZERS: dict[str, Callable[[OptimizerSpec], Make]] = {
    "sgd": _sgd,
    "adam": lambda spec: lambda p: torch.optim.Adam(p, spec.lr, weight_decay=spec.weight_decay),
    "adamw": lambda spec: lambda p: torch.optim.AdamW(p, spec.lr, weight_decay=spec.weight_decay),
    # without always_adapt timm leaves out the trust ratio where weight_decay is 0, and LARS is plain SGD
    "lars": _timm("Lars", always_adapt=True),
    "lamb": _timm("Lamb", always_adapt=True),
}
"""Every optimiser by name."""


def optimiser(spec: OptimizerSpec) -> Make:
    """A function from parameters to the optimiser of a spec.

    Raises:
        ValueError: an unknown name, or timm is not installed.
    """
    if spec.name not in OPTIMIZERS:
        raise ValueError(f"optimizer.name: unknown {spec.name!r}; {nearest(spec.name, OPTIMIZERS)}")
    return OPTIMIZERS[spec.name](spec)


def factor(spec: OptimizerSpec, done: int, steps: int) -> float:
    """The share of the highest rate at a step (0-based): linear warm-up, then the schedule."""
    warm = max(1, round(spec.warmup * steps)) if spec.warmup else 0
    if done < warm:
        return (done + 1) / warm
    if spec.schedule == "constant":
        return 1.0
    return cosine(done - warm, max(steps - warm, 1))
