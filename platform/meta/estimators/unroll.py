"""The meta-gradient of an unrolled inner loop: backpropagation through its last steps, or through a random window."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

import torch
from torch import Tensor

from raystill.platform import meta
from raystill.platform.meta.estimators.bench import Bench, real
from raystill.platform.meta.unroll import MetaGradient, OuterLoss, Steps
from raystill.platform.seeds import Address, numpy_rng


class _Loss(NamedTuple):
    """One outer loss of an unroll: taken after `at` inner steps, on `size` real images drawn from `stream`."""

    at: int
    weight: float
    size: int
    stream: str


def unroll(bench: Bench, steps: Steps, addresses: Sequence[Address]) -> list[MetaGradient]:
    """The estimator `unroll`: exact within the window that `meta.window` and `meta.window_at` set."""
    spec = bench.spec.meta
    start, stop = _window(bench, addresses[0])
    losses = _losses(bench, start, stop)
    if spec.stack == "vmap":
        problem = bench.problem(bench.spec.learner)
        theta0 = torch.stack([bench.theta0(problem.learner, a) for a in addresses])
        outer_losses = []
        for at, weight, size, stream in losses:
            x, y = (torch.stack(part) for part in zip(*(real(bench, a, size, stream) for a in addresses)))
            outer_loss = meta.stacked_outer_loss(problem.total, x, y, spec.chunk, spec.precision)
            outer_losses.append((at, _weighted(outer_loss, weight)))
        stack = meta.unroll(problem.engine, theta0, steps, outer_losses, start, to_theta0=False)
        return [
            MetaGradient(stack.loss[j], stack.steps.map(itemgetter(j)), stack.theta0[j], stack.final[j])
            for j in range(len(addresses))
        ]
    meta_gradients = []
    for address in addresses:
        problem = bench.problem(bench.learner_of(address))
        outer_losses = []
        for at, weight, size, stream in losses:
            x, y = real(bench, address, size, stream)
            outer_loss = meta.outer_loss(problem.total, x, y, spec.chunk, spec.precision)
            outer_losses.append((at, _weighted(outer_loss, weight)))
        theta0 = bench.theta0(problem.learner, address)
        meta_gradients.append(meta.unroll(problem.engine, theta0, steps, outer_losses, start, to_theta0=False))
    return meta_gradients


def _window(bench: Bench, address: Address) -> tuple[int, int]:
    """(start, stop) of the differentiated steps, the last or random ones (RaT-BPTT, 2310.09982); no step follows."""
    length, window = bench.spec.unroll, bench.spec.meta.window
    if window is None or window >= length:
        return 0, length
    stop = length
    if bench.spec.meta.window_at == "random":
        stop = int(numpy_rng(address.at(stream="window", member=0)).integers(window, length + 1))
    return stop - window, stop


def _losses(bench: Bench, start: int, stop: int) -> list[_Loss]:
    """The intermediate losses within the steps start..stop, and the last one."""
    outer = bench.spec.outer
    every = outer.intermediate_every
    intermediate = range(every, stop, every) if every else range(0)
    weight = outer.intermediate_weight / max(len(intermediate), 1)
    return [
        *(_Loss(at, weight, outer.intermediate_size, f"real/{at}") for at in intermediate if at > start),
        _Loss(stop, 1.0, outer.batch_size, "real"),
    ]


def _weighted(outer_loss: OuterLoss, weight: float) -> OuterLoss:
    def run(theta: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = outer_loss(theta)
        return weight * loss, weight * gradient

    return outer_loss if weight == 1.0 else run
