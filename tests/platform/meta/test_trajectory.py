"""Unrolls within a budget: the schedule against dynamic programming, results bit for bit against unbudgeted ones."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raystill.platform import seeds
from raystill.platform.data import DataSet, load
from raystill.platform.learners import wrap
from raystill.platform.meta import MetaGradient, make_engine, outer_loss, stacked_outer_loss, unroll
from raystill.platform.meta.trajectory import Tape, checkpoints, slots
from raystill.platform.spec import DataSpec, DistillSpec, MetaSpec
from raystill.platform.work.kinds import KINDS
from raystill.platform.work.meta_gradient import MetaGradientOptions
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench


@lru_cache(None)
def fewest(steps: int, room: int) -> int:
    """Bellman's equation of the schedule: steps computed, the first walk to the segment's last state among them."""
    if room == 1:
        return steps * (steps - 1) // 2
    return min((d + fewest(steps - d, room - 1) + fewest(d, room) for d in range(1, steps)), default=0)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 9, 20])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 21, 33, 60])
def test_no_schedule_in_as_many_slots_computes_fewer_steps(steps: int, room: int) -> None:
    again, begin = [], 100

    def advance(state: Any, t: int) -> Any:
        assert state == (t,)
        again.append(t)
        return (t + 1,)

    tape = Tape(begin, begin + steps, room, advance)
    for t in range(begin + steps):
        tape.put(t, (t,))  # numbers for states: the tape never looks into them
        assert len(tape._states) <= room
    for t in reversed(range(begin, begin + steps)):
        assert tape.take(t) == (t,)
        assert len(tape._states) <= room
    first_walk = max(checkpoints(0, steps - 1, room))  # the way on from there to the end is every unroll's
    assert len(again) == (0 if steps <= room else fewest(steps, room) - first_walk)


def test_a_thousand_steps_in_square_root_many_slots_are_computed_twice_at_most() -> None:
    again: list[int] = []
    tape = Tape(0, 1000, 44, lambda state, t: (again.append(t), state)[1])
    for t in range(1000):
        tape.put(t, ())
    for t in reversed(range(1000)):
        tape.take(t)
    assert len(again) == len(set(again)) > 900


class Normed(nn.Module):
    """A network with group norm, whose gradient has other last bits where autograd keeps its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.GroupNorm(4, 4),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)


def parts(meta_gradient: MetaGradient) -> list[Tensor]:
    return [
        meta_gradient.loss,
        meta_gradient.theta0,
        meta_gradient.final,
        meta_gradient.steps.x,
        meta_gradient.steps.y,
        *meta_gradient.steps.hyper.values(),
    ]


def unrolled(case: Any, engine: Any, stack: str, at: tuple[int, ...] = (), start: int = 0) -> MetaGradient:
    """A meta-gradient with outer losses after several steps; of two members where they are stacked."""
    x, y = case.real
    if stack == "loop":
        return unroll(engine, case.theta0, case.steps, [(t, outer_loss(case.total, x, y, 3)) for t in at], start)
    both = stacked_outer_loss(case.total, torch.stack([x, x + 1]), torch.stack([y, y]), 3)
    return unroll(engine, torch.stack([case.theta0, -case.theta0]), case.steps, [(t, both) for t in at], start)


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
@pytest.mark.parametrize(("mode", "stack", "keep"), [
    ("reverse", "loop", 0), ("reverse", "loop", 1 << 30), ("reverse", "loop", 200_000),
    ("forward", "loop", 0), ("reverse", "vmap", 0), ("forward", "vmap", 0),
])  # fmt: skip
def test_a_budget_changes_no_bit(make_case: Any, mode: str, stack: str, keep: int, momentum: bool, start: int) -> None:
    with seeds.fixed_global():
        learner = wrap(Normed())
    case = make_case(True, momentum, length=17, dtype=torch.float32, learner=learner, shape=(1, 4, 4))
    at = (17, 9)
    free = unrolled(case, make_engine(case.loss, mode, stack, keep), stack, at, start)
    state = case.theta0.numel() * 4 * (1 + momentum) * (2 if stack == "vmap" else 1)
    for budget in (state, 2 * state + 1, 5 * state, 13 * state, 17 * state, 17 * state + 100_000, 1 << 30):
        found = unrolled(case, make_engine(case.loss, mode, stack, keep, memory=budget), stack, at, start)
        assert all(torch.equal(a, b) for a, b in zip(parts(free), parts(found))), budget


@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_budgeted_unroll_equals_a_plain_autograd_unroll(
    make_case: Any, oracle: Any, gaps: Any, mode: str, momentum: bool
) -> None:
    case = make_case(True, momentum, length=12)
    engine = make_engine(case.loss, mode, memory=3 * 2 * case.theta0.numel() * 8)
    errors = gaps(unrolled(case, engine, "loop", (12,)), oracle(case))
    assert max(errors.values()) < 1e-9, errors


@pytest.mark.parametrize("memory", [None, 6], ids=["whole", "budgeted"])
@pytest.mark.parametrize("momentum", [False, True], ids=["sgd", "momentum"])
@pytest.mark.parametrize("stack", ["loop", "vmap"])
def test_a_rounded_trajectory_gives_a_near_gradient_and_the_same_forward_pass(
    make_case: Any, gaps: Any, stack: str, momentum: bool, memory: int | None
) -> None:
    case = make_case(True, momentum, length=20)
    budget = memory and memory * case.theta0.numel() * 8 * (1 + momentum) * (2 if stack == "vmap" else 1)
    exact = unrolled(case, make_engine(case.loss, stack=stack), stack, (20,))
    engine = make_engine(case.loss, stack=stack, memory=budget, trajectory="bfloat16")
    found = unrolled(case, engine, stack, (20,))
    assert torch.equal(found.loss, exact.loss)
    assert torch.equal(found.final, exact.final)
    errors = gaps(found, exact)
    assert 1e-9 < errors["x"] < 5e-3, errors
    assert max(errors.values()) < 5e-3, errors


def test_what_rounding_loses_does_not_add_up() -> None:
    rng = seeds.torch_rng(seeds.Address(1, stream="walk"))
    walk = torch.randn(300, 50, generator=rng).mul(0.01).cumsum(0) + 1
    tape = Tape(0, 300, 300, lambda state, t: state, torch.bfloat16)
    for t in range(300):
        tape.put(t, (walk[t],))
    for t in reversed(range(300)):
        step = (walk[t] - walk[t - 1]).abs() if t else torch.zeros(50)
        gap = (tape.take(t)[0] - walk[t]).abs()
        # half a unit of bfloat16's last place, of a step that corrects the one before; float32's own sums beside it
        assert (gap <= 2.0**-8 * (step + 2e-4) + 300 * 2.0**-24).all()


def test_a_budget_too_small_for_one_step_is_one_clear_line(make_case: Any) -> None:
    case = make_case(False, True)
    least = 2 * 8 * case.theta0.numel()
    line = rf"^meta\.memory: {least - 1:,} bytes are too small for one step, which takes {least:,}: [^\n]*$"
    with pytest.raises(ValueError, match=line):
        unrolled(case, make_engine(case.loss, memory=least - 1), "loop", (4,))
    with pytest.raises(ValueError, match=f"which takes {2 * least:,}:"):
        unrolled(case, make_engine(case.loss, stack="vmap", memory=least), "vmap", (4,))


def test_slots_are_what_a_budget_holds() -> None:
    state = (torch.zeros(100), torch.zeros(100))
    assert slots(None, state, 7) == (7, 5600)
    assert slots(2399, state, 7) == (2, 1600)
    assert slots(1 << 20, state, 7) == (7, 5600)
    assert slots(2399, state, 7, torch.bfloat16) == (4, 2000)
    assert slots(800, state, 7, torch.bfloat16) == (1, 800)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load(DataSpec(limit=60, cache=tmp_path_factory.mktemp("cache")))


def bench(digits: DataSet, momentum: float = 0.0, **meta: Any) -> Workbench:
    spec = {
        "learner": {"name": "mlp", "width": 8, "depth": 1}, "synthesizer": {"epochs": 9},
        "inner": {"momentum": momentum}, "outer": {"members": 2, "chunk": 2, "batch_size": 50}, "meta": meta,
    }  # fmt: skip
    return Workbench(resolve_auto(DistillSpec.model_validate(spec), "cpu"), None, digits)


@pytest.mark.parametrize("stack", ["loop", "vmap"])
def test_a_spec_with_a_budget_makes_the_same_bits(digits: DataSet, stack: str) -> None:
    def item(made: Workbench) -> dict[str, np.ndarray]:
        start = made.synthesizer.start(made.data, seeds.Address(0, stream="start"))
        return KINDS["meta_gradient"](made, seeds.Address(0, 0, 3, 0), MetaGradientOptions(2), start)[1]

    free, budgeted, rounded = (
        item(bench(digits, stack=stack, **more))
        for more in ({}, {"memory": "15kB"}, {"memory": "15kB", "trajectory": "bfloat16"})
    )
    assert all(free[k].tobytes() == budgeted[k].tobytes() for k in free)
    if stack == "vmap":  # a loop keeps the graphs of all these steps, and rounds none
        assert any(free[k].tobytes() != rounded[k].tobytes() for k in free)
    for k in free:
        np.testing.assert_allclose(rounded[k], free[k], atol=0.01 * np.abs(free[k]).max())


def test_a_spec_with_a_budget_that_is_too_small_is_refused_before_the_work(digits: DataSet) -> None:
    least = 4 * (8 * 64 + 8 + 80 + 10)
    for factor, given in ((1, {}), (2, {"momentum": 0.5}), (2, {"stack": "vmap"})):
        bench(digits, memory=str(factor * least), **given)
        with pytest.raises(ValueError, match=f"^meta.memory: .* which takes {factor * least:,}:"):
            bench(digits, memory=str(factor * least - 1), **given)


@pytest.mark.parametrize(("text", "size"), [("256MB", 256_000_000), ("64MiB", 64 << 20), ("1.5GB", 1_500_000_000)])
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    spec = MetaSpec.model_validate({"memory": text})
    assert spec.memory == size
    assert MetaSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("text", ["much", "0", "-1MB", "12XB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="memory"):
        MetaSpec.model_validate({"memory": text})
