"""What `--over field=loguniform:a:b` says: fields of a spec, and the values that a search may give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from raystill.platform.options import merge
from raystill.platform.spec import DistillSpec

METRIC, CLOCK = "validation", "clock"
"""Of a trial's report: its validation accuracy in percent; and, in a population, the outer step at which all are
compared, 0 where they are not."""
Found = dict[str, tuple[str, list[Any]]]
"""Dotted field -> its domain."""
KINDS = "uniform:a:b, loguniform:a:b, int:a:b (both ends included), choice:x,y"


def domain(text: str) -> tuple[str, list[Any]]:
    """(kind, its values) of a text: two ends, or the choices.

    Raises:
        ValueError: it is none of KINDS, or its ends are no ends.
    """
    kind, colon, rest = text.partition(":")
    if kind == "choice" and colon:
        values = [yaml.safe_load(word) for word in rest.split(",")]
        if all(value is not None for value in values):
            return kind, values
    elif kind in ("uniform", "loguniform", "int") and rest.count(":") == 1:
        try:
            low, high = ((int if kind == "int" else float)(word) for word in rest.split(":"))
        except ValueError:
            low = high = 0
        if low < high and (kind != "loguniform" or low > 0):
            return kind, [low, high]
    raise ValueError(f"--over: {text!r} is no domain; valid: {KINDS}, with a below b")


def domains(over: list[str], spec: DistillSpec) -> Found:
    """Dotted field -> its domain, each checked against the spec at every value or end.

    Raises:
        ValueError: a text without `=`, an unknown field, or a value that the field refuses.
    """
    found: Found = {}
    for text in over:
        field, equals, words = text.partition("=")
        if not equals:
            raise ValueError(f"--over: {text!r} is no field=domain; an example: outer.lr=loguniform:1e-3:1e-1")
        if field.split(".")[0] in ("run", "tracking", "data", "recipe", "assess"):
            raise ValueError(f"--over: {field} does not change how well a recipe learns; take it out")
        found[field] = domain(words)
        for value in found[field][1]:
            applied(spec, {field: value})
    if not found:
        raise ValueError("--over: give at least one, as in --over outer.lr=loguniform:1e-3:1e-1")
    return found


def applied(spec: DistillSpec, values: Mapping[str, Any]) -> DistillSpec:
    """The spec with some fields changed.

    Raises:
        ValueError: an unknown field, or a value that it refuses.
    """
    changed = spec.dump()
    for field, value in values.items():
        tree: Any = value
        for part in reversed(field.split(".")):
            tree = {part: tree}
        changed = merge(changed, tree)
    try:
        return DistillSpec.model_validate(changed)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or ", ".join(values)
        word = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise ValueError(f"--over: {place}: {word}") from None


def param_space(found: Found) -> dict[str, Any]:
    """The same for Ray Tune."""
    from ray import tune

    make = {
        "uniform": lambda v: tune.uniform(*v), "loguniform": lambda v: tune.loguniform(*v),
        "int": lambda v: tune.randint(v[0], v[1] + 1), "choice": tune.choice,
    }  # fmt: skip
    return {field: make[kind](values) for field, (kind, values) in found.items()}


MOST_VALUES = 1000
"""Values of an int:a:b that are each checked."""
CHANGED = (
    "outer.lr", "outer.label_lr", "outer.rate_lr", "outer.beta1", "outer.beta2", "outer.final", "outer.decay_factor",
    "outer.clip", "outer.clip_relative", "outer.ema", "outer.members", "outer.batch_size", "outer.between_weight",
    "outer.between_size", "outer.temperature",
)  # fmt: skip
"""Fields that a population changes on the way: the state has the same shape with any value."""
BEGUN = ("inner.lr", "inner.momentum")
"""Fields that say what a part of the state begins at; whoever takes a state over has them with it."""


def population(settings: Mapping[str, Any], spec: DistillSpec) -> int:
    """Outer steps between two comparisons of a population, all that was asked for being checked.

    Args:
        settings: `over`, `trials`, `searcher`, and `perturb`, None for a ninth of the steps.

    Raises:
        ValueError: a field that can not change while a population learns, or one that nothing comes of.
    """
    found = domains(settings["over"], spec)
    wrong = [field for field in found if field not in CHANGED + BEGUN]
    if wrong:
        raise ValueError(
            f"--over: {', '.join(wrong)} can not change while a population learns (its state, or its steps, would be "
            f"others); with --scheduler pbt: {', '.join(CHANGED)}; and, as what trials begin at: {', '.join(BEGUN)}"
        )
    if not set(found) & set(CHANGED):
        raise ValueError(f"--over: {', '.join(found)} only say what trials begin at; add one that changes: "
                         f"{', '.join(CHANGED)}")  # fmt: skip
    for field, (kind, values) in found.items():
        if kind == "int":
            for value in range(values[0], min(values[1], values[0] + MOST_VALUES)):
                applied(spec, {field: value})
    if "inner.momentum" in found and min(found["inner.momentum"][1]) == 0:
        raise ValueError("--over: inner.momentum: 0 leaves no momentum in the state to hand on; give values above 0")
    if settings["trials"] < 2:
        raise ValueError(f"--trials: {settings['trials']}; a population has at least 2, 4 are usual at the least")
    if settings["searcher"] != "random":
        raise ValueError("--searcher: a population begins at random values and changes them itself; take random")
    if spec.run.cpu_seconds is not None:
        raise ValueError("run.cpu_seconds: a population is compared at outer steps; take it out, or --time-budget")
    judged, steps = spec.validation.every, spec.outer.steps
    every = int(settings.get("perturb") or judged * max(1, -(-steps // (9 * judged))))
    if every < 1 or every % judged:
        raise ValueError(f"--perturb: {every}; must be a multiple of validation.every ({judged})")
    if every >= steps:
        raise ValueError(
            f"--perturb: {every} of {steps} outer steps leave no comparison; lower it (or validation.every)"
        )
    return every
