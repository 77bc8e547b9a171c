"""Memory by counting live bytes, not by asking the operating system: the same number on every machine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from raystill.platform.meta import make_engine, outer_loss, stacked_outer_loss, unroll


class Live(TorchDispatchMode):
    """Bytes of the storages that were made inside and are alive, at their highest."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {z.untyped_storage()._cdata for z in tree_leaves((args, kwargs)) if isinstance(z, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in given:
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.alive = {k: v for k, v in self.alive.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


def peak(case: Any, mode: str, stack: str, keep: int = 0, **kept: Any) -> int:
    engine, (x, y) = make_engine(case.loss, mode, stack, keep, **kept), case.real
    if stack == "loop":
        theta0, outer_losses = case.theta0, [(case.steps.length, outer_loss(case.total, x, y, 3))]
    else:
        theta0, outer_losses = (
            case.theta0[None],
            [(case.steps.length, stacked_outer_loss(case.total, x[None], y[None], 3))],
        )
    with Live() as live:
        unroll(engine, theta0, case.steps, outer_losses)
    return live.peak


def per_step(case: Any) -> int:
    """What one step may cost: its state, and the cotangents that are the result."""
    steps, states = case.steps, 2 if "momentum" in case.steps.hyper else 1
    results = steps.x[0].numel() + steps.y[0].numel() + len(steps.hyper)
    return int((states * case.theta0.numel() + results) * case.theta0.element_size())


@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
@pytest.mark.parametrize("stack", ["loop", "vmap"])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_memory_grows_with_the_parameters_alone(make_case: Any, mode: str, stack: str, momentum: bool) -> None:
    short, long = make_case(True, momentum, length=6), make_case(True, momentum, length=16)
    growth = (peak(long, mode, stack) - peak(short, mode, stack)) / 10
    assert growth == per_step(long)


def test_a_plain_unroll_grows_by_more(make_case: Any, oracle: Any) -> None:
    """The measure itself: it must see the graphs that plain autograd keeps."""

    def plain(length: int) -> int:
        with Live() as live:
            oracle(make_case(True, length=length))
        return live.peak

    assert (plain(16) - plain(6)) / 10 > 2 * per_step(make_case(True))


def test_kept_graphs_stay_within_their_budget_whatever_the_length(make_case: Any) -> None:
    few, some, many = (make_case(True, length=length) for length in (8, 20, 30))
    budget = 20_000
    for case in (few, some):
        assert 0 < peak(case, "reverse", "loop", budget) - peak(case, "reverse", "loop") <= budget
    growth = (peak(many, "reverse", "loop", budget) - peak(some, "reverse", "loop", budget)) / 10
    assert growth <= per_step(some)
    assert peak(some, "reverse", "loop", 1 << 30) - peak(some, "reverse", "loop") > budget


@pytest.mark.parametrize("stack", ["loop", "vmap"])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_budget_bounds_states_whatever_the_length(make_case: Any, mode: str, stack: str) -> None:
    short, long = make_case(True, True, length=10), make_case(True, True, length=40)
    state = 2 * long.theta0.numel() * 8
    growth = peak(long, mode, stack, memory=6 * state) - peak(short, mode, stack, memory=6 * state)
    results = 30 * (per_step(long) - state)  # the cotangents
    assert growth <= results + 2 * state  # the one in flight, and the one that it becomes
    # and what a budget saves is what it holds less
    saved = peak(long, mode, stack) - peak(long, mode, stack, memory=6 * state)
    assert (40 - 6 - 3) * state <= saved <= (40 - 6) * state


def test_rounded_states_take_half(make_case: Any) -> None:
    short, long = (make_case(True, True, length=length, dtype=torch.float32) for length in (20, 60))
    growth = peak(long, "reverse", "loop", trajectory="bfloat16") - peak(
        short, "reverse", "loop", trajectory="bfloat16"
    )
    assert growth / 40 == per_step(long) - 2 * long.theta0.numel() * 4 / 2
