"""Per-sample losses, shared by the inner loop, the outer loop and students.

An objective is a function of a `Step` that returns one loss for each sample, shape (B,); means are taken once, in the
loop. That makes weights, masks and vmap compose, and abolishes the mean/batchmean class of mistakes. One that needs
settings is made by a function that checks them. What an objective needs, couples or carries it declares (`Facts`).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
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
from raystill.platform.objectives.labels import cross_entropy, soft, squared_error
from raystill.platform.objectives.poison import poison
from raystill.platform.objectives.step import Facts, Objective, Out, Step, Term, need_uncoupled, term
from raystill.platform.registry import Plugins, nearest, resolve

__all__ = [
    "FACTORIES", "OBJECTIVES", "TAUGHT", "Facts", "Objective", "Out", "Step", "Term", "kl", "labelled", "linear",
    "make", "named", "need_uncoupled", "ramp_up", "regressor", "soft", "term", "unlabelled", "weighted",
]  # fmt: skip

FACTORIES: dict[str, Callable[..., Term]] = {
    "cross_entropy": cross_entropy,
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

OBJECTIVES: dict[str, Objective] = {
    "cross_entropy": cross_entropy(),
    "squared_error": squared_error(),
    "label_smoothing": cross_entropy(smoothing=0.1),
}
"""Those that need nothing but labels, ready: what a spec's `inner.objective` and `outer.objective` name."""

TAUGHT: dict[str, Callable[[float], Term]] = {
    "kd": kd,
    "hinton": lambda temperature: hinton(temperature),
    "logit_matching": lambda temperature: logit_matching(),
}
"""Those that ask a teacher for its logits, from a temperature: what `outer.objective` takes beside `outer.teacher`."""


def make(name: str, settings: Mapping[str, Any] | None = None, plugins: Plugins | None = None) -> Term:
    """An objective by its name and settings.

    Args:
        name: one of `FACTORIES`, or an objective of the user's own, which takes no settings.
        settings: keyword arguments of the factory.
        plugins: what the caller brought.

    Raises:
        ValueError: an unknown name or setting (the nearest valid one is named), one that is missing or out of range.
    """
    settings = settings or {}
    made = resolve("objectives", name, FACTORIES, plugins, "objective")
    if made is not FACTORIES.get(name):
        if settings:
            raise ValueError(f"objective.{name}: is an objective of your own, which takes no settings")
        return term(made)
    wanted = inspect.signature(made).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in wanted.values()):
        for key in settings:
            if key not in wanted:
                raise ValueError(f"objective.{name}: no setting {key!r}; {nearest(key, wanted)}")
        if missing := [k for k, p in wanted.items() if p.default is p.empty and k not in settings]:
            raise ValueError(f"objective.{name}: needs {', '.join(missing)}")
    return term(made(**settings))


def _value(text: str) -> int | float | str:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def named(text: str, plugins: Plugins | None = None, field: str = "objective") -> Term:
    """The objective of a spec's field: `name`, or `name(setting=value, ...)` with the settings of `FACTORIES`.

    Args:
        field: dotted name of the spec's field, for the error.

    Raises:
        ValueError: an unknown name or setting, or an objective that needs more than labels.
    """
    call = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", text)
    if call is None and (text in OBJECTIVES or text not in FACTORIES):
        # an unknown name is told of those with settings too, in the form in which they are given
        return term(resolve("objectives", text, {**OBJECTIVES, "poison(victim=7, target=1)": poison}, plugins, field))
    name, inside = (call[1], call[2]) if call else (text, "")
    pairs = [part.partition("=") for part in inside.split(",") if part.strip()]
    if bad := [key for key, mark, _ in pairs if not mark]:
        raise ValueError(f"{field}: {bad[0].strip()!r} is no setting; write {name}(setting=value)")
    try:
        made = make(name, {key.strip(): _value(value.strip()) for key, _, value in pairs}, plugins)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None
    facts = made.facts
    if facts.teacher or facts.views or facts.inputs or facts.couples or facts.carries or made.module:
        raise ValueError(f"{field}: {name} needs more than labels, and a distillation has no more")
    return made
