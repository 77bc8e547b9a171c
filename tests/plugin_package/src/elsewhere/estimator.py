"""An estimator without backpropagation: antithetic evolution strategies (Salimans et al. 2017, 1703.03864)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from raystill.platform import meta
from raystill.platform.meta import Steps
from raystill.platform.meta.estimators import Bench, real
from raystill.platform.meta.unroll import MetaGradient
from raystill.platform.seeds import Address, torch_rng


def evolution(
    bench: Bench, steps: Steps, addresses: Sequence[Address], sigma: float = 0.05, pairs: int = 4
) -> list[MetaGradient]:
    """The mean over pairs of (L(s + sigma e) - L(s - sigma e)) / (2 sigma) e, with e ~ N(0, 1) in the shape of s.

    Args:
        sigma: standard deviation of the perturbations, in the units of the normalised examples.
        pairs: of perturbations, for each member.

    Raises:
        ValueError: a setting that is not above zero.
    """
    if sigma <= 0 or pairs < 1:
        raise ValueError(f"meta.estimator: sigma ({sigma}) and pairs ({pairs}) must be above 0")
    meta_gradients = []
    for address in addresses:
        loss, theta0 = _loss(bench, address)
        total = steps.map(torch.zeros_like)._replace(y=torch.zeros(steps.y.shape))
        for n in range(pairs):
            e = noise(steps, address, n)
            up, down = (loss(moved(steps, e, sign * sigma))[0] for sign in (1, -1))
            total = moved(total, e, float(up - down) / (2 * sigma * pairs))
        value, final = loss(steps)
        meta_gradients.append(MetaGradient(value, total, torch.zeros_like(theta0), final))
    return meta_gradients


def noise(steps: Steps, address: Address, pair: int) -> Steps:
    """A perturbation of everything that is a number: examples, soft labels and rates."""
    rng = torch_rng(address.at(stream=f"evolution/{pair}"))
    return steps.map(lambda part: torch.randn(part.shape, generator=rng) if part.is_floating_point() else part * 0)


def moved(steps: Steps, direction: Steps, by: float) -> Steps:
    """The steps, so far along a direction; labels that are ids stay."""

    def add(part: Tensor, other: Tensor) -> Tensor:
        return part + by * other if part.is_floating_point() else part

    hyper = {name: add(rate, direction.hyper[name]) for name, rate in steps.hyper.items()}
    return Steps(add(steps.x, direction.x), add(steps.y, direction.y), hyper)


def _loss(bench: Bench, address: Address) -> tuple[Callable[[Steps], tuple[Tensor, Tensor]], Tensor]:
    """Steps -> (outer loss, last weights) of one member, always on the same real images; and its first weights."""
    problem = bench.problem(bench.learner_of(address))
    theta0 = bench.theta0(problem.learner, address)
    x, y = real(bench, address, bench.spec.outer.batch_size)

    @torch.no_grad()
    def loss(steps: Steps) -> tuple[Tensor, Tensor]:
        stacked = bench.spec.meta.stack == "vmap"
        theta = meta.train(problem.engine, theta0[None] if stacked else theta0, steps)
        theta = theta[0] if stacked else theta
        return problem.total(theta, x, y) / len(y), theta

    return loss, theta0
