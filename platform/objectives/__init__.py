"""Per-sample losses, shared by the inner loop, the outer loop and students.

An objective is a function of a `Step` that returns one loss for each sample, shape (B,); means are taken once, in the
loop. That makes weights, masks and vmap compose, and abolishes the mean/batchmean class of mistakes. `OBJECTIVES` holds
the functions that make objectives from their settings. `Facts` declare what an objective needs, couples or carries.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from raystill.platform.objectives.combine import hinton, labelled, linear, ramp_up, unlabelled, weighted
from raystill.platform.objectives.consistency import fixmatch, jensen_shannon, mean_teacher, uda
from raystill.platform.objectives.contrastive import cpc, info_nce, nt_xent
from raystill.platform.objectives.distillation import (
    activation_boundary,
    hint,
    kd,
    kl,
    logit_matching,
    regressor,
    wasserstein,
)
from raystill.platform.objectives.labels import cross_entropy, label_smoothing, soft, squared_error
from raystill.platform.objectives.poison import poison
from raystill.platform.objectives.step import Facts, Objective, Out, Step, Term, need_uncoupled, term
from raystill.platform.registry import Plugins, checked, parse, resolve
from raystill.platform.spec import OuterSpec

__all__ = [
    "OBJECTIVES", "Facts", "Objective", "Out", "Step", "Term", "kl", "labelled", "linear", "make", "need_uncoupled",
    "of_labels", "of_outer", "ramp_up", "regressor", "settings_of", "soft", "term", "unlabelled", "weighted",
]  # fmt: skip

OBJECTIVES: dict[str, Callable[..., Term]] = {
    "cross_entropy": cross_entropy,
    "label_smoothing": label_smoothing,
    "squared_error": squared_error,
    "kd": kd,
    "hinton": hinton,
    "logit_matching": logit_matching,
    "hint": hint,
    "activation_boundary": activation_boundary,
    "wasserstein": wasserstein,
    "jensen_shannon": jensen_shannon,
    "fixmatch": fixmatch,
    "uda": uda,
    "mean_teacher": mean_teacher,
    "nt_xent": nt_xent,
    "info_nce": info_nce,
    "cpc": cpc,
    "weighted": weighted,
    "labelled": labelled,
    "poison": poison,
    "unlabelled": unlabelled,
}
"""Every objective by name, as the function that makes it from its settings."""


def _factory(name: str, plugins: Plugins | None, field: str) -> Callable[..., Any]:
    """The function that makes an objective from its settings.

    An objective of the user's own is a ready one, a function of a `Step` (its first argument is called `step`, those
    after it are settings), or a function that makes one from settings.
    """
    part = resolve("objectives", name, OBJECTIVES, plugins, field)
    if isinstance(part, Term):
        return lambda: part
    if not callable(part):
        raise ValueError(f"{field}: {name!r} is {type(part).__name__}, and no function")
    parameters = list(inspect.signature(part).parameters.values())
    if not parameters or parameters[0].name != "step":
        return part

    def make_one(**chosen: Any) -> Term:
        return replace(term(part), loss=functools.partial(part, **chosen)) if chosen else term(part)

    make_one.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=p.KEYWORD_ONLY) for p in parameters[1:] if p.kind is not p.VAR_POSITIONAL]
    )
    return make_one


def settings_of(name: str, plugins: Plugins | None = None, field: str = "objective") -> Mapping[str, inspect.Parameter]:
    """The settings that an objective takes, by name.

    Raises:
        ValueError: an unknown name.
    """
    return inspect.signature(_factory(name, plugins, field)).parameters


def make(
    name: str, settings: Mapping[str, Any] | None = None, plugins: Plugins | None = None, field: str = "objective"
) -> Term:
    """An objective by its name and settings.

    Args:
        name: one of `OBJECTIVES`, or an objective of the user's own.
        settings: keyword arguments of the function that makes it.
        plugins: parts that the caller passes.
        field: dotted name of the spec's field, for the error.

    Raises:
        ValueError: an unknown name or setting (the nearest valid one is named), one that is missing or out of range.
    """
    factory = _factory(name, plugins, field)
    return term(factory(**checked(f"objective.{name}", factory, settings or {})))


def of_labels(text: str, plugins: Plugins | None = None, field: str = "objective") -> Term:
    """The objective that a distillation's spec names, `name` or `name(setting=value, ...)`, which reads labels alone.

    Args:
        field: dotted name of the spec's field, for the error.

    Raises:
        ValueError: an unknown name or setting, or an objective that needs more than labels.
    """
    name, objective = _named(text, {}, plugins, field)
    _reads_no_more(name, objective, field, "labels")
    return objective


def of_outer(spec: OuterSpec, plugins: Plugins | None = None) -> Term:
    """The outer objective: one of labels, or with `outer.teacher` one that compares with the teacher's logits.

    `outer.temperature` is the temperature of an objective that has one, unless `outer.objective` sets another.

    Raises:
        ValueError: an unknown name or setting, or a teacher and an objective that do not go together.
    """
    field, taught = "outer.objective", spec.teacher is not None
    name, objective = _named(spec.objective, {"temperature": spec.temperature} if taught else {}, plugins, field)
    if objective.facts.teacher and not taught:
        raise ValueError(f"{field}: {name} needs a teacher; set outer.teacher")
    if taught and not objective.facts.teacher:
        raise ValueError(f"{field}: {name} asks no teacher; valid with one: kd, hinton, logit_matching, and the like")
    _reads_no_more(name, objective, field, "labels and a teacher's logits" if taught else "labels", taught)
    return objective


def _named(text: str, defaults: Mapping[str, Any], plugins: Plugins | None, field: str) -> tuple[str, Term]:
    name, settings = parse(text, field)
    accepted = settings_of(name, plugins, field)
    try:
        return name, make(name, {**{k: v for k, v in defaults.items() if k in accepted}, **settings}, plugins, field)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _reads_no_more(name: str, objective: Term, field: str, given: str, taught: bool = False) -> None:
    facts = objective.facts._replace(labels=False, relabels=())
    if objective.module or facts._replace(teacher=facts.teacher and not taught) != Facts():
        raise ValueError(f"{field}: {name} needs more than {given}, and a distillation has no more")
