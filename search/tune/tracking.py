"""A callback of Ray Tune that writes an MLflow run for each trial, in one go when the trial ends.

Tune's own callback logs point by point. Tune pickles this one with the search and restores that copy when the search
is resumed, so it holds plain values alone and asks the store which children there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ray.tune

from raystill.platform.spec import TrackingSpec
from raystill.search.tracking import Children, Point
from raystill.search.tune.space import CLOCK

TRIAL = "raystill.trial"
"""Tag of a trial's run in MLflow."""


class TrialTracking(ray.tune.Callback):
    """Writes the trials of a search; does nothing where there is no parent."""

    def __init__(self, spec: TrackingSpec, parent: str | None, name: str, metric: str) -> None:
        """Track a search.

        Args:
            parent: MLflow's id of it.
            name: of the search.
            metric: of a report, in percent.
        """
        self._spec, self._parent, self._name, self._metric = spec, parent, name, metric
        self._reports: dict[str, list[dict[str, Any]]] = {}

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Keep a report until its trial ends.

        Args:
            trial: Tune's record of the trial.
            result: the report: the metric, `step`, and `timestamp` in seconds.
        """
        self._reports.setdefault(trial.trial_id, []).append(dict(result))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Write a trial that ended."""
        self._end(trial, "FINISHED")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Write a trial that failed for good."""
        self._end(trial, "FAILED")

    def complete(self, results: ray.tune.ResultGrid) -> None:
        """Write what the store lacks of ended trials, from Tune's own record of them.

        A kill, or a store that was away, may have cost some points or whole trials.
        """
        if self._parent is None:
            return
        for n in range(len(results)):
            result = results[n]
            trial = (result.metrics or {}).get("trial_id")
            if trial and result.metrics_dataframe is not None:
                points = self._points(result.metrics_dataframe.to_dict("records"))
                status = "FINISHED" if result.error is None and points else "FAILED"
                self._write(str(trial), result.config or {}, points, status)

    def _points(self, reports: Iterable[dict[str, Any]]) -> list[Point]:
        """Points of some reports. The last report of a trial that ran to its end repeats its best accuracy.

        In a population the last report has the best beside its own, and a trial may come to a step again: the later
        report counts.
        """
        points: dict[tuple[int, bool], Point] = {}
        for report in reports:
            if self._metric not in report:
                continue
            step, ended, value = int(report["step"]), report.get("ended") == 1, float(report[self._metric])
            numbers = {("best_" if ended else "") + self._metric: value}
            if CLOCK in report:
                numbers = {self._metric: value, "generation": float(report["generation"])}
                numbers |= {f"best_{self._metric}": float(report["best"])} if ended else {}
            points[step, ended] = step, numbers, 1000 * int(report["timestamp"])
        return list(points.values())

    def _end(self, trial: Any, status: str) -> None:
        reports = self._reports.pop(trial.trial_id, [])
        self._write(trial.trial_id, trial.config, self._points(reports), status)

    def _write(self, trial: str, values: dict[str, Any], points: list[Point], status: str) -> None:
        """Write or complete one child."""
        children = Children(self._spec, self._parent, self._name, TRIAL)
        children.write(trial, values, points, status, again=True)
        if children.trouble:
            print(f"warning: {children.trouble}", flush=True)
