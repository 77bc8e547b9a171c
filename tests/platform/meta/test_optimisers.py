"""Inner optimisers: their transposes against autograd's, and one of the user's own inside the engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from raystill.platform.meta import differentiated, make_engine, optimisers, outer_loss, stacked_outer_loss, unroll
from raystill.platform.meta.optimisers import INNER_OPTIMISERS, MOMENTUM, SGD, Hyper, State, resolve
from raystill.platform.seeds import Address, torch_rng
from raystill.platform.spec import InnerSpec


def normal(*shape: int, stream: str) -> Tensor:
    return torch.randn(shape, generator=torch_rng(Address(3, stream=stream)), dtype=torch.float64)


@pytest.mark.parametrize("lead", [(), (3,)], ids=["one", "stack"])
@pytest.mark.parametrize("name", INNER_OPTIMISERS)
def test_a_written_transpose_is_autograds(name: str, lead: tuple[int, ...]) -> None:
    own = INNER_OPTIMISERS[name]
    state = tuple(normal(*lead, 5, stream=f"state {i}") for i in range(len(own.init(normal(5, stream="theta")))))
    g, cotangent = normal(*lead, 5, stream="g"), tuple(normal(*lead, 5, stream=f"c {i}") for i in range(len(state)))
    hyper = {"lr": normal(*lead, *([1] if lead else []), stream="lr"), "momentum": torch.tensor(0.7).double()}
    hyper["momentum"] = hyper["momentum"].expand(hyper["lr"].shape)
    found = own.vjp(state, g, hyper, cotangent)
    expected = differentiated(own.init, own.update).vjp(state, g, hyper, cotangent)
    for a, b in zip((*found[0], found[1]), (*expected[0], expected[1])):
        torch.testing.assert_close(a, b)
    for key in own.reads:
        torch.testing.assert_close(found[2][key].reshape(lead), expected[2][key].reshape(lead))


def averaged(decay: float = 0.5) -> optimisers.Optimiser:
    """g' = decay m + (1 - decay) g, divided by a running root mean square: Adam without its corrections."""

    def update(state: State, gradient: Tensor, hyper: Hyper) -> State:
        theta, mean, square = state
        mean = decay * mean + (1 - decay) * gradient
        square = 0.9 * square + 0.1 * gradient.square()
        return theta - hyper["lr"] * mean / (square + 1e-2).sqrt(), mean, square

    return differentiated(lambda theta: (theta, torch.zeros_like(theta), torch.zeros_like(theta)), update)


@pytest.mark.parametrize("stack", ["loop", "vmap"])
def test_ones_own_optimiser_is_differentiated_through(make_case: Any, stack: str) -> None:
    """Against finite differences of the loss along a random direction of the steps' inputs and rates."""
    case, own = make_case(True), averaged()
    x, y = case.real
    engine = make_engine(case.loss, stack=stack, optimiser=own)
    lead = (None,) if stack == "vmap" else ...
    make = stacked_outer_loss if stack == "vmap" else outer_loss
    losses = [(case.steps.length, make(case.total, x[lead], y[lead], 3))]
    found = unroll(engine, case.theta0[lead], case.steps, losses)
    way = {"x": normal(*case.steps.x.shape, stream="way"), "lr": normal(case.steps.length, stream="rates")}

    def at(shift: float) -> float:
        hyper = {"lr": case.steps.hyper["lr"] + shift * way["lr"]}
        steps = case.steps._replace(x=case.steps.x + shift * way["x"], hyper=hyper)
        return unroll(engine, case.theta0[lead], steps, losses).loss.item()

    slope = (found.steps.x * way["x"]).sum() + (found.steps.hyper["lr"] * way["lr"]).sum()
    assert (at(1e-5) - at(-1e-5)) / 2e-5 == pytest.approx(slope.item(), rel=1e-6)


def test_a_spec_names_the_optimiser() -> None:
    plugins = {"inner_optimisers": {"averaged": averaged, "ready": SGD, "wrong": lambda: {}}}
    assert resolve(InnerSpec()) is None
    assert resolve(InnerSpec(optimiser="sgd", momentum=0.5)) is SGD
    assert resolve(InnerSpec(optimiser="momentum", momentum=0.5)) is MOMENTUM
    assert resolve(InnerSpec(optimiser="ready"), plugins) is SGD
    own = resolve(InnerSpec(optimiser="averaged(decay=0.25)"), plugins)
    assert own is not None
    zero, one = torch.zeros(1), torch.ones(1)
    assert own.update((zero, zero, zero), one, {"lr": one})[1] == 0.75
    for text, words in [
        ("momentum", "inner.optimiser: momentum needs a momentum; set inner.momentum above 0"),
        ("averaged(dekay=1)", "inner.optimiser: averaged: no setting 'dekay'; did you mean 'decay'"),
        ("averagd", "inner.optimiser: unknown 'averagd'; did you mean 'averaged'"),
        ("wrong", "inner.optimiser: 'wrong' gives dict, and no raystill.platform.meta.Optimiser"),
        ("ready(decay=1)", "inner.optimiser: 'ready' is Optimiser, which can not be called"),
    ]:
        with pytest.raises(ValueError, match=f"^{words}"):
            resolve(InnerSpec(optimiser=text), plugins)
