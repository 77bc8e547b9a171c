"""Named recipes: YAML files that ship with the package; the first comment of each says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from raystill.platform import registry

RECIPES: dict[str, Path] = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}

OWN = {"kd": "kd", "search temperature": "temperature"}
"""Commands with recipes of their own, and the first word of these; all others are `distill`'s."""


def of(command: str) -> dict[str, Path]:
    """The recipes of a command."""
    if command in OWN:
        return {name: path for name, path in RECIPES.items() if name.startswith(f"{OWN[command]}-")}
    return {name: path for name, path in RECIPES.items() if name.split("-")[0] not in OWN.values()}


def recipe(name: str) -> dict[str, Any]:
    """The overrides that a recipe makes over the defaults.

    Raises:
        ValueError: no recipe of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe: unknown {name!r}; {registry.nearest(name, RECIPES)}")
    overrides: dict[str, Any] = yaml.safe_load(RECIPES[name].read_text())
    return overrides


def about(name: str) -> str:
    """A recipe's first comment, in one line."""
    lines = RECIPES[name].read_text().splitlines()
    return " ".join(
        line.lstrip("# ").strip() for line in lines[: next(i for i, t in enumerate(lines) if not t.startswith("#"))]
    )
