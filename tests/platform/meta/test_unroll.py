"""The engine's gradients against autograd, finite differences and closed forms."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from raystill.platform import seeds
from raystill.platform.meta import (
    MetaGradient,
    Steps,
    make_engine,
    outer_loss,
    stacked_outer_loss,
    train,
    unroll,
    unrolled_loss,
)

MODES = ("reverse", "forward")
STACKS = ("loop", "vmap")


def unrolled(case: Any, mode: str, stack: str = "loop", keep: int = 0) -> MetaGradient:
    """The engine's meta-gradient of a case; a stack's only member where it is stacked."""
    engine = make_engine(case.loss, mode, stack, keep)
    x, y = case.real
    if stack == "loop":
        return unroll(engine, case.theta0, case.steps, [(case.steps.length, outer_loss(case.total, x, y, 3))])
    at_end = [(case.steps.length, stacked_outer_loss(case.total, x[None], y[None], 3))]
    whole = unroll(engine, case.theta0[None], case.steps, at_end)
    return MetaGradient(whole.loss[0], whole.steps.map(lambda z: z[0]), whole.theta0[0], whole.final[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("mode", MODES)
def test_equals_a_plain_autograd_unroll(
    make_case: Any, oracle: Any, gaps: Any, mode: str, stack: str, soft: bool, momentum: bool, dtype: Any
) -> None:
    expected = oracle(make_case(soft, momentum))
    found = gaps(unrolled(make_case(soft, momentum, dtype=dtype), mode, stack), expected)
    assert max(found.values()) < (1e-9 if dtype == torch.float64 else 1e-5), found


@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
@pytest.mark.parametrize("mode", MODES)
def test_each_member_of_a_stack_equals_its_own_unroll(
    make_case: Any, oracle: Any, gaps: Any, mode: str, momentum: bool
) -> None:
    case = make_case(True, momentum)
    theta0 = torch.stack([case.theta0, 1.5 * case.theta0, case.theta0.flip(0)])
    x = torch.stack([case.real[0] + j for j in range(3)])
    y = torch.stack([case.real[1].roll(j) for j in range(3)])
    at_end = [(case.steps.length, stacked_outer_loss(case.total, x, y, 4))]
    whole = unroll(make_engine(case.loss, mode, "vmap"), theta0, case.steps, at_end)
    for j in range(3):
        member = MetaGradient(whole.loss[j], whole.steps.map(lambda z, j=j: z[j]), whole.theta0[j], whole.final[j])
        found = gaps(member, oracle(case._replace(theta0=theta0[j], real=(x[j], y[j]))))
        assert max(found.values()) < 1e-9, (j, found)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("keep", [1, 4000, 1 << 30])
def test_kept_graphs_give_the_same_bits_as_rebuilt_ones(make_case: Any, soft: bool, keep: int) -> None:
    case = make_case(soft, True, length=6, dtype=torch.float32)
    rebuilt, kept = unrolled(case, "reverse"), unrolled(case, "reverse", keep=keep)
    for a, b in zip(
        (rebuilt.loss, rebuilt.theta0, rebuilt.final, rebuilt.steps.x, rebuilt.steps.y, *rebuilt.steps.hyper.values()),
        (kept.loss, kept.theta0, kept.final, kept.steps.x, kept.steps.y, *kept.steps.hyper.values()),
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("mode", MODES)
def test_the_one_step_functions_can_be_wrapped(make_case: Any, oracle: Any, gaps: Any, mode: str, stack: str) -> None:
    """As torch.compile wraps them: every step goes through, and nothing else changes."""
    calls = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (calls.append(function), function(*args))[1]

    case, lead = make_case(True, True), None if stack == "vmap" else slice(None)
    engine = make_engine(case.loss, mode, stack, keep=1 << 30, wrap=counted)
    assert engine.graph_steps(case.theta0, case.steps.x[0], case.steps.y[0], 4) == 0
    make, (x, y) = (stacked_outer_loss if stack == "vmap" else outer_loss), case.real
    whole = unroll(engine, case.theta0[lead], case.steps, [(4, make(case.total, x[lead], y[lead], 3))])
    if stack == "vmap":
        whole = MetaGradient(whole.loss[0], whole.steps.map(lambda z: z[0]), whole.theta0[0], whole.final[0])
    errors = gaps(whole, oracle(case))
    assert max(errors.values()) < 1e-9, errors
    assert len(set(calls)) == 2
    assert len(calls) >= 2 * 4


def test_a_budget_of_bytes_decides_how_many_graphs_are_kept(make_case: Any) -> None:
    case = make_case()
    x, y = case.steps.x[0], case.steps.y[0]
    none, all_ = make_engine(case.loss, keep=1), make_engine(case.loss, keep=1 << 30)
    assert none.graph_steps(case.theta0, x, y, 9) == 0
    assert all_.graph_steps(case.theta0, x, y, 9) == 9
    one = next(
        b for b in range(256, 1 << 20, 256) if make_engine(case.loss, keep=b).graph_steps(case.theta0, x, y, 9) == 1
    )
    assert make_engine(case.loss, keep=4 * one).graph_steps(case.theta0, x, y, 9) in (3, 4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
def test_equals_finite_differences(make_case: Any, mode: str, momentum: bool) -> None:
    case = make_case(True, momentum)
    found = unrolled(case, mode)

    def loss(theta0: Tensor, steps: Steps) -> float:
        end = train(make_engine(case.loss), theta0, steps)
        return float(case.total(end, *case.real) / len(case.real[0]))

    def moved(name: str, by: Tensor) -> float:
        if name == "theta0":
            return loss(case.theta0 + by, case.steps)
        if name in ("x", "y"):
            return loss(case.theta0, case.steps._replace(**{name: getattr(case.steps, name) + by}))
        hyper = {**case.steps.hyper, name: case.steps.hyper[name] + by}
        return loss(case.theta0, case.steps._replace(hyper=hyper))

    gradients = {"theta0": found.theta0, "x": found.steps.x, "y": found.steps.y, **found.steps.hyper}
    assert len(gradients) == 4 + momentum
    for name, gradient in gradients.items():
        for trial in range(3):
            rng = seeds.torch_rng(seeds.Address(11, member=trial, stream=name))
            way = torch.randn(gradient.shape, generator=rng, dtype=torch.float64)
            slope = (moved(name, 1e-5 * way) - moved(name, -1e-5 * way)) / 2e-5
            assert slope == pytest.approx(float((gradient * way).sum()), rel=1e-7, abs=1e-9), name


def least_squares(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (x @ theta - y).square().sum() / len(x)


@pytest.mark.parametrize(("mode", "stack"), list(itertools.product(MODES, STACKS)))
def test_one_step_of_least_squares_has_its_closed_form(mode: str, stack: str) -> None:
    """With r = X t0 - y and q = A' (A t1 - b) / N at t1 = t0 - (lr / M) X' r, the gradient is linear algebra."""
    rng = seeds.numpy_rng(seeds.Address(5, stream="least squares"))
    theta0, X, y, A, b = (torch.from_numpy(rng.standard_normal(s)) for s in [(3,), (5, 3), (5,), (8, 3), (8,)])
    lr, M, N = 0.4, 5, 8
    r = X @ theta0 - y
    theta1 = theta0 - lr / M * X.T @ r
    q = A.T @ (A @ theta1 - b) / N
    expected = {
        "loss": 0.5 * (A @ theta1 - b).square().mean(),
        "theta0": q - lr / M * X.T @ X @ q,
        "x": -lr / M * (torch.outer(r, q) + torch.outer(X @ q, theta0)),
        "y": lr / M * X @ q,
        "lr": -(X.T @ r) @ q / M,
    }
    steps = Steps(X[None], y[None], {"lr": torch.tensor([lr], dtype=torch.float64)})

    def total(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return least_squares(theta, x, y) * len(x)

    engine = make_engine(least_squares, mode, stack)
    if stack == "loop":
        found = unroll(engine, theta0, steps, [(1, outer_loss(total, A, b, 3))])
    else:
        whole = unroll(engine, theta0[None], steps, [(1, stacked_outer_loss(total, A[None], b[None], 3))])
        found = MetaGradient(whole.loss[0], whole.steps.map(lambda z: z[0]), whole.theta0[0], whole.final[0])
    got = {"loss": found.loss, "theta0": found.theta0, "x": found.steps.x[0], "y": found.steps.y[0]}
    got["lr"] = found.steps.hyper["lr"][0]
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found.final, theta1, rtol=1e-13, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_many_steps_down_a_parabola_have_their_closed_form(mode: str) -> None:
    """On x_t^2 theta^2 / 2 each step multiplies theta by c_t = 1 - lr_t x_t^2; the outer loss is theta_T^2 / 2."""
    length = 30
    x = torch.linspace(0.3, 1.1, length, dtype=torch.float64).reshape(length, 1)
    lr = torch.linspace(0.1, 0.6, length, dtype=torch.float64)
    theta0 = torch.tensor([1.7], dtype=torch.float64)
    c = 1 - lr * x[:, 0] ** 2
    end = theta0 * c.prod()
    y = torch.zeros(length, 1, dtype=torch.int64)
    engine = make_engine(lambda t, x, y: 0.5 * (x * t).square().sum(), mode)
    found = unroll(engine, theta0, Steps(x, y, {"lr": lr}), [(length, lambda t: (0.5 * t.square().sum(), t))])
    torch.testing.assert_close(found.final, end, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.theta0, end**2 / theta0, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.steps.hyper["lr"], -(end**2) * x[:, 0] ** 2 / c, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.steps.x[:, 0], -(end**2) * 2 * lr * x[:, 0] / c, rtol=1e-12, atol=0)
    assert not found.steps.y.any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("start", "stop"), [(0, 3), (2, 6), (3, 5), (5, 6)])
@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
def test_a_window_equals_an_unroll_that_detaches_at_its_start(
    make_case: Any, oracle: Any, gaps: Any, mode: str, start: int, stop: int, momentum: bool
) -> None:
    case = make_case(True, momentum, length=6)
    x, y = case.real
    expected = oracle(case, [(stop, lambda theta: case.total(theta, x, y) / len(x))], start)
    found = unroll(
        make_engine(case.loss, mode), case.theta0, case.steps, [(stop, outer_loss(case.total, x, y, 3))], start
    )
    errors = gaps(found, expected)
    assert max(errors.values()) < 1e-9, errors
    outside = [t for t in range(6) if not start <= t < stop]
    assert not found.steps.x[outside].any()
    assert not found.steps.hyper["lr"][outside].any()
    assert bool(found.theta0.any()) == (start == 0)


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("stack", STACKS)
def test_losses_of_several_judges_add(make_case: Any, oracle: Any, gaps: Any, stack: str, start: int) -> None:
    case = make_case(True, True, length=5)
    (x, y), lead = case.real, slice(None) if stack == "loop" else None
    pieces = [(5, x[:3], y[:3]), (2, x[3:5], y[3:5]), (4, x[5:], y[5:]), (4, x[:2], y[:2])]
    expected = oracle(case, [(t, lambda z, a=a, b=b: case.total(z, a, b) / len(a)) for t, a, b in pieces], start)
    make = outer_loss if stack == "loop" else stacked_outer_loss
    outer_losses = [(t, make(case.total, a[lead], b[lead], 2)) for t, a, b in pieces]
    whole = unroll(make_engine(case.loss, "reverse", stack), case.theta0[lead], case.steps, outer_losses, start)
    if stack == "vmap":
        whole = MetaGradient(whole.loss[0], whole.steps.map(lambda z: z[0]), whole.theta0[0], whole.final[0])
    errors = gaps(whole, expected)
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("stack", STACKS)
def test_a_judge_in_pieces_is_the_mean_over_all(make_case: Any, stack: str) -> None:
    case = make_case()
    x, y = case.real
    leaf = case.theta0.clone().requires_grad_()
    loss = case.total(leaf, x, y) / len(x)
    (push,) = torch.autograd.grad(loss, leaf)
    for chunk in (1, 2, 7, 100):
        if stack == "loop":
            value, gradient = outer_loss(case.total, x, y, chunk)(case.theta0)
        else:
            both = stacked_outer_loss(case.total, x[None], y[None], chunk)(case.theta0[None])
            value, gradient = both[0][0], both[1][0]
        torch.testing.assert_close(value, loss.detach(), rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient, push, rtol=1e-10, atol=1e-14)


def test_a_judge_in_bfloat16_is_near_and_float32(make_case: Any) -> None:
    case = make_case(dtype=torch.float32)
    exact, rough = (outer_loss(case.total, *case.real, 4, name)(case.theta0) for name in ("float32", "bfloat16"))
    assert rough[1].dtype == torch.float32
    torch.testing.assert_close(rough[0], exact[0], rtol=0.02, atol=0.02)
    assert not torch.equal(rough[1], exact[1])


@pytest.mark.parametrize("mode", MODES)
def test_the_loss_function_passes_gradcheck(make_case: Any, mode: str) -> None:
    case = make_case(True, True, length=2)
    engine, outer_losses = make_engine(case.loss, mode), [(2, outer_loss(case.total, *case.real, 3))]

    def function(theta0: Tensor, x: Tensor, y: Tensor, lr: Tensor, momentum: Tensor) -> Tensor:
        return unrolled_loss(engine, theta0, Steps(x, y, {"lr": lr, "momentum": momentum}), outer_losses)

    inputs = [case.theta0, case.steps.x, case.steps.y, *case.steps.hyper.values()]
    assert torch.autograd.gradcheck(function, [z.clone().requires_grad_() for z in inputs])


def test_the_loss_function_scales_with_what_comes_from_above(make_case: Any, oracle: Any) -> None:
    case, expected = make_case(), oracle(make_case())
    x, raw = case.steps.x.clone().requires_grad_(), case.steps.hyper["lr"].log().requires_grad_()
    outer_losses = [(4, outer_loss(case.total, *case.real, 3))]
    loss = unrolled_loss(make_engine(case.loss), case.theta0, Steps(x, case.steps.y, {"lr": raw.exp()}), outer_losses)
    (3 * loss + loss.square()).backward()
    factor = 3 + 2 * expected.loss
    torch.testing.assert_close(x.grad, factor * expected.steps.x, rtol=1e-9, atol=1e-13)
    chained = factor * expected.steps.hyper["lr"] * case.steps.hyper["lr"]
    torch.testing.assert_close(raw.grad, chained, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("mode", MODES)
def test_the_loss_of_a_stack_weighs_each_member(make_case: Any, oracle: Any, mode: str, soft: bool) -> None:
    case = make_case(soft, True)
    theta0 = torch.stack([case.theta0, -case.theta0]).requires_grad_()
    x, y = (z.expand(2, *z.shape) for z in case.real)
    live = case.steps.map(lambda z: z.clone().requires_grad_() if z.is_floating_point() else z)
    outer_losses = [(4, stacked_outer_loss(case.total, x, y, 3))]
    loss = unrolled_loss(make_engine(case.loss, mode, "vmap"), theta0, live, outer_losses)
    weights = torch.tensor([2.0, -0.5], dtype=torch.float64)
    (weights * loss).sum().backward()
    parts = [oracle(case._replace(theta0=t)) for t in theta0.detach()]

    def weighed(pick: Callable[[MetaGradient], Tensor]) -> Tensor:
        return 2.0 * pick(parts[0]) - 0.5 * pick(parts[1])

    torch.testing.assert_close(live.x.grad, weighed(lambda s: s.steps.x), rtol=1e-9, atol=1e-12)
    for name in ("lr", "momentum"):
        torch.testing.assert_close(
            live.hyper[name].grad, weighed(lambda s, name=name: s.steps.hyper[name]), rtol=1e-9, atol=1e-12
        )
    expected = torch.stack([2.0 * parts[0].theta0, -0.5 * parts[1].theta0])
    torch.testing.assert_close(theta0.grad, expected, rtol=1e-9, atol=1e-12)
    if soft:
        torch.testing.assert_close(live.y.grad, weighed(lambda s: s.steps.y), rtol=1e-9, atol=1e-12)


def test_a_second_derivative_is_refused_and_not_wrong(make_case: Any) -> None:
    case = make_case()
    x = case.steps.x.clone().requires_grad_()
    outer_losses = [(4, outer_loss(case.total, *case.real, 3))]
    loss = unrolled_loss(make_engine(case.loss), case.theta0, case.steps._replace(x=x), outer_losses)
    (g,) = torch.autograd.grad(loss.square(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        g.sum().backward()


@pytest.mark.parametrize("stack", STACKS)
def test_train_ends_where_the_unroll_ends(make_case: Any, stack: str) -> None:
    case = make_case(True, True, dtype=torch.float32)
    theta0 = case.theta0 if stack == "loop" else torch.stack([case.theta0, 2 * case.theta0])
    outer_losses = [(4, lambda theta: (theta.new_zeros(theta.shape[:-1]), torch.zeros_like(theta)))]
    engine = make_engine(case.loss, stack=stack)
    assert torch.equal(train(engine, theta0, case.steps), unroll(engine, theta0, case.steps, outer_losses).final)
