"""Domains of `--over field=loguniform:a:b`: fields of a spec, and the values that a search may give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from raystill.platform.command_line.options import merge
from raystill.platform.registry import closest
from raystill.platform.spec import DistillSpec

METRIC, CLOCK = "validation", "clock"
"""Keys of a trial's report: validation accuracy in percent; and, in a population, the outer step at which trials are
compared, 0 where they are not."""
Domains = dict[str, tuple[str, list[Any]]]
"""Dotted field -> its domain: a kind, and two ends or the choices."""
ALIASES = {"inner.steps": "synthesizer.steps"}
"""Other names of fields: the number of inner steps is the synthesizer's."""
VALID = "uniform:a:b, loguniform:a:b, int:a:b (both ends included), choice:x,y"


def domain(text: str) -> tuple[str, list[Any]]:
    """(kind, its values) of a text: two ends, or the choices.

    Raises:
        ValueError: it is none of VALID, or its ends are no ends.
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
    raise ValueError(f"--over: {text!r} is no domain; valid: {VALID}, with a below b")


def domains(over: list[str], spec: DistillSpec) -> Domains:
    """Dotted field -> its domain, each checked against the spec at every value or end.

    Raises:
        ValueError: a text without `=`, an unknown field, or a value that the field refuses.
    """
    checked: Domains = {}
    for text in over:
        field, equals, words = text.partition("=")
        field = ALIASES.get(field, field)
        if not equals:
            raise ValueError(f"--over: {text!r} is no field=domain; an example: outer.lr=loguniform:1e-3:1e-1")
        if field.split(".")[0] in ("run", "tracking", "data", "recipe", "assess"):
            raise ValueError(f"--over: {field} does not change how well a recipe learns; take it out")
        checked[field] = domain(words)
        for value in checked[field][1]:
            applied(spec, {field: value})
    if not checked:
        raise ValueError("--over: give at least one, as in --over outer.lr=loguniform:1e-3:1e-1")
    return checked


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
        name = ".".join(map(str, first["loc"])) or ", ".join(values)
        word = (
            _unknown(name, spec) if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        )
        raise ValueError(f"--over: {name}: {word}") from None


def _unknown(field: str, spec: DistillSpec) -> str:
    known = [f"{section}.{name}" for section, part in spec.dump().items() if isinstance(part, dict) for name in part]
    same = [name for name in known if name.partition(".")[2] == field.rpartition(".")[2]]
    close = " or ".join(same) or closest(field, known)
    return "unknown field" + (f"; did you mean {close}?" if close else "")


def param_space(over: Domains) -> dict[str, Any]:
    """Domains as Ray Tune has them."""
    from ray import tune

    make = {
        "uniform": lambda v: tune.uniform(*v), "loguniform": lambda v: tune.loguniform(*v),
        "int": lambda v: tune.randint(v[0], v[1] + 1), "choice": tune.choice,
    }  # fmt: skip
    return {field: make[kind](values) for field, (kind, values) in over.items()}
