"""A stage's objective, built from the names and settings of its terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from raystill.platform.objectives import Term, labelled, linear, make, ramp_up, settings_of, unlabelled, weighted
from raystill.platform.registry import Plugins, checked, nearest
from raystill.platform.seeds import Address
from raystill.platform.students.spec import Named, Settings

Mapper = Callable[[str, str], nn.Module | None]
"""(path in the student, path in the teacher) -> a module from the one's features to the other's shape, or None."""

MAPPING = ("regressor", "connector")  # arguments of objectives that a mapper supplies
SCOPES: dict[str, Callable[[Any], Term]] = {"labelled": labelled, "unlabelled": unlabelled}
WEIGHT_SCHEDULES: dict[str, Callable[..., Callable[[float], float]]] = {"linear": linear, "ramp_up": ramp_up}
TERM_FIELDS = ("weight", "only", "kind")


def no_map(student: str, teacher: str) -> None:
    """A mapper that maps nothing."""


@dataclass(frozen=True)
class Shared:
    """Settings that all stages share.

    Attributes:
        settings: T and alpha by objective, which override the stage's own.
        ratio: unlabelled samples of a batch for each labelled one; 0 without unlabelled samples.
    """

    settings: Mapping[str, Settings] = field(default_factory=dict)
    ratio: int = 0
    plugins: Plugins | None = None


def _weight(given: Any, field: str) -> float | Callable[[float], float]:
    if not isinstance(given, Mapping):
        return given
    if len(given) != 1 or next(iter(given)) not in WEIGHT_SCHEDULES:
        raise ValueError(f"{field}.weight: a number, or one of {', '.join(WEIGHT_SCHEDULES)} with its settings")
    ((name, settings),) = given.items()
    schedule = WEIGHT_SCHEDULES[name]
    return (
        schedule(**checked(f"{field}.weight.{name}", schedule, settings))
        if isinstance(settings, Mapping)
        else schedule(*settings)
    )


def _single(kind: str, settings: Settings, mapper: Mapper, shared: Shared) -> Term:
    settings = {**settings, **shared.settings.get(kind, {})}
    if isinstance(inner := settings.get("inner"), Mapping):
        settings["inner"] = objective(dict(inner), mapper, shared)
    wanted = settings_of(kind, shared.plugins)
    for name in MAPPING:
        if name in wanted and name not in settings and {"student", "teacher"} <= settings.keys():
            settings[name] = mapper(settings["student"], settings["teacher"])
    return make(kind, settings, shared.plugins)


def objective(terms: Named, mapper: Mapper = no_map, shared: Shared = Shared()) -> Term:
    """Build an objective from terms by name.

    A term has the settings of its objective, and `weight` (a number or a schedule), `only` (`labelled` or `unlabelled`
    samples; `weight` is of the mean over these) and `kind`, the objective's name where the term's differs.

    Raises:
        ValueError: no terms, an unknown name or setting, or a setting out of its range.
    """
    if not terms:
        raise ValueError("objective: needs at least one term")
    weighted_terms: dict[str, tuple[Any, Term]] = {}
    for name, given in terms.items():
        settings = dict(given or {})
        weight, only, kind = (settings.pop(key, None) for key in TERM_FIELDS)
        part = _single(kind or name, settings, mapper, shared)
        factor = 1.0
        if only is not None:
            if only not in SCOPES:
                raise ValueError(f"objective.{name}.only: unknown {only!r}; {nearest(str(only), SCOPES)}")
            part, r = SCOPES[only](part), shared.ratio
            factor = 1.0 if not r else (1.0 + r) / (1.0 if only == "labelled" else r)
        weighted_terms[name] = (_scaled(_weight(1.0 if weight is None else weight, f"objective.{name}"), factor), part)
    if len(weighted_terms) == 1:
        ((weight, part),) = weighted_terms.values()
        if weight == 1.0:
            return part
    return weighted(**weighted_terms)


def _scaled(weight: Any, factor: float) -> Any:
    if factor == 1.0:
        return weight
    return (lambda progress: factor * weight(progress)) if callable(weight) else factor * weight


def mapper(student: Callable[[str], Tensor], teacher: Callable[[str], Tensor], address: Address) -> Mapper:
    """A mapper that regresses features where their shapes differ.

    Args:
        student, teacher: path -> a feature (B, ...) of the student or the teacher.
        address: of the initial weights.
    """
    from raystill.platform.objectives import regressor

    def make_map(a: str, b: str) -> nn.Module | None:
        mine, theirs = student(a).shape[1:], teacher(b).shape[1:]
        if mine == theirs:
            return None
        return regressor(tuple(mine), tuple(theirs), address.at(stream=f"{address.stream}/{a}/{b}"))

    return make_map


@torch.no_grad()
def one_feature(run: Callable[[Tensor], Any], x: Tensor, path: str) -> Tensor:
    """The feature of x at one path."""
    feature: Tensor = run(x).features[path]
    return feature
