"""A trial of a population: runs `TRIAL`, `TRIAL-1`, ..., each but the first started from another trial's checkpoint.

What Tune hands from trial to trial is a JSON file that names a run's checkpoint. The run that takes it over has it in
its spec (`donor`, whose content is a part of the run's identity), and `lineage.json` in its folder names the donor.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from raystill.actors.drive import pipeline
from raystill.actors.drive.crew import Diverged
from raystill.actors.drive.plan import Plan, make_plan
from raystill.actors.record import history
from raystill.platform import runs
from raystill.platform.files.storage import write_whole
from raystill.platform.spec import DistillSpec
from raystill.search.tune.space import CLOCK, METRIC, applied

HANDED, LINEAGE = "donor.json", "lineage.json"
PATIENCE = 60.0
"""Seconds in which the process of a paused trial must release its run."""
TURNS = 40
"""Comparisons that a diverged trial waits for, each a quarter of the time that it took so far; then it has failed."""


def member(config: dict[str, Any], spec: dict[str, Any], home: str, variables: dict[str, str], every: int) -> None:
    """Run one trial in its own process; report at every `every` outer steps, with the checkpoint, and at its end.

    A trial that diverges reports 0 %, until it takes another's state over.

    Args:
        config: dotted field -> value.
        spec: that the values change.
        home: folder of the trials' runs.
        variables: of the environment, which say where the data lie.
    """
    import ray.tune

    os.environ.update(variables)
    trial, began = ray.tune.get_context().get_trial_id(), time.monotonic()
    values = {field: value.item() if hasattr(value, "item") else value for field, value in config.items()}
    plan, folder = run_of(Path(home), trial, values, _handed(), DistillSpec.model_validate(spec), every)

    def facts(step: int, accuracy: float, clock: int) -> dict[str, Any]:
        return {METRIC: accuracy, "step": step, CLOCK: clock, "run": folder.name,
                "generation": number(folder.name, trial), "trial_seconds": time.monotonic() - began}  # fmt: skip

    def watch(step: int, accuracy: float, checkpoint: str | None) -> None:
        names = {"trial": trial, "run": folder.name, "step": step, "checkpoint": checkpoint, "values": values}
        with tempfile.TemporaryDirectory() as box:
            (Path(box) / HANDED).write_text(json.dumps(names))
            ray.tune.report(facts(step, accuracy, step), checkpoint=ray.tune.Checkpoint.from_directory(box))

    try:
        best = pipeline.learn(plan, folder, watch, every)
    except (Diverged, FloatingPointError):
        rows = history.rows(folder)
        step = rows[-1]["step"] if rows else plan.spec.donor.step or 0
        pause = max(1.0, (time.monotonic() - began) / 4)
        for turn in range(1, TURNS + 1):  # as the worst of all it waits to be ended here and to take another's state
            ray.tune.report({**facts(step, 0.0, (step // every + turn) * every), "diverged": 1})
            time.sleep(pause)
        raise
    last = history.rows(folder)[-1]
    ended = {"ended": 1, "best": best["accuracy"], "best_step": best["step"]}
    ray.tune.report({**facts(last["step"], last["validation_accuracy"], 0), **ended})


def _handed() -> dict[str, Any] | None:
    """The checkpoint that Tune gives this trial: its own last, another's that it takes over, or none."""
    import ray.tune

    checkpoint = ray.tune.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as box:
        names: dict[str, Any] = json.loads((Path(box) / HANDED).read_text())
    return names


def number(run: str, trial: str) -> int:
    """Which generation of a trial a run is."""
    return int(run.removeprefix(f"{trial}-")) if run != trial else 0


def run_of(
    home: Path, trial: str, values: dict[str, Any], handed: dict[str, Any] | None, base: DistillSpec, every: int
) -> tuple[Plan, Path]:
    """The run that a trial is to work on, created where it is missing.

    Args:
        home: folder of the trials' runs.
        values: field -> value, as Tune has it.
        handed: the file that Tune hands over: names of a run's checkpoint.
        base: the spec that values change.
        every: outer steps between checkpoints that others may take over; all are kept, for a late one.

    Raises:
        ValueError: another process holds the run.
    """
    folder = home / _name(home, trial, values, handed)
    if (folder / "spec.yaml").exists():
        _await_release(folder)
        saved = runs.load(folder)
        return make_plan(
            saved.model_copy(update={"run": saved.run.model_copy(update={"out": home})}), resumed=True
        ), folder
    workers = base.run.fleet[1] if base.run.fleet is not None else 1
    keep = base.outer.steps // every + base.outer.rollbacks + 9
    changes = {"name": folder.name, "out": home, "workers": workers, "address": None, "keep": keep,
               "checkpoint_every": base.outer.steps, "checkpoint_seconds": None}  # fmt: skip
    spec = applied(base.model_copy(update={"run": base.run.model_copy(update=changes)}), values)
    origin: dict[str, Any] = {"trial": trial, "values": values, "donor": None, "changed": {}}
    if handed is not None and handed["run"] != folder.name:
        spec = spec.model_copy(update={"donor": spec.donor.model_copy(update={
            "checkpoint": handed["checkpoint"], "step": None, "content": None})})  # fmt: skip
        old = handed["values"]
        origin["donor"] = {k: handed[k] for k in ("trial", "run", "step", "checkpoint")}
        origin["changed"] = {k: [old[k], new] for k, new in values.items() if new != old[k]}
    plan = make_plan(spec, resumed=True)
    runs.create(plan.spec)
    write_whole(folder / LINEAGE, json.dumps(origin, indent=1).encode())
    return plan, folder


def _name(home: Path, trial: str, values: dict[str, Any], handed: dict[str, Any] | None) -> str:
    """The run's name. The same donor and values as before give the same run, which is resumed."""
    if handed is None:
        return trial
    if handed["trial"] == trial:
        return str(handed["run"])
    numbers = sorted(number(path.name, trial) for path in home.glob(f"{trial}-*"))
    for known in numbers:
        origin = _origin(home / f"{trial}-{known}")
        if origin["donor"] and origin["donor"]["checkpoint"] == handed["checkpoint"] and origin["values"] == values:
            return f"{trial}-{known}"
    return f"{trial}-{max(numbers, default=0) + 1}"


def _await_release(folder: Path) -> None:
    """Wait until no process holds a run; raises ValueError where one does for PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with runs.locked(folder):
                return
        except ValueError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _origin(folder: Path) -> dict[str, Any]:
    """The contents of `lineage.json`: {trial, values, donor, changed}."""
    try:
        origin: dict[str, Any] = json.loads((folder / LINEAGE).read_text())
    except (OSError, ValueError):  # a kill came before it was written
        return {"trial": folder.name, "values": {}, "donor": None, "changed": {}}
    return origin


def lineage(home: Path, run: str) -> list[dict[str, Any]]:
    """The runs that led to a run, the founder first: {run, trial, from_step, values, changed: {field: [old, new]}}."""
    ancestors: list[dict[str, Any]] = []
    while True:
        origin = _origin(home / run)
        donor = origin["donor"] or {"step": 0, "run": None}
        ancestors.insert(0, {"run": run, "trial": origin["trial"], "from_step": donor["step"],
                             "values": origin["values"], "changed": origin["changed"]})  # fmt: skip
        if donor["run"] is None:
            return ancestors
        run = donor["run"]


def population_row(name: str, metrics: dict[str, Any], home: Path) -> dict[str, Any]:
    """Further figures of a population's trial: its run, its lineage, the outer steps of all its runs.

    Args:
        name: of the trial's folder at Tune, which has the trial in it.
        metrics: its last report; its donor's, where it has not reported since it took a state over.
        home: folder of the trials' runs.
    """
    own = [path.name for path in home.iterdir() if path.is_dir()]
    trial = next((t for t in (run.partition("-")[0] for run in own) if f"_{t}_" in f"{name}_"), None)
    if trial is None:
        return {}
    generations = [run for run in own if run.partition("-")[0] == trial]
    run = metrics["run"] if metrics["run"] in generations else max(generations, key=lambda run: number(run, trial))
    return {
        "run": run, "best_validation": metrics.get("best"), "best_step": metrics.get("best_step"),
        "lineage": lineage(home, run), "outer_steps": sum(len(history.rows(home / each)) for each in generations),
    }  # fmt: skip
