"""CONTRIBUTING's snippets run, and each part is found through its registry and does what its text says."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raystill.platform import registry
from raystill.platform.architectures import parse
from raystill.platform.data import DataSet, Split
from raystill.platform.initialisation.starts import build as build_initialisation
from raystill.platform.initialisation.starts import fresh
from raystill.platform.learners import wrap
from raystill.platform.meta.estimators import unroll
from raystill.platform.objectives import Out, Step, make
from raystill.platform.seeds import Address, numpy_rng, torch_rng
from raystill.platform.spec import DistillSpec
from raystill.platform.students.teachers import Teacher
from raystill.platform.synthesis import LEARN
from raystill.platform.work.problem import resolve_auto
from raystill.platform.work.workbench import Workbench

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """The names that the page's snippets define, run in their order."""
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL):
        exec(snippet, names)
    return names


def test_every_group_of_parts_is_named(parts: dict[str, Any]) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert not [group for group in registry.GROUPS if group != "kinds" and f"`{group}`" not in page]
    assert {"perceptron", "square", "brier", "mirrored", "shrunk", "decayed", "halved", "colder", "stripes"} <= set(
        parts
    )


def test_the_learner_and_the_space(parts: dict[str, Any]) -> None:
    arch = parse("square:w8", {"spaces": {"square": parts["square"]}})
    logits = arch.build((1, 4, 4), 3)(torch.zeros(2, 1, 4, 4))
    assert logits.shape == parts["perceptron"]((1, 4, 4), 3, None, None)(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
    assert arch.parameters((1, 4, 4), 3) == 16 * 8 + 8 + 8 * 3 + 3


def test_the_objective_is_its_formula(parts: dict[str, Any]) -> None:
    objective = make("brier", {"scale": 2.0}, {"objectives": {"brier": parts["brier"]}})
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]])
    loss = objective(Step(x=torch.zeros(2, 1), y=torch.tensor([0, 1]), student=Out(logits)))
    torch.testing.assert_close(loss, torch.tensor([2 * (0.5**2 + 0.5**2), 2 * (0.75**2 + 0.75**2)]))


def test_the_inner_optimiser_and_its_transpose(parts: dict[str, Any]) -> None:
    optimiser, lr = parts["decayed"](0.5), torch.tensor(0.1)
    theta, gradient, cotangent = torch.randn(3, 4, generator=torch_rng(Address(0)))
    (after,) = optimiser.update((theta,), gradient, {"lr": lr})
    torch.testing.assert_close(after, 0.95 * theta - 0.1 * gradient)
    (state,), g, rates = optimiser.vjp((theta,), gradient, {"lr": lr}, (cotangent,))
    torch.testing.assert_close(state, 0.95 * cotangent)
    torch.testing.assert_close(g, -0.1 * cotangent)
    torch.testing.assert_close(rates["lr"], -(cotangent * (gradient + 0.5 * theta)).sum())


def test_the_initialisation(parts: dict[str, Any]) -> None:
    spec = DistillSpec.model_validate({"initialisation": {"kind": "halved(factor=0.25)"}})
    start = build_initialisation(spec, {"initialisations": {"halved": parts["halved"]}})
    learner = wrap(parts["perceptron"]((1, 2, 2), 2, 4, None))
    torch.testing.assert_close(start(learner, Address(1)), 0.25 * fresh(learner, Address(1)))


def test_the_teacher_and_the_source(parts: dict[str, Any]) -> None:
    logits = torch.tensor([[1.0, -1.0]])
    teacher = parts["colder"](None, Teacher(lambda x, y, address: Out(logits)), by=3.0)
    assert torch.equal(teacher(logits, logits, Address(0)).logits, 3 * logits)
    x, y = parts["stripes"](None).splits["train"]
    rows = np.abs(np.diff(x.astype(int), axis=1)).mean((1, 2)) > np.abs(np.diff(x.astype(int), axis=2)).mean((1, 2))
    assert np.array_equal(rows, y == 0)


def test_the_estimator_and_the_synthesizer(parts: dict[str, Any]) -> None:
    rng = numpy_rng(Address(0, stream="pixels"))
    split = Split(rng.integers(0, 256, (60, 1, 4, 4), np.uint8), np.arange(60) % 3)
    data = DataSet("drawn", ("a", "b", "c"), split, split, split, (0.5,), (0.25,), "0" * 64)
    sections = {
        "learner": {"name": "mlp", "width": 8, "depth": 1},
        "synthesizer": {"kind": "mirrored", "steps": 3, "epochs": 1},
        "outer": {"batch_size": 60},
        "meta": {"estimator": "shrunk(by=0.75)"},
    }
    plugins = {"synthesizers": {"mirrored": parts["mirrored"]}, "estimators": {"shrunk": parts["shrunk"]}}
    spec = resolve_auto(DistillSpec.model_validate(sections), "cpu")
    bench = Workbench(spec, plugins, data)
    start = bench.synthesizer.start(data, Address(0, stream="start"))
    steps = bench.synthesizer.steps(bench.tensors(start), Address(0, stream=LEARN)).map(torch.Tensor.detach)
    assert torch.equal(steps.x, steps.x.flip(-1))
    (shrunk,) = bench.estimator(bench, steps, [Address(0)])
    (exact,) = unroll(bench, steps, [Address(0)])
    assert exact.steps.x.abs().max() > 0
    torch.testing.assert_close(shrunk.steps.x, exact.steps.x / 4)
