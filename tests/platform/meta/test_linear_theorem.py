"""How many examples teach a linear model in one step from any start: as many as it has parameters (1811.10959, 3.3).

With l = |d theta - t|^2 / 2N and one step theta1 = (I - (eta / M) d~' d~) theta0 + (eta / M) d~' t~ the excess is
l(theta1) - l(theta*) = |d (theta1 - theta*)|^2 / 2N. It vanishes for every theta0 only if (eta / M) d~' d~ = I, whose
rank is at most M: M >= D. The paper's construction d~ = N I, t~ = N theta* meets it with eta = M / N^2, and rows of
zeros beyond the D-th change nothing. For M < D there is a unit vector u with d~ u = 0; along it theta0 stays where it
is, so that the excess over the starts theta* + a u has no bound.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from raystill.platform import learners, seeds
from raystill.platform.meta import Steps, make_engine, outer_loss, unroll
from raystill.platform.objectives import make
from raystill.platform.spec import LearnerSpec
from raystill.platform.work.problem import losses

N, D = 40, 7


class Regression(NamedTuple):
    """Real data d[N, D], t[N], and the least-squares solution."""

    d: Tensor
    t: Tensor
    best: Tensor


def normal(*shape: int, member: int = 0, stream: str = "theorem") -> Tensor:
    rng = seeds.torch_rng(seeds.Address(2, member=member, stream=stream))
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


@pytest.fixture(scope="module")
def real() -> Regression:
    d, t = normal(N, D, stream="d"), normal(N, stream="t")
    return Regression(d, t, torch.linalg.lstsq(d, t[:, None]).solution[:, 0])


def one_step(theta0: Tensor, d: Tensor, t: Tensor, rate: float) -> Tensor:
    """theta1 by the product's linear learner and squared error, its bias held at 0."""
    learner = learners.build(LearnerSpec(name="linear"), (1, 1, D), 1)
    weights = learner.size - 1  # D weights, then the bias
    mean, _ = losses(learner, make("squared_error"))

    def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return mean(torch.cat([theta, theta.new_zeros(1)]), x, y)

    assert weights == D
    steps = Steps(d.reshape(1, -1, 1, 1, D), t.reshape(1, -1, 1), {"lr": torch.tensor([rate], dtype=d.dtype)})
    nothing = (1, lambda theta: (theta.new_zeros(()), torch.zeros_like(theta)))
    return unroll(make_engine(loss), theta0, steps, [nothing]).final


def excess(real: Regression, theta: Tensor) -> float:
    return float((real.d @ (theta - real.best)).square().sum() / (2 * N))


def construction(real: Regression, count: int) -> tuple[Tensor, Tensor, float]:
    """d~ = N I and t~ = N theta* in `count` rows, zeros beyond D, and the rate that makes (eta / M) d~' d~ = I."""
    d, t = torch.zeros(count, D, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    rows = min(count, D)
    d[:rows] = N * torch.eye(D, dtype=torch.float64)[:rows]
    t[:rows] = N * real.best[:rows]
    return d, t, count / N**2


@pytest.mark.parametrize("count", [D, D + 1, 3 * D])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_the_construction_teaches_any_start_in_one_step(real: Regression, count: int, scale: float) -> None:
    for member in range(20):
        theta0 = scale * normal(D, member=member, stream="start")
        found = excess(real, one_step(theta0, *construction(real, count)))
        assert found <= 1e-20, (count, scale, found)


def test_so_does_any_other_data_of_full_rank_with_the_same_product(real: Regression) -> None:
    """(eta / M) d~' d~ = I is all that is asked: rotations and tall isometries serve as well."""
    rate, count = 0.3, 2 * D
    isometry = torch.linalg.qr(normal(count, D, stream="isometry")).Q
    d = isometry * (count / rate) ** 0.5
    for member in range(20):
        theta0 = 10 * normal(D, member=member, stream="start")
        assert excess(real, one_step(theta0, d, d @ real.best, rate)) <= 1e-20


@pytest.mark.parametrize("count", range(1, D))
@pytest.mark.parametrize("kind", ["construction", "random"])
def test_with_fewer_examples_some_start_is_taught_nothing(real: Regression, count: int, kind: str) -> None:
    """For any d~, t~ and rate: the worst start of unit distance keeps at least sigma_min(d' d / N) / 2 of excess.

    Two starts theta* +- a u see the same residuals, so that both move by the same w; one of |d (w +- a u)|^2 is at
    least |d u|^2 a^2. The supremum over starts has no bound.
    """
    d, t, rate = construction(real, count)
    if kind == "random":
        d, t, rate = normal(count, D, stream="few"), normal(count, stream="few t"), 0.1
    floor = float(torch.linalg.eigvalsh(real.d.T @ real.d / N)[0]) / 2
    assert floor > 0.05
    free = torch.linalg.svd(d, full_matrices=True).Vh[count:]  # d~ u = 0 for each row u
    assert len(free) == D - count
    for u in free:
        for distance in (1.0, 100.0):
            starts = [real.best + sign * distance * u for sign in (1, -1)]
            worst = max(excess(real, one_step(theta0, d, t, rate)) for theta0 in starts)
            assert worst >= floor * distance**2 * (1 - 1e-9)


def test_the_worst_start_is_what_the_algebra_says(real: Regression) -> None:
    """M = D - 1 of the construction's rows: the last weight alone is left, so the excess is a^2 S[D, D] / 2."""
    left = float(real.d[:, -1].square().sum() / N)
    for a in (0.5, -3.0):
        theta0 = normal(D, stream="start")
        theta0[-1] = real.best[-1] + a
        found = excess(real, one_step(theta0, *construction(real, D - 1)))
        assert found == pytest.approx(a * a * left / 2, rel=1e-12)


def test_the_gradient_with_respect_to_the_data_vanishes_at_the_construction(real: Regression) -> None:
    """For every start at once, which is what learning from random starts looks for; at M = D - 1 it does not."""
    for count, vanishes in ((D, True), (D - 1, False)):
        d, t, rate = construction(real, count)
        x = d.reshape(1, count, D)
        steps = Steps(x, t[None], {"lr": torch.tensor([rate], dtype=torch.float64)})

        def total(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return 0.5 * (x @ theta - y).square().sum()

        engine = make_engine(lambda theta, x, y: total(theta, x, y) / len(x))
        meta_gradient = unroll(engine, normal(D, stream="start"), steps, [(1, outer_loss(total, real.d, real.t, N))])
        assert bool(meta_gradient.steps.x.abs().max() < 1e-13) == vanishes
