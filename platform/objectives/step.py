"""The inputs of an objective (`Step`), its declared facts (`Facts`), and the two together (`Term`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

from torch import Tensor, nn
from torch.func import functional_call

from raystill.platform.registry import nearest
from raystill.platform.seeds import Address

Tensors = Mapping[str, Tensor]
Number = float | Tensor
"""A setting: a number, which is checked, or a 0-d tensor, which is not: vmap over a grid forbids to look at it."""


class Out(NamedTuple):
    """A network's outputs: logits (B, K) or embeddings (B, D), and the features that were asked for, by module path."""

    logits: Tensor
    features: Mapping[str, Tensor] = {}


class Step(NamedTuple):
    """The inputs of an objective; a loop fills in those that the objective's `Facts` ask for.

    Attributes:
        x: inputs (B, ...).
        y: labels, ids (B,) or rows (B, K); an id of -1 means no label.
        student: the student's outputs for x.
        teacher: the teacher's outputs for the same samples, perhaps for another view of them.
        views: the student's outputs for further views of the same samples.
        parameters: weights of the objective's own module, by name; without them the module's own weights are taken.
        state: tensors that the objective carries from step to step, from its `start` and `advance`.
        progress: the part of the training that is done, 0 to 1, for weights that change.
        outputs: inputs -> (student, teacher), for objectives that differentiate with respect to x.
    """

    x: Tensor
    y: Tensor
    student: Out
    teacher: Out | None = None
    views: tuple[Out, ...] = ()
    parameters: Mapping[str, Tensor] = {}
    state: Mapping[str, Tensor] = {}
    progress: float = 1.0
    outputs: Callable[[Tensor], tuple[Out, Out | None]] | None = None


Objective = Callable[[Step], Tensor]
"""A step's losses, one for each sample (B,)."""


class Facts(NamedTuple):
    """An objective's declarations: a loop provides what it needs, and refuses an objective that it can not compute.

    Attributes:
        couples: why the loss of one sample depends on the others of its batch; empty where it does not. Such an
            objective is not the same in chunks.
        carries: a description of `Step.state`, which a loop threads from step to step; empty without one.
        labels: reads `Step.y`, and has no meaning for a sample without a label.
        teacher: reads `Step.teacher`.
        views: how many further views it reads.
        inputs: reads `Step.outputs`, and differentiates it; cached logits do not serve.
        student_features, teacher_features: module paths whose outputs it reads.
        relabels: (class, the class that it is to be taken for), for objectives that want some classes named wrongly.
    """

    couples: str = ""
    carries: str = ""
    labels: bool = False
    teacher: bool = False
    views: int = 0
    inputs: bool = False
    student_features: tuple[str, ...] = ()
    teacher_features: tuple[str, ...] = ()
    relabels: tuple[tuple[int, int], ...] = ()


NOTHING = Facts()


def _no_start(address: Address) -> Tensors:
    return {}


def _no_change(step: Step) -> Tensors:
    return step.state


@dataclass(frozen=True, eq=False)
class Term:
    """An objective that declares facts of itself. Call it as any other.

    Attributes:
        loss: Step -> losses (B,).
        facts: its declarations.
        module: weights of its own, to be trained beside the student's: a regressor, a connector.
        start: address -> the first `Step.state`, on the CPU.
        advance: a step -> the next step's state; pure. A batch taken in chunks gives each chunk's loss the state from
            before the batch, and threads `advance` through the chunks in order: the same as the whole batch.
        split: Step -> (losses (B,), the losses (B,) of each term by name, unweighted), where there are terms.
    """

    loss: Objective
    facts: Facts = NOTHING
    module: nn.Module | None = None
    start: Callable[[Address], Tensors] = _no_start
    advance: Callable[[Step], Tensors] = _no_change
    split: Callable[[Step], tuple[Tensor, dict[str, Tensor]]] | None = None

    def __call__(self, step: Step) -> Tensor:
        """One loss for each sample, (B,)."""
        return self.loss(step)

    def report(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses (B,), and those of each term by name, unweighted; no terms for an objective that is no sum."""
        return self.split(step) if self.split else (self.loss(step), {})


def term(objective: Objective) -> Term:
    """Any objective as a `Term`; a plain function may declare `Facts` in an attribute `facts`."""
    return objective if isinstance(objective, Term) else Term(objective, getattr(objective, "facts", NOTHING))


def need_uncoupled(objective: Objective, where: str) -> None:
    """Refuses an objective that couples the samples of a batch, for code that takes a batch apart.

    Raises:
        ValueError: it couples them; the message starts with `where` and says why.
    """
    if why := term(objective).facts.couples:
        raise ValueError(f"{where}: this objective couples the samples of a batch, which can not be taken apart: {why}")


def number(field: str, value: Number, low: float = -math.inf, high: float = math.inf, above: bool = False) -> Number:
    """A setting of an objective, checked.

    Args:
        field: its name for the error, `objective` and setting.
        value: a number; a tensor is returned unchecked.
        low, high: the valid range, both included.
        above: leaves `low` out of the range.

    Raises:
        ValueError: not a finite number, or outside; the message starts with `objective.` and the field.
    """
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"objective.{field}: {value!r} is not a number")
    if not low <= value <= high or (above and value == low):
        valid = f"between {low:g} and {high:g}" if high < math.inf else f"{'above' if above else 'at least'} {low:g}"
        raise ValueError(f"objective.{field}: {value:g} is not {valid}")
    return value


def count(field: str, value: int) -> int:
    """A setting that counts something, at least 1.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"objective.{field}: {value!r} is not a whole number of at least 1")
    return value


def need_teacher(step: Step, name: str) -> Out:
    """The teacher's outputs.

    Raises:
        ValueError: there is no teacher.
    """
    if step.teacher is None:
        raise ValueError(f"objective.{name}: needs a teacher, and none was given")
    return step.teacher


def both_logits(step: Step, name: str) -> tuple[Tensor, Tensor]:
    """Logits (B, K) of student and teacher.

    Raises:
        ValueError: there is no teacher, or its logits have other classes or samples.
    """
    z, v = step.student.logits, need_teacher(step, name).logits
    if z.shape[-1] != v.shape[-1]:
        raise ValueError(f"objective.{name}: the teacher has {v.shape[-1]} classes and the student {z.shape[-1]}")
    if z.shape != v.shape:
        raise ValueError(f"objective.{name}: the teacher answers {tuple(v.shape)} and the student {tuple(z.shape)}")
    return z, v


def need_views(step: Step, views: int, name: str) -> list[Tensor]:
    """Logits (B, K) of the student for further views of the same samples.

    Raises:
        ValueError: fewer views or more, or one of other samples.
    """
    if len(step.views) != views:
        raise ValueError(f"objective.{name}: views of each sample beside it: needs {views}, given {len(step.views)}")
    for out in step.views:
        if out.logits.shape != step.student.logits.shape:
            shapes = f"{tuple(out.logits.shape)} beside {tuple(step.student.logits.shape)}"
            raise ValueError(f"objective.{name}: a view of other samples: {shapes}")
    return [out.logits for out in step.views]


def feature(out: Out, path: str, field: str) -> Tensor:
    """A feature (B, ...) by its module path.

    Raises:
        ValueError: it was not recorded; the message names the nearest one that was.
    """
    if path not in out.features:
        raise ValueError(f"objective.{field}: no feature {path!r}; {nearest(path, out.features)}")
    return out.features[path]


def through(module: nn.Module | None, step: Step, h: Tensor) -> Tensor:
    """An objective's own module on features, with the step's weights where it has some."""
    if module is None:
        return h
    mapped: Tensor = functional_call(module, dict(step.parameters), (h,)) if step.parameters else module(h)
    return mapped


def under(tensors: Tensors, name: str) -> Tensors:
    """The entries below a name, without it: `{"a.b": t}` under `a` is `{"b": t}`."""
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
