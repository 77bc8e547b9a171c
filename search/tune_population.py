"""Population based training (1711.09846) by Ray Tune: which fields a population changes, when, and to what.

At every `interval` of outer steps a trial among the worst quarter takes over the state of one of the best and goes on
with changed values (`tune_generations.py`). Tune's own changes are not used: they leave a field's domain, multiply
choices, and draw from Python's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.schedulers import PopulationBasedTraining

from raystill.platform.seeds import Address, numpy_rng
from raystill.search.tune_space import CLOCK, Found

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


class Population(PopulationBasedTraining):
    """Tune's scheduler, which waits with the first exchange until every trial has been judged once.

    Where trials take turns, Tune alone would have the first two replace one another before the others have begun.
    """

    def __init__(self, size: int, every: int, explorer: Explorer) -> None:
        """A population of `size` trials, compared at every `every` of the clock."""
        super().__init__(
            time_attr=CLOCK, perturbation_interval=every, quantile_fraction=QUANTILE, custom_explore_fn=explorer
        )
        self._size = size

    def _quantiles(self) -> tuple[list[Any], list[Any]]:
        judged = [t for t, state in self._trial_state.items() if state.last_score is not None or t.is_finished()]
        return super()._quantiles() if len(judged) >= self._size else ([], [])
