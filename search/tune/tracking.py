"""A hyperparameter search in MLflow: a child run for each trial, written in one go when it ends.

Tune's own callback logs point by point. Tune pickles ours with the search and brings back that copy when a search is
taken up again, so it holds plain values alone and asks the store which children there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ray.tune

from raystill.platform.spec import TrackingSpec
from raystill.platform.tracking import Tracker
from raystill.platform.tracking.store import PARENT, children
from raystill.search.tune.space import CLOCK

TRIAL = "raystill.trial"
Point = tuple[int, dict[str, float], int]
"""(outer step, metrics, time_ms)."""


class Children(ray.tune.Callback):
    """Writes the children of a parent run; does nothing where there is no parent."""

    def __init__(self, spec: TrackingSpec, parent: str | None, name: str, metric: str) -> None:
        self._spec, self._parent, self._name, self._metric = spec, parent, name, metric
        self._points: dict[str, list[dict[str, Any]]] = {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Keep a report."""
        self._points.setdefault(trial.trial_id, []).append(dict(result))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Write a trial that ended."""
        self._end(trial, "FINISHED")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Write a trial that failed for good."""
        self._end(trial, "FAILED")

    def complete(self, found: ray.tune.ResultGrid) -> None:
        """Write what the store lacks of ended trials: points from before a kill, and children of a store that was away.

        A trial's points are those of Tune's own record of it.
        """
        if self._parent is None:
            return
        for n in range(len(found)):
            result = found[n]
            trial = (result.metrics or {}).get("trial_id")
            if trial and result.metrics_dataframe is not None:
                points = self._known(result.metrics_dataframe.to_dict("records"))
                status = "FINISHED" if result.error is None and points else "FAILED"
                self._write(str(trial), result.config or {}, points, status)

    def _known(self, rows: Iterable[dict[str, Any]]) -> list[Point]:
        """Points of what trials reported; the last report of one that ran to its end repeats its best.

        One of a population has its best beside its last, and may come to a step again: the later report counts.
        """
        points: dict[tuple[int, bool], Point] = {}
        for row in rows:
            if self._metric not in row:
                continue
            step, ended, value = int(row["step"]), row.get("ended") == 1, float(row[self._metric])
            numbers = {("best_" if ended else "") + self._metric: value}
            if CLOCK in row:
                numbers = {self._metric: value, "generation": float(row["generation"])}
                numbers |= {f"best_{self._metric}": float(row["best"])} if ended else {}
            points[step, ended] = step, numbers, 1000 * int(row["timestamp"])
        return list(points.values())

    def _end(self, trial: Any, status: str) -> None:
        if self._parent is not None:
            self._write(trial.trial_id, trial.config, self._known(self._points.pop(trial.trial_id, [])), status)

    def _write(self, trial: str, values: dict[str, Any], points: list[Point], status: str) -> None:
        """One child, made or completed."""
        assert self._parent is not None
        tags = {PARENT: self._parent, "raystill.search": self._name, TRIAL: trial}
        try:
            known, _ = children(self._spec, self._parent, TRIAL).get(trial, (None, False))
            child = Tracker.start(self._spec, f"{self._name} {trial}", values, tags, known)
        except ValueError as error:  # a store that is away costs a child, not the search
            print(f"warning: {error}", flush=True)
            return
        child.catch_up(points)
        child.finish(status)
