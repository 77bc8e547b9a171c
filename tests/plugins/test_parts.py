"""The parts of the package against closed forms, finite differences and the built-in estimator."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raystill.platform.data import DataSet, Split
from raystill.platform.learners import wrap
from raystill.platform.objectives import Out, Step
from raystill.platform.seeds import Address, numpy_rng, torch_rng
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import LEARN
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench

SOURCE = Path(__file__).parents[1] / "plugin_package" / "src"


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """A module of the package by its name."""
    monkeypatch.syspath_prepend(str(SOURCE))
    yield lambda name: import_module(f"elsewhere.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "elsewhere"]:
        del sys.modules[name]


def test_nesterov_is_torchs(part: Callable[[str], Any]) -> None:
    optimiser = part("optimiser").nesterov(0.7)
    theta = torch.randn(5, generator=torch_rng(Address(0)), dtype=torch.float64)
    other = theta.clone().requires_grad_()
    reference = torch.optim.SGD([other], lr=0.1, momentum=0.7, nesterov=True)
    state = optimiser.init(theta)
    for t in range(4):
        state = optimiser.update(state, (t + 1) * state[0], {"lr": torch.tensor(0.1, dtype=torch.float64)})
        other.grad = (t + 1) * other.detach()
        reference.step()
    torch.testing.assert_close(state[0], other.detach(), rtol=1e-14, atol=1e-14)


def test_nesterovs_transpose_by_differences(part: Callable[[str], Any]) -> None:
    optimiser, rng = part("optimiser").nesterov(0.7), torch_rng(Address(1))
    theta, velocity, gradient, c, w = torch.randn(5, 6, generator=rng, dtype=torch.float64)
    lr = torch.tensor(0.3, dtype=torch.float64)

    def value(theta: torch.Tensor, velocity: torch.Tensor, gradient: torch.Tensor, lr: torch.Tensor) -> float:
        a, b = optimiser.update((theta, velocity), gradient, {"lr": lr})
        return float(a @ c + b @ w)

    states, g, rates = optimiser.vjp((theta, velocity), gradient, {"lr": lr}, (c, w))
    given = (theta, velocity, gradient, lr)
    for n, cotangent in enumerate((*states, g, rates["lr"])):
        for i in range(given[n].numel()):
            step = torch.zeros(given[n].numel(), dtype=torch.float64)
            step[i] = 1e-6
            up, down = (
                value(*(v + s * step.view(v.shape) if m == n else v for m, v in enumerate(given))) for s in (1, -1)
            )
            assert cotangent.reshape(-1)[i].item() == pytest.approx((up - down) / 2e-6, abs=1e-8)


def test_focal_is_its_formula(part: Callable[[str], Any]) -> None:
    focal = part("objective").focal
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.5, 0.25]], dtype=torch.float64)
    step = Step(torch.zeros(2, 1), torch.tensor([0, 2]), Out(logits))
    q = logits.softmax(1)[[0, 1], [0, 2]]
    torch.testing.assert_close(focal(step, 3.0), -((1 - q) ** 3) * q.log())
    torch.testing.assert_close(focal(step, 0.0), -q.log())


def test_scaled_multiplies_a_fresh_networks_weights(part: Callable[[str], Any]) -> None:
    learner = wrap(torch.nn.Linear(3, 2))
    one, three = (part("initialisation").scaled(DistillSpec(), factor) for factor in (1.0, 3.0))
    torch.testing.assert_close(three(learner, Address(4)), 3 * one(learner, Address(4)))
    assert not torch.equal(one(learner, Address(4)), one(learner, Address(5)))


def test_tiny_lists_reads_and_builds_its_networks(part: Callable[[str], Any]) -> None:
    space = part("space").TINY
    archs = list(space.all())
    assert [arch.text for arch in archs] == ["tiny:w4-tanh", "tiny:w4-relu", "tiny:w8-tanh", "tiny:w8-relu"]
    for arch in archs:
        assert space.parse(arch.text) == arch
        assert arch.parameters((1, 1, 24), 3) == 24 * arch.genome[0] + arch.genome[0] + 3 * arch.genome[0] + 3


def test_evolutions_difference_is_the_unrolls_directional_derivative(part: Callable[[str], Any]) -> None:
    estimator = part("estimator")
    rng = numpy_rng(Address(0, stream="pixels"))
    split = Split(rng.integers(0, 256, (60, 1, 4, 4), np.uint8), np.arange(60) % 3)
    data = DataSet("made", ("a", "b", "c"), split, split, split, (0.5,), (0.25,), "0" * 64)
    sections = {
        "learner": {"name": "mlp", "width": 8, "depth": 1},
        "synthesizer": {"steps": 3, "epochs": 1},
        "outer": {"batch_size": 60},
    }
    bench = Workbench(resolve_auto(DistillSpec.model_validate(sections), "cpu"), None, data)
    start = bench.synthesizer.start(data, Address(0, stream="start"))
    steps = bench.synthesizer.steps(bench.tensors(start), Address(0, stream=LEARN)).map(torch.Tensor.detach)
    addresses = [Address(0, member=j) for j in range(3)]
    for at, exact in zip(addresses, bench.estimator(bench, steps, addresses), strict=True):
        (estimate,) = estimator.evolution(bench, steps, [at], sigma=1e-2, pairs=1)
        e = estimator.noise(steps, at, 0)
        along = float((exact.steps.x * e.x).sum() + (exact.steps.hyper["lr"] * e.hyper["lr"]).sum())
        torch.testing.assert_close(estimate.steps.x, along * e.x, rtol=0.02, atol=1e-4)
        torch.testing.assert_close(estimate.steps.hyper["lr"], along * e.hyper["lr"], rtol=0.02, atol=1e-4)
        torch.testing.assert_close(estimate.loss, exact.loss)
        torch.testing.assert_close(estimate.final, exact.final)
    (few, many) = (estimator.evolution(bench, steps, addresses[:1], 1e-2, pairs)[0].steps.x for pairs in (4, 256))
    target = bench.estimator(bench, steps, addresses[:1])[0].steps.x
    errors = [float((value - target).norm() / target.norm()) for value in (few, many)]
    # the error of a mean of n pairs falls with the square root of n: 64 times as many, an eighth
    assert errors[1] < errors[0] / 4


def test_waves_repeat_and_have_three_kinds(part: Callable[[str], Any]) -> None:
    first, second = (part("waves").waves(None) for _ in range(2))
    np.testing.assert_array_equal(first.splits["train"].images, second.splits["train"].images)
    assert first.splits["train"].images.shape == (120, 24)
    assert np.bincount(first.splits["test"].labels).tolist() == [20, 20, 20]
    assert all(a.images.shape[1] == b.images.shape[1] for a, b in pairwise(first.splits.values()))
