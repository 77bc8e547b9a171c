from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from raystill.platform import objectives, seeds
from raystill.platform.learners import Learner, wrap
from raystill.platform.meta import MetaGradient, Steps
from raystill.platform.objectives import Out, Step

CLASSES = 3
Judged = tuple[int, Callable[[Tensor], Tensor]]


class Case(NamedTuple):
    """An inner problem with its first parameters, its steps and the real data that judge it."""

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    total: Callable[[Tensor, Tensor, Tensor], Tensor]
    theta0: Tensor
    steps: Steps
    real: tuple[Tensor, Tensor]


def smooth_learner(features: int = 4) -> Learner:
    """A network without kinks, so that finite differences of its loss converge."""
    with seeds.fixed_global():
        return wrap(nn.Sequential(nn.Flatten(), nn.Linear(features, 5), nn.Tanh(), nn.Linear(5, CLASSES)))


def draw(*shape: int, stream: str, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = seeds.torch_rng(seeds.Address(7, stream=stream))
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)


@pytest.fixture
def make_case() -> Callable[..., Case]:
    """A small problem: `soft` labels, `momentum`, T steps of four images; the same numbers whatever the dtype."""

    def make(
        soft: bool = False,
        momentum: bool = False,
        length: int = 4,
        dtype: torch.dtype = torch.float64,
        learner: Learner | None = None,
        shape: tuple[int, int, int] = (1, 2, 2),
        rate: float = 0.3,
    ) -> Case:
        learner = learner or smooth_learner()
        objective = objectives.make("cross_entropy")

        def per_sample(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return objective(Step(x, y, Out(learner.apply(theta, x))))

        if soft:
            y = draw(length, 4, CLASSES, stream="labels").softmax(-1).to(dtype)
        else:
            y = torch.arange(4).remainder(CLASSES).expand(length, 4).clone()
        hyper = {"lr": rate * (1 + 0.1 * torch.arange(length, dtype=dtype))}
        if momentum:
            hyper["momentum"] = torch.full((length,), 0.5, dtype=dtype) - 0.05 * torch.arange(length, dtype=dtype)
        x = draw(length, 4, *shape, stream="x", dtype=dtype)
        real = draw(7, *shape, stream="real", dtype=dtype), torch.arange(7).remainder(CLASSES)
        theta0 = learner.init(seeds.Address(3, stream="theta0")).to(dtype)
        return Case(
            lambda t, x, y: per_sample(t, x, y).mean(),
            lambda t, x, y: per_sample(t, x, y).sum(),
            theta0,
            Steps(x, y, hyper),
            real,
        )

    return make


def unrolled_by_autograd(case: Case, outer_losses: Sequence[Judged], start: int = 0) -> tuple[Tensor, Tensor]:
    """(loss, final) of a textbook unroll that autograd differentiates whole; truncated by `detach`."""
    theta, steps = case.theta0, case.steps
    velocity, loss = torch.zeros_like(theta), theta.new_zeros(())
    for t in range(max(at for at, _ in outer_losses)):
        if start and t == start:
            theta, velocity = theta.detach().requires_grad_(), velocity.detach()
        if not theta.requires_grad:
            theta = theta.detach().requires_grad_()
        (g,) = torch.autograd.grad(case.loss(theta, steps.x[t], steps.y[t]), theta, create_graph=True)
        if "momentum" in steps.hyper:
            velocity = steps.hyper["momentum"][t] * velocity + g
            theta = theta - steps.hyper["lr"][t] * velocity
        else:
            theta = theta - steps.hyper["lr"][t] * g
        for at, judged in outer_losses:
            if at == t + 1:
                loss = loss + judged(theta if at > start else theta.detach())
    return loss, theta


@pytest.fixture
def oracle() -> Callable[..., MetaGradient]:
    """The whole unroll's loss and gradients by plain autograd: a MetaGradient to compare the engine's with."""

    def run(case: Case, outer_losses: Sequence[Judged] | None = None, start: int = 0) -> MetaGradient:
        def leaf(z: Tensor) -> Tensor:
            return z.detach().clone().requires_grad_() if z.is_floating_point() else z

        live = case._replace(theta0=leaf(case.theta0), steps=case.steps.map(leaf))
        if outer_losses is None:
            outer_losses = [(case.steps.length, lambda theta: case.total(theta, *case.real) / len(case.real[0]))]
        loss, final = unrolled_by_autograd(live, outer_losses, start)
        inputs = [live.theta0, live.steps.x, *live.steps.hyper.values()]
        soft = live.steps.y.is_floating_point()
        inputs += [live.steps.y] if soft else []
        out = list(torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True))
        d_y = out.pop() if soft else torch.zeros(live.steps.y.shape, dtype=case.theta0.dtype)
        d_theta, d_x, *rates = out
        return MetaGradient(loss.detach(), Steps(d_x, d_y, dict(zip(live.steps.hyper, rates))), d_theta, final.detach())

    return run


def relative(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|; absolute where nothing is expected."""
    gap = (found.double() - expected.double()).norm()
    size = expected.double().norm()
    return float(gap / size if size > 0 else gap)


@pytest.fixture
def gaps() -> Callable[[MetaGradient, MetaGradient], dict[str, float]]:
    """Relative error of each part of a meta-gradient."""

    def run(found: MetaGradient, expected: MetaGradient) -> dict[str, float]:
        pairs = {
            "loss": (found.loss, expected.loss),
            "theta0": (found.theta0, expected.theta0),
            "final": (found.final, expected.final),
            "x": (found.steps.x, expected.steps.x),
            "y": (found.steps.y, expected.steps.y),
            **{k: (found.steps.hyper[k], expected.steps.hyper[k]) for k in expected.steps.hyper},
        }
        assert all(a.shape == b.shape for a, b in pairs.values())
        return {name: relative(a, b) for name, (a, b) in pairs.items()}

    return run
