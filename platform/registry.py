"""Finds parts by name: built-in ones, those that a caller passes, and entry points of installed packages.

`GROUPS` lists the kinds of parts. A user's own part needs no fork: a callable in the `plugins` that
`raystill.actors.distill(spec, plugins=...)` and its like take, or an entry point of the group `raystill.<kind>`, named
in YAML. A spec names a part as `name`, or as `name(setting=value, ...)` where it has settings.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

GROUPS = (
    "sources",
    "modalities",
    "learners",
    "spaces",
    "objectives",
    "synthesizers",
    "initialisations",
    "estimators",
    "inner_optimisers",
    "teachers",
    "rankers",
    "kinds",
)
"""Kinds of parts; `kinds` are those of work items."""

Plugins = Mapping[str, Mapping[str, Any]]
"""Kind of part -> name -> part, as a caller passes them."""


def closest(name: str, valid: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The valid name that is most like another one; None where none is near."""
    return next(iter(difflib.get_close_matches(name, sorted(valid), 1, cutoff)), None)


def nearest(name: str, valid: Iterable[str]) -> str:
    """A sentence that lists the valid names, the nearest first."""
    valid = sorted(set(valid))
    close = closest(name, valid)
    return f"{f'did you mean {close!r}? ' if close else ''}valid: {', '.join(valid)}"


def resolve(kind: str, name: str, builtin: Mapping[str, Any], plugins: Plugins | None = None, field: str = "") -> Any:
    """The part of a kind by its name; a caller's part takes the place of a built-in one of the same name.

    Args:
        kind: one of `GROUPS`.
        name: as the spec gives it.
        builtin: the registry of the part's own folder.
        plugins: parts that the caller passes.
        field: dotted name of the spec's field, for the error.

    Raises:
        ValueError: nothing of that name (the message names the nearest valid one), or it does not load.
    """
    if unknown := set(plugins or {}).difference(GROUPS):
        raise ValueError(f"plugins: unknown kind {min(unknown)!r}; {nearest(min(unknown), GROUPS)}")
    own = (plugins or {}).get(kind, {})
    if name in own:
        return own[name]
    if name in builtin:
        return builtin[name]
    installed = {point.name: point for point in entry_points(group=f"raystill.{kind}")}
    if name in installed:
        try:
            return installed[name].load()
        except (ImportError, AttributeError) as error:
            where = f"the entry point {installed[name].value!r}"
            raise ValueError(f"{field or kind}: {name!r} is {where}, which does not load: {error}") from error
    raise ValueError(f"{field or kind}: unknown {name!r}; {nearest(name, [*builtin, *own, *installed])}")


def parse(text: str, field: str) -> tuple[str, dict[str, Any]]:
    """The name and the settings of `name` or `name(setting=value, ...)`.

    Values are numbers, quoted or bare words, true, false, none, and lists of these.

    Raises:
        ValueError: it has another form.
    """
    call = re.fullmatch(r"\s*([^()\s]+)\s*\((.*)\)\s*", text, re.DOTALL)
    if call is None:
        return text, {}
    name, inside = call[1], call[2]
    try:
        tree = ast.parse(f"_({inside})", mode="eval").body
    except SyntaxError:
        tree = None
    if not isinstance(tree, ast.Call):
        raise ValueError(f"{field}: {text!r} does not parse; write {name}(setting=value, ...)")
    source = f"_({inside})"
    if strange := [*tree.args, *(keyword.value for keyword in tree.keywords if keyword.arg is None)]:
        word = ast.get_source_segment(source, strange[0])
        raise ValueError(f"{field}: {word!r} is no setting; write {name}(setting=value)")
    return name, {str(keyword.arg): _value(source, keyword.value) for keyword in tree.keywords}


def _value(source: str, node: ast.expr) -> Any:
    words = {"true": True, "false": False, "none": None}
    try:
        return ast.literal_eval(node)
    except ValueError:  # a bare word
        text = ast.get_source_segment(source, node) or ""
        return words.get(text, text)


def checked(field: str, part: Callable[..., Any], settings: Mapping[str, Any], own: int = 0) -> dict[str, Any]:
    """Check the names of settings against a part's signature; values are returned as they are.

    Args:
        field: dotted name of the spec's field, for the error.
        part: the function that takes the settings.
        settings: by name.
        own: number of leading arguments that the caller passes itself.

    Raises:
        ValueError: an unknown setting (the nearest valid one is named), or one that is missing.
    """
    parameters = dict(list(inspect.signature(part).parameters.items())[own:])
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(settings)
    for key in settings:
        if key not in parameters:
            raise ValueError(f"{field}: no setting {key!r}; {nearest(key, parameters)}")
    missing = [k for k, p in parameters.items() if p.default is p.empty and k not in settings]
    if missing:
        raise ValueError(f"{field}: needs {', '.join(missing)}")
    return dict(settings)


def bound(
    kind: str, text: str, builtin: Mapping[str, Any], plugins: Plugins | None = None, field: str = "", own: int = 0
) -> Callable[..., Any]:
    """The part that a spec's field names, with the settings that the field gives it.

    Args:
        text: `name`, or `name(setting=value, ...)`.
        kind, builtin, plugins, field: as in `resolve`.
        own: number of leading arguments that the caller passes itself.

    Raises:
        ValueError: an unknown name or setting, one that is missing, or a part of another form.
    """
    name, settings = parse(text, field)
    part = resolve(kind, name, builtin, plugins, field)
    if not callable(part):
        raise ValueError(f"{field}: {name!r} is {type(part).__name__}, which can not be called")
    settings = checked(f"{field}: {name}", part, settings, own)
    return functools.partial(part, **settings) if settings else part
