"""Names to parts: built-ins, what a caller registered, and entry points of installed packages.

The kinds are `sources`, `learners`, `spaces`, `pools`, `objectives`, `synthesizers` and `kinds` (of work items). A
user's own part needs no fork: a callable handed to `raystill.actors.distill(spec, plugins=...)`, or an entry point of
the group `raystill.<kind>` named in YAML.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

Plugins = Mapping[str, Mapping[str, Callable[..., Any]]]


def nearest(name: str, valid: Iterable[str]) -> str:
    """A sentence that lists the valid names, the nearest first."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(valid)}"


def resolve(
    kind: str, name: str, builtin: Mapping[str, Callable[..., Any]], plugins: Plugins | None = None, field: str = ""
) -> Callable[..., Any]:
    """The part of a kind by its name.

    Args:
        kind: `sources`, `learners`, `spaces`, `pools`, `objectives` or `synthesizers`.
        name: what the spec says.
        builtin: the registry of the part's own folder.
        plugins: what the caller brought, `{kind: {name: callable}}`.
        field: dotted name of the spec's field, for the error.

    Raises:
        ValueError: nothing of that name (the message names the nearest valid one), or it does not load.
    """
    own = (plugins or {}).get(kind, {})
    if name in own:
        return own[name]
    if name in builtin:
        return builtin[name]
    installed = {point.name: point for point in entry_points(group=f"raystill.{kind}")}
    if name in installed:
        try:
            part: Callable[..., Any] = installed[name].load()
        except (ImportError, AttributeError) as error:
            where = f"the entry point {installed[name].value!r}"
            raise ValueError(f"{field or kind}: {name!r} is {where}, which does not load: {error}") from error
        return part
    raise ValueError(f"{field or kind}: unknown {name!r}; {nearest(name, [*builtin, *own, *installed])}")


def checked(field: str, part: Callable[..., Any], settings: Mapping[str, Any], own: int = 0) -> dict[str, Any]:
    """Settings as keyword arguments of a part, whose first `own` arguments the caller gives.

    Raises:
        ValueError: an unknown setting (the nearest valid one is named), or one that is missing.
    """
    wanted = dict(list(inspect.signature(part).parameters.items())[own:])
    for key in settings:
        if key not in wanted:
            raise ValueError(f"{field}: no setting {key!r}; {nearest(key, wanted)}")
    if missing := [k for k, p in wanted.items() if p.default is p.empty and k not in settings]:
        raise ValueError(f"{field}: needs {', '.join(missing)}")
    return dict(settings)
