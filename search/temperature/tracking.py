"""MLflow children of a search: one run for each setting, in as few calls as there are runs to make."""

from __future__ import annotations

from collections.abc import Sequence

from raystill.platform.evaluation.summary import summary
from raystill.platform.spec import TrackingSpec
from raystill.platform.tracking.store import opened
from raystill.search.temperature.settings import Row, Setting

PARENT, SETTING = "mlflow.parentRunId", "raystill.setting"
MOST = 1000
"""Settings that become children; the Parquet file has all."""


def log(spec: TrackingSpec, parent: str, rows: Sequence[Row], time_ms: int) -> str:
    """Adds the children that the parent lacks, each whole in one batch.

    Args:
        rows: students; those of a setting are the points of its metric `accuracy/STEPS`, their seed is the step.

    Returns:
        What went wrong, on one line; a store that is lost costs the search nothing.
    """
    groups: dict[Setting, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    try:
        _add(spec, parent, dict(list(groups.items())[:MOST]), time_ms)
    except ValueError as error:
        return str(error)
    return ""


def _add(spec: TrackingSpec, parent: str, groups: dict[Setting, list[Row]], time_ms: int) -> None:
    from mlflow.entities import Metric, Param

    with opened(spec) as (client, _):
        experiment = client.get_run(parent).info.experiment_id
        have = client.search_runs([experiment], f"tags.`{PARENT}` = '{parent}'", max_results=MOST)
        known = {run.data.tags.get(SETTING) for run in have if run.info.status == "FINISHED"}
        for run in have:
            if run.info.status != "FINISHED":  # a driver was killed while it wrote this one
                client.delete_run(run.info.run_id)
        for setting, students in groups.items():
            if str(setting) in known:
                continue
            tags = {PARENT: parent, SETTING: str(setting)}
            child = client.create_run(experiment, run_name=str(setting), tags=tags).info.run_id
            metrics = [Metric(f"accuracy/{r.steps}", 100 * r.accuracy, time_ms, r.seed) for r in students]
            last = max(r.steps for r in students)
            found = summary([100 * r.accuracy for r in students if r.steps == last])
            metrics += [Metric("accuracy_mean", found.mean, time_ms, last)]
            metrics += [Metric("accuracy_std", found.std, time_ms, last)] if found.n > 1 else []
            params = [Param(k, str(v)) for k, v in setting._asdict().items()]
            client.log_batch(child, metrics=metrics, params=params)
            client.set_terminated(child, "FINISHED")
