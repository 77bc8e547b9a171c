"""A population's scheduler: Ray Tune's, with `Explorer`'s values and a first exchange that waits for all."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import PopulationBasedTraining

from raystill.search.tune.explore import QUANTILE, Explorer
from raystill.search.tune.space import CLOCK


class Population(PopulationBasedTraining):
    """Tune's scheduler, which makes no exchange before every trial has reported once.

    Where trials take turns, Tune alone would have the first two replace one another before the others have started.
    """

    def __init__(self, size: int, every: int, explorer: Explorer) -> None:
        """A population of `size` trials, compared at every `every` of the clock."""
        super().__init__(
            time_attr=CLOCK, perturbation_interval=every, quantile_fraction=QUANTILE, custom_explore_fn=explorer
        )
        self._size = size

    def _quantiles(self) -> tuple[list[Any], list[Any]]:
        reported = [t for t, state in self._trial_state.items() if state.last_score is not None or t.is_finished()]
        return super()._quantiles() if len(reported) >= self._size else ([], [])
