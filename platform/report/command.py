"""The command that makes a run again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from raystill.platform import recipes
from raystill.platform.spec import DistillSpec

# where a run lies and who watches it does not change what it makes
ASIDE = (
    "recipe",
    "initialisation.content",
    "run.name",
    "run.out",
    "run.address",
    "run.workers",
    "tracking.enabled",
    "tracking.uri",
    "tracking.experiment",
)


def from_file() -> str:
    """The command that starts from the resolved spec; exact."""
    return "raystill distill --config spec.yaml"


def from_recipe(spec: Mapping[str, Any]) -> str | None:
    """The same run as a recipe with overrides; None where the spec names no recipe that this version ships."""
    recipe = spec.get("recipe")
    if not isinstance(recipe, str) or recipe not in recipes.RECIPES:
        return None
    try:
        before = DistillSpec.model_validate(recipes.recipe(recipe))
        after = DistillSpec.model_validate(dict(spec))
    except ValidationError:
        return None  # a spec of another version: only the file says it exactly
    old = _leaves(before.dump())
    words = ["raystill", "distill", "--recipe", recipe]
    for name, value in _leaves(after.dump()).items():
        # what `auto` came to is left to it: it may be another thing on another machine
        if name not in ASIDE and old.get(name) not in (value, "auto"):
            words += [f"--{name}", _word(value)]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(map(_word, value))
    return value if isinstance(value, str) else str(yaml.safe_dump(value)).split("\n")[0]


def _leaves(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in spec.items():
        found.update(_leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found
