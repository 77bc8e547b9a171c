"""Population based training (1711.09846): which fields a population changes, when, and to what.

At every `interval` of outer steps a trial among the worst quarter takes over the state of one of the best and goes on
with changed values (`generations.py`). Tune's own changes are not used: they leave a field's domain, multiply
choices, and draw from Python's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DistillSpec
from raystill.search.tune.space import Domains, applied, domains

QUANTILE, RESAMPLE, FACTORS = 0.25, 0.25, (0.8, 1.2)
"""Share of trials that count as worst and as best; share of values sampled anew; factors of the others."""


class Explorer:
    """New values from a donor's: each is sampled anew, or moved by a fifth inside its domain.

    Tune pickles it with the search and restores that copy on a resume; the number of explorations so far then follows
    from the generations on disk.
    """

    def __init__(self, over: Domains, fixed: tuple[str, ...], seed: int, home: Path) -> None:
        """Explore some domains.

        Args:
            over: dotted field -> its domain.
            fixed: fields that keep the donor's value.
            home: folder of the trials' runs.
        """
        self._over, self._fixed, self._seed, self._home, self._count = over, fixed, seed, home, 0

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The donor's values, changed."""
        self._count = 1 + max(self._count, len(list(self._home.glob("*-*"))))
        new = dict(config)
        for number, (field, (kind, values)) in enumerate(sorted(self._over.items())):
            if field not in self._fixed:
                address = Address(self._seed, step=self._count, member=number, stream="explore")
                new[field] = explored(kind, values, config[field], address)
        return new


def explored(kind: str, values: list[Any], old: Any, address: Address) -> Any:
    """A value of a domain near an old one, or anywhere in it.

    Args:
        kind: of the domain: `choice`, `int`, `uniform` or `loguniform`.
        values: all values of a choice; of the other kinds the lowest and the highest, both included.
        old: the donor's value.
        address: names the random draws.
    """
    rng = numpy_rng(address)
    anew, up = rng.random() < RESAMPLE, bool(rng.random() < 0.5)
    if kind == "choice":
        near = values.index(old) + (1 if up else -1)
        return values[int(rng.integers(len(values))) if anew else min(max(near, 0), len(values) - 1)]
    low, high = values
    if kind == "int":
        moved = round(old * FACTORS[up])
        moved += (moved == old) * (1 if up else -1)
        return int(rng.integers(low, high + 1)) if anew else int(min(max(moved, low), high))
    if anew and kind == "loguniform":
        return float(min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high))
    return float(rng.uniform(low, high) if anew else min(max(old * FACTORS[up], low), high))


MOST_VALUES = 1000
"""Values of an int:a:b that are each checked."""
CHANGED = (
    "outer.lr", "outer.label_lr", "outer.rate_lr", "outer.beta1", "outer.beta2", "outer.final", "outer.decay_factor",
    "outer.clip", "outer.clip_relative", "outer.ema", "outer.members", "outer.batch_size", "outer.intermediate_weight",
    "outer.intermediate_size", "outer.temperature",
)  # fmt: skip
"""Fields that a population changes on the way: the state has the same shape with any value."""
INITIAL = ("inner.lr", "inner.momentum")
"""Initial values of the state: a trial inherits them along with the donor's checkpoint."""


def interval(settings: Mapping[str, Any], spec: DistillSpec) -> int:
    """Outer steps between two comparisons of a population, once its settings were checked.

    Args:
        settings: `over`, `trials`, `searcher`, and `perturb` (outer steps; None takes a ninth of all).

    Raises:
        ValueError: a field that can not change while a population learns, or settings that do not go with one.
    """
    over = domains(settings["over"], spec)
    wrong = [field for field in over if field not in CHANGED + INITIAL]
    if wrong:
        raise ValueError(
            f"--over: {', '.join(wrong)} can not change while a population learns: its state, or its steps, would be "
            f"others; valid with --scheduler pbt: {', '.join(CHANGED)}; and as initial values: {', '.join(INITIAL)}"
        )
    if not set(over) & set(CHANGED):
        raise ValueError(f"--over: {', '.join(over)} are initial values only; add a field that changes: "
                         f"{', '.join(CHANGED)}")  # fmt: skip
    for field, (kind, values) in over.items():
        if kind == "int":
            for value in range(values[0], min(values[1], values[0] + MOST_VALUES)):
                applied(spec, {field: value})
    if "inner.momentum" in over and min(over["inner.momentum"][1]) == 0:
        raise ValueError("--over: inner.momentum: 0 leaves no momentum in the state to hand on; give values above 0")
    if settings["trials"] < 2:
        raise ValueError(f"--trials: {settings['trials']}; a population has at least 2, 4 are usual at the least")
    if settings["searcher"] != "random":
        raise ValueError("--searcher: a population starts at random values and changes them itself; take random")
    if spec.run.cpu_seconds is not None:
        raise ValueError("run.cpu_seconds: a population is compared at outer steps; take it out, or --time-budget")
    validated, steps = spec.validation.every, spec.outer.steps
    asked = settings.get("perturb")
    every = int(validated * max(1, -(-steps // (9 * validated))) if asked is None else asked)
    if every < 1 or every % validated:
        raise ValueError(f"--perturb: {every}; must be a multiple of validation.every ({validated})")
    if every >= steps:
        raise ValueError(
            f"--perturb: {every} of {steps} outer steps leave no comparison; lower it (or validation.every)"
        )
    return every
