"""Population based training (1711.09846): which fields a population changes, when, and to what.

At every `interval` of outer steps a trial among the worst quarter takes over the state of one of the best and goes on
with changed values (`tune_generations.py`). Tune's own changes are not used: they leave a field's domain, multiply
choices, and draw from Python's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DistillSpec
from raystill.search.tune.space import Found, applied, domains

QUANTILE, RESAMPLE, FACTORS = 0.25, 0.25, (0.8, 1.2)
"""Share of the worst, and of the best; how often a value is drawn anew; what it is multiplied by otherwise."""


class Explorer:
    """New values from a donor's: each drawn anew, or moved by a fifth; it stays in its domain.

    Tune pickles it with the search, and brings back that copy when a search is taken up again; how many draws there
    were is then told by the generations on the disk.
    """

    def __init__(self, found: Found, fixed: tuple[str, ...], seed: int, home: Path) -> None:
        """Remember the domains; `fixed` fields stay the donor's, and `home` holds the trials' runs."""
        self._found, self._fixed, self._seed, self._home, self._drawn = found, fixed, seed, home, 0

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The donor's values, changed."""
        self._drawn = 1 + max(self._drawn, len(list(self._home.glob("*-*"))))
        new = dict(config)
        for number, (field, (kind, values)) in enumerate(sorted(self._found.items())):
            if field not in self._fixed:
                address = Address(self._seed, step=self._drawn, member=number, stream="explore")
                new[field] = explored(kind, values, config[field], address)
        return new


def explored(kind: str, values: list[Any], old: Any, address: Address) -> Any:
    """A value of a domain near an old one, or anywhere in it."""
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
BEGUN = ("inner.lr", "inner.momentum")
"""Fields that say what a part of the state begins at; whoever takes a state over has them with it."""


def interval(settings: Mapping[str, Any], spec: DistillSpec) -> int:
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
    asked = settings.get("perturb")
    every = int(judged * max(1, -(-steps // (9 * judged))) if asked is None else asked)
    if every < 1 or every % judged:
        raise ValueError(f"--perturb: {every}; must be a multiple of validation.every ({judged})")
    if every >= steps:
        raise ValueError(
            f"--perturb: {every} of {steps} outer steps leave no comparison; lower it (or validation.every)"
        )
    return every
