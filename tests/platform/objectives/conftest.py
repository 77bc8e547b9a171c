"""A student and a teacher small enough for finite differences, and one row of settings for each objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from raystill.platform import seeds
from raystill.platform.objectives import OBJECTIVES, Facts, Out, Step, Term, make, regressor

BATCH, INPUTS, HIDDEN, CLASSES, WIDER = 6, 3, 4, 5, 6


def drawn(*shape: int, stream: str) -> Tensor:
    """Standard normal numbers of a stream, float64."""
    return torch.randn(*shape, generator=seeds.torch_rng(seeds.Address(1, stream=stream)), dtype=torch.float64)


# drawn once: vmap lets no function draw
TEACHER = drawn(INPUTS * WIDER + WIDER * CLASSES, stream="teacher")


def mapping() -> nn.Module:
    """The student's hidden features to the teacher's."""
    return regressor((HIDDEN,), (WIDER,), seeds.Address(1, stream="regressor")).double()


PAIR = {"student": "hidden", "teacher": "deep"}
SETTINGS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "cross_entropy": lambda: [{}, {"smoothing": 0.2}],
    "label_smoothing": lambda: [{}],
    "squared_error": lambda: [{}],
    "kd": lambda: [{}, {"temperature": 0.5}],
    "hinton": lambda: [{"temperature": 2.0, "alpha": 0.3, "smoothing": 0.1}],
    "logit_matching": lambda: [{}],
    "hint": lambda: [{**PAIR, "regressor": mapping()}],
    "activation_boundary": lambda: [{**PAIR, "connector": mapping()}],
    "wasserstein": lambda: [
        {"inner": make("kd"), "radius": 0.3},
        {"inner": make("hint", {**PAIR, "regressor": mapping()}), "radius": 0.3},
    ],
    "jensen_shannon": lambda: [{}, {"views": 1}],
    "fixmatch": lambda: [{"threshold": 0.4}],
    "uda": lambda: [{"threshold": 0.4}],
    "mean_teacher": lambda: [{}],
    "nt_xent": lambda: [{}],
    "info_nce": lambda: [{"queue": 8, "width": CLASSES, "temperature": 0.3}],
    "cpc": lambda: [{}],
    "weighted": lambda: [
        {
            "kd": (0.5, make("kd")),
            "hint": (lambda progress: 2 * progress, make("hint", {**PAIR, "regressor": mapping()})),
        },
        {"js": (1.0, make("jensen_shannon")), "moco": (0.1, make("info_nce", {"queue": 8, "width": CLASSES}))},
        {"simclr": (1.0, make("nt_xent")), "labels": (1.0, make("cross_entropy"))},
    ],
    "labelled": lambda: [{"inner": make("hinton")}],
    "poison": lambda: [{"victim": 1, "target": 3}, {"victim": 4, "target": 0, "weight": 2.5}],
    "unlabelled": lambda: [{"inner": make("mean_teacher")}],
}


class Case(NamedTuple):
    """An objective with networks around it: losses (B,) as a function of the student's weights, inputs and labels."""

    name: str
    objective: Term
    state: dict[str, Tensor]
    other: Tensor

    @property
    def facts(self) -> Facts:
        return self.objective.facts

    def step(self, theta: Tensor, x: Tensor, y: Tensor, other: Tensor | None = None) -> Step:
        """The step with all that the objective asks for; the teacher answers to other inputs, as to another view."""
        other = (self.other if other is None else other).to(x)
        views = tuple(student(theta, x.flip(1) + i) for i in range(self.facts.views))
        state = {name: value.to(x) for name, value in self.state.items()}
        said = teacher(other) if self.facts.teacher else None
        both = (lambda z: (student(theta, z), teacher(z))) if self.facts.inputs else None
        return Step(x, y, student(theta, x), said, views, state=state, progress=0.5, outputs=both)

    def losses(self, theta: Tensor, x: Tensor, y: Tensor, other: Tensor | None = None) -> Tensor:
        return self.objective(self.step(theta, x, y, other))

    def total(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.losses(theta, x, y).sum()


def _split(theta: Tensor, inputs: int, hidden: int) -> tuple[Tensor, Tensor]:
    first, second = theta.split([inputs * hidden, hidden * CLASSES])
    return first.view(inputs, hidden), second.view(hidden, CLASSES)


def student(theta: Tensor, x: Tensor) -> Out:
    """Two layers with tanh; `hidden` is what lies before it."""
    first, second = _split(theta, INPUTS, HIDDEN)
    hidden = x @ first
    return Out(hidden.tanh() @ second, {"hidden": hidden})


def teacher(x: Tensor) -> Out:
    """A wider network of fixed weights."""
    first, second = _split(TEACHER.to(x), INPUTS, WIDER)
    deep = x @ first
    return Out(2 * deep.tanh() @ second, {"deep": deep})


def weights(*stack: int) -> Tensor:
    """Weights of one student, or of a stack of them."""
    return drawn(*stack, INPUTS * HIDDEN + HIDDEN * CLASSES, stream="student")


def case(name: str, settings: dict[str, Any]) -> Case:
    """The networks around one objective."""
    made = make(name, settings)
    return Case(name, made, dict(made.start(seeds.Address(1, stream="state"))), drawn(BATCH, INPUTS, stream="other"))


ROWS = [(name, i) for name, rows in SETTINGS.items() for i in range(len(rows()))]


@pytest.fixture(params=ROWS, ids=[f"{name}-{i}" for name, i in ROWS])
def every(request: pytest.FixtureRequest) -> Case:
    """Each objective of the registry, with each of its rows of settings."""
    name, i = request.param
    return case(name, SETTINGS[name]()[i])


OWNERS = [(name, i) for name, i in ROWS if case(name, SETTINGS[name]()[i]).objective.module is not None]


@pytest.fixture(params=OWNERS, ids=[f"{name}-{i}" for name, i in OWNERS])
def with_module(request: pytest.FixtureRequest) -> Case:
    """Each of them that has weights of its own."""
    name, i = request.param
    return case(name, SETTINGS[name]()[i])


@pytest.fixture
def uncovered() -> set[str]:
    """The registry's names that have no row."""
    return OBJECTIVES.keys() - SETTINGS.keys()


@pytest.fixture(params=["ids", "rows"])
def y(request: pytest.FixtureRequest) -> Tensor:
    """Labels (B,) or (B, K)."""
    if request.param == "ids":
        return torch.arange(BATCH) % CLASSES
    return drawn(BATCH, CLASSES, stream="rows").softmax(1)


@pytest.fixture
def x() -> Tensor:
    """Inputs (B, INPUTS)."""
    return drawn(BATCH, INPUTS, stream="x")


@pytest.fixture
def members() -> Tensor:
    """Three students' weights (J, P)."""
    return weights(3)


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """Standard normal numbers of a stream."""
    return drawn


@pytest.fixture
def networks() -> tuple[Callable[[Tensor, Tensor], Out], Callable[[Tensor], Out]]:
    """(student(theta, x), teacher(x))."""
    return student, teacher
