"""Work items as a whole: the meta-gradient against a hand-written unroll over the meta-parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from raystill.platform.data import DataSet, load
from raystill.platform.seeds import Address
from raystill.platform.spec import DataSpec, DistillSpec
from raystill.platform.work.kinds import KINDS
from raystill.platform.work.meta_gradient import MetaGradientOptions, ValidateOptions
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench

SPEC = {
    "learner": {"name": "mlp", "width": 8, "depth": 1},
    "synthesizer": {"steps": 2, "epochs": 2, "start": "average"},
    "inner": {"lr": 0.1, "momentum": 0.5, "learn_momentum": True},
    "outer": {"members": 4, "chunk": 2, "batch_size": 1000},
    "validation": {"images": 100},
    "meta": {"chunk": 40},
}
LIMIT = 96


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load(DataSpec(limit=LIMIT, cache=tmp_path_factory.mktemp("cache")))


@pytest.fixture
def bench(digits: DataSet) -> Callable[..., Workbench]:
    def make(plugins: Any = None, **changes: Any) -> Workbench:
        sections = {k: {**SPEC.get(k, {}), **changes.get(k, {})} for k in SPEC.keys() | changes.keys()}
        return Workbench(resolve_auto(DistillSpec.model_validate(sections), "cpu"), plugins, digits)

    return make


def start(bench: Workbench) -> dict[str, np.ndarray]:
    return bench.synthesizer.start(bench.data, Address(0, stream="start"))


def work(bench: Workbench, members: int = 2, first: int = 0, step: int = 5) -> tuple[float, dict[str, np.ndarray]]:
    address = Address(0, 0, step, first)
    numbers, arrays = KINDS["meta_gradient"](bench, address, MetaGradientOptions(members), start(bench))
    return numbers["loss"], arrays


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        gap = np.linalg.norm(found[name].astype(float) - expected[name]) / np.linalg.norm(expected[name].astype(float))
        assert gap < tolerance, (name, gap)


def by_hand(bench: Workbench, member: int, begin: int, stop: int) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradient of one member that sees the whole training split; truncated to the steps begin..stop."""
    soft = bench.spec.synthesizer.labels == "soft"
    meta = {k: torch.from_numpy(v).double().requires_grad_() for k, v in start(bench).items()}
    learner = bench.problem(bench.spec.learner).learner
    theta = learner.init(Address(0, 0, 5, member, "/theta0")).double().requires_grad_()
    velocity = torch.zeros_like(theta)
    hidden, shapes = 8, [(8, 64), (8,), (10, 8), (10,)]

    def network(flat: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        w1, b1, w2, b2 = (z.view(s) for z, s in zip(flat.split([8 * 64, hidden, 80, 10]), shapes))
        return torch.relu(x.flatten(1) @ w1.T + b1) @ w2.T + b2

    for t in range(stop):
        if t == begin and begin:
            theta, velocity = theta.detach().requires_grad_(), velocity.detach()
        labels = meta["labels"][t % 2] if soft else torch.arange(10)
        loss = F.cross_entropy(network(theta, meta["images"][t % 2]), labels)
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        velocity = torch.sigmoid(meta["momentum"][t]) * velocity + g
        theta = theta - F.softplus(meta["lr"][t]) * velocity
    mean, std = (torch.tensor(v).double()[:, None, None] for v in (bench.data.mean, bench.data.std))
    real = (torch.from_numpy(np.array(bench.data.train.x)).double() / 255 - mean) / std
    judged = F.cross_entropy(network(theta, real), torch.from_numpy(np.array(bench.data.train.y)))
    gradients = torch.autograd.grad(judged, list(meta.values()))
    return judged.item(), {k: g.numpy() for k, g in zip(meta, gradients)}


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize(("mode", "stack"), [("reverse", "loop"), ("forward", "loop"), ("reverse", "vmap")])
def test_is_the_gradient_of_a_hand_written_unroll(bench: Any, labels: str, mode: str, stack: str) -> None:
    made = bench(synthesizer={"labels": labels}, meta={"mode": mode, "stack": stack})
    loss, found = work(made)
    parts = [by_hand(made, member, 0, 4) for member in range(2)]
    assert set(found) == {"images", "lr", "momentum"} | ({"labels"} if labels == "soft" else set())
    assert loss == pytest.approx(sum(value for value, _ in parts), rel=1e-6)
    close(found, {k: parts[0][1][k] + parts[1][1][k] for k in found}, 2e-5)
    assert {g.dtype for g in found.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("place", ["last", "random"])
def test_a_window_is_the_truncated_unroll(bench: Any, place: str) -> None:
    made = bench(meta={"window": 2, "window_at": place})
    loss, found = work(made, members=1)
    inside = np.flatnonzero(found["lr"])
    begin, stop = int(inside[0]), int(inside[-1]) + 1
    assert stop - begin == 2
    assert place == "random" or stop == 4
    value, expected = by_hand(made, 0, begin, stop)
    assert loss == pytest.approx(value, rel=1e-6)
    close(found, expected, 2e-5)


@pytest.mark.parametrize("stack", ["loop", "vmap"])
@pytest.mark.parametrize(("between", "at"), [(1, (1, 2, 3)), (2, (2,)), (3, (3,))])
def test_judgements_between_add_their_weighed_mean(bench: Any, stack: str, between: int, at: tuple[int, ...]) -> None:
    ask = {"intermediate_every": between, "intermediate_weight": 0.4, "intermediate_size": 1000}
    loss, found = work(bench(outer=ask, meta={"stack": stack}), members=1)
    end, parts = by_hand(bench(), 0, 0, 4), [by_hand(bench(), 0, 0, stop) for stop in at]
    assert loss == pytest.approx(end[0] + 0.4 * np.mean([value for value, _ in parts]), rel=1e-6)
    close(found, {k: end[1][k] + 0.4 * sum(g[k] for _, g in parts) / len(at) for k in found}, 2e-5)


def test_judgements_between_see_minibatches_of_their_own(bench: Any) -> None:
    fixed = {"initialisation": {"kind": "fixed"}, "inner": {"lr": 1e-9}}  # every judgement sees the same weights
    alone = work(bench(outer={"batch_size": 16}, **fixed), 1)[0]
    both = work(
        bench(
            outer={"batch_size": 16, "intermediate_every": 2, "intermediate_weight": 1.0, "intermediate_size": 16},
            **fixed,
        ),
        1,
    )[0]
    assert both != pytest.approx(2 * alone, rel=1e-3)


def test_a_window_has_no_judgement_before_it(bench: Any) -> None:
    made = bench(
        meta={"window": 2}, outer={"intermediate_every": 1, "intermediate_weight": 0.5, "intermediate_size": 1000}
    )
    loss, found = work(made, members=1)
    end, between = by_hand(made, 0, 2, 4), by_hand(made, 0, 2, 3)
    assert loss == pytest.approx(end[0] + 0.5 / 3 * between[0], rel=1e-6)
    close(found, {k: end[1][k] + 0.5 / 3 * between[1][k] for k in found}, 2e-5)


def test_a_random_window_is_one_for_all_members_of_a_step_and_moves_from_step_to_step(bench: Any) -> None:
    made = bench(meta={"window": 1, "window_at": "random"})

    def place(step: int, first: int) -> int:
        return int(np.flatnonzero(work(made, 1, first, step)[1]["lr"])[0])

    places = [place(step, 0) for step in range(8)]
    assert places == [place(step, 3) for step in range(8)]
    assert len(set(places)) > 1


def test_a_window_as_long_as_the_unroll_is_the_whole_unroll(bench: Any) -> None:
    whole, found = work(bench()), work(bench(meta={"window": 4, "window_at": "random"}))
    assert whole[0] == found[0]
    assert all(np.array_equal(whole[1][k], found[1][k]) for k in whole[1])


def test_the_same_address_gives_the_same_bits(bench: Any) -> None:
    first, second = work(bench()), work(bench())
    assert first[0] == second[0]
    assert all(first[1][k].tobytes() == second[1][k].tobytes() for k in first[1])
    assert work(bench(), step=6)[0] != first[0]


def test_a_chunk_is_the_sum_of_its_members_in_their_order(bench: Any) -> None:
    made = bench(outer={"batch_size": 32})
    loss, found = work(made, members=3, first=1)
    alone = [work(made, 1, member) for member in (1, 2, 3)]
    assert loss == pytest.approx(sum(value for value, _ in alone), rel=1e-12)
    close(found, {k: sum(g[k].astype(np.float64) for _, g in alone) for k in found}, 1e-6)
    assert len({value for value, _ in alone}) == 3


@pytest.mark.parametrize("kind", ["fixed", "random"])
def test_members_by_loop_and_by_vmap_agree(bench: Any, kind: str) -> None:
    ask = {"initialisation": {"kind": kind}, "outer": {"batch_size": 32}}
    loop = work(bench(**ask, meta={"stack": "loop"}), 3)
    stacked = work(bench(**ask, meta={"stack": "vmap"}), 3)
    assert loop[0] == pytest.approx(stacked[0], rel=1e-6)
    close(stacked[1], loop[1], 1e-5)


def test_a_real_minibatch_is_each_members_own_or_one_for_all(bench: Any) -> None:
    fixed = {"initialisation": {"kind": "fixed"}}  # so that members differ in their minibatch alone
    own = bench(**fixed, outer={"batch_size": 16})
    shared = bench(**fixed, outer={"batch_size": 16, "batch": "shared"})
    first, second = (work(own, 1, member)[0] for member in (0, 1))
    assert first != second
    assert work(shared, 1, 0)[0] == work(shared, 1, 1)[0] == first
    assert work(shared, 1, 0, step=6)[0] != first


def test_validation_is_the_same_networks_at_every_step(bench: Any) -> None:
    made = bench()
    meta = start(made)

    def score(step: int, member: int) -> float:
        return KINDS["validate"](made, Address(0, 0, step, member), ValidateOptions(), meta)[0]["accuracy"]

    values = [score(0, member) for member in range(4)]
    assert [score(9, member) for member in range(4)] == values
    assert len(set(values)) > 1
    assert all(0 <= v <= 1 for v in values)


def test_validation_counts_what_a_network_trained_by_hand_names_rightly(bench: Any) -> None:
    made = bench(validation={"images": 60})
    problem = made.problem(made.spec.learner)
    theta = problem.learner.init(Address(0, 0, 0, 2, "validate/theta0")).requires_grad_()
    steps, velocity = made.synthesizer.steps(made.tensors(start(made)), Address(0)), torch.zeros_like(theta)
    for t in range(4):
        loss = F.cross_entropy(problem.learner.apply(theta, steps.x[t]), steps.y[t])
        (g,) = torch.autograd.grad(loss, theta)
        velocity = 0.5 * velocity + g
        theta = (theta - 0.1 * velocity).detach().requires_grad_()
    count = len(made.validation)  # 60 of them, evenly spaced: a source may be sorted by class
    x, y = made.validation.batch(np.array([n * count // 60 for n in range(60)]))
    expected = (problem.learner.apply(theta, x).argmax(1) == y).float().mean().item()
    found = KINDS["validate"](made, Address(0, 0, 9, 2), ValidateOptions(), start(made))[0]["accuracy"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_auto_is_resolved_into_the_spec_and_choices_are_kept() -> None:
    for device, stack in (("cpu", "loop"), ("cuda", "vmap")):
        found = resolve_auto(DistillSpec(), device)
        assert (found.meta.stack, found.run.device) == (stack, device)
        assert "auto" not in (found.meta.mode, found.meta.stack, found.meta.compile)
    asked = DistillSpec.model_validate({"meta": {"mode": "forward", "stack": "loop"}})
    assert resolve_auto(asked, "cuda").meta.stack == "loop"
    assert resolve_auto(asked, "cuda").meta.mode == "forward"
