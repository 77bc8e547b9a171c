"""A trial without a population: one run, in a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from raystill.actors.drive import pipeline
from raystill.actors.drive.plan import make_plan
from raystill.platform import runs
from raystill.platform.spec import DistillSpec
from raystill.search.tune.space import METRIC, applied


def trial(config: dict[str, Any], spec: dict[str, Any], home: str, variables: dict[str, str]) -> None:
    """Distil in the folder of this trial, reporting validation accuracy; a run that is there is resumed.

    Args:
        config: dotted field -> value.
        spec: that the values change.
        home: folder of the trials' runs.
        variables: of the environment, which say where the data lie.
    """
    import ray.tune

    os.environ.update(variables)
    name = ray.tune.get_context().get_trial_id()
    base = DistillSpec.model_validate(spec)
    workers = base.run.fleet[1] if base.run.fleet is not None else 1
    run = base.run.model_copy(update={"name": name, "out": Path(home), "workers": workers, "address": None})
    changed = applied(base.model_copy(update={"run": run}), config)
    folder = Path(home) / name
    plan = make_plan(changed, resumed=folder.exists())
    if not folder.exists():
        runs.create(plan.spec)
    began = time.monotonic()

    def watch(step: int, accuracy: float, checkpoint: str | None) -> None:
        ray.tune.report({METRIC: accuracy, "step": step, "trial_seconds": time.monotonic() - began})

    best = pipeline.learn(plan, folder, watch)
    ray.tune.report({METRIC: best["accuracy"], "step": plan.spec.outer.steps, "ended": 1,
                     "trial_seconds": time.monotonic() - began})  # fmt: skip
