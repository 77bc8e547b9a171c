"""Hyperparameters of any recipe by Ray Tune; each trial is a run, or in a population several, one after another.

A trial's driver has 0.01 CPU, its evaluators a CPU (or a GPU) each in its placement group, its parameter server none.
Trials report validation accuracy alone. Which trial ends first depends on the machines, so a search promises that no
trial is lost, not the same result twice.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from typing import Any

import yaml

from raystill.actors import cluster
from raystill.actors.signals import stopping
from raystill.platform import runs
from raystill.platform.files.storage import Storage
from raystill.platform.spec import DistillSpec
from raystill.platform.tracking import carried_out, noted, reachable
from raystill.search.tracking import SEARCH
from raystill.search.tune import placement, result
from raystill.search.tune.explore import INITIAL, Explorer, interval
from raystill.search.tune.space import METRIC, domains, param_space

SETTINGS = "settings.yaml"


def tune(spec: DistillSpec, settings: dict[str, Any]) -> dict[str, Any]:
    """Search, in a new run folder.

    Args:
        spec: what each trial starts from; `run.workers` evaluators each (1 where it says nothing).
        settings: `over`, `trials`, `scheduler`, `searcher`, `time_budget`, and for pbt `perturb`.

    Returns:
        What `result.json` has: the best values, and a row for each trial.

    Raises:
        ValueError: an unknown field, a domain that does not parse or does not go with the scheduler, or a trial that
            the cluster has no room for.
        RuntimeError: no trial reported anything.
        Interrupted: stopped by Ctrl-C; `resume` goes on.
    """
    domains(settings["over"], spec)
    if settings["trials"] < 1:
        raise ValueError(f"--trials: {settings['trials']}; at least 1")
    if settings["scheduler"] == "pbt":
        interval(settings, spec)
    elif settings.get("perturb") is not None:
        raise ValueError("--perturb: is for --scheduler pbt alone; take it out")
    runs.writable(spec.run.out)
    if spec.tracking.enabled:
        reachable(spec.tracking)
    spec = placement.with_device(spec)
    placement.concurrent(spec)
    folder = runs.create(spec, "search tune", "tune")
    (folder / SETTINGS).write_text(yaml.safe_dump(settings, sort_keys=False))
    return carry_out(spec, settings, folder)


def resume(folder: Path, workers: int | str | None = None) -> dict[str, Any]:
    """Finish a search; trials that had ended stay, others go on from their runs' checkpoints.

    Raises:
        ValueError: not a search.
    """
    spec = runs.load(folder)
    if workers is not None and workers != spec.run.workers:
        raise ValueError(f"--workers: trials of {folder} have slots for {spec.run.workers or 1} evaluators each, and "
                         "Tune keeps them; leave it out")  # fmt: skip
    try:
        settings = yaml.safe_load((folder / SETTINGS).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{folder / SETTINGS} can not be read: {error}") from None
    return carry_out(spec, settings, folder)


def carry_out(spec: DistillSpec, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Do what is still missing of a search; returns its result."""
    from raystill.search.tune.tracking import TrialTracking  # Tune pickles it, so it lies in a module

    print(f"search {folder}", flush=True)
    many, home = placement.concurrent(spec), folder.absolute() / "trials"
    home.mkdir(exist_ok=True)
    tracker, _ = noted(
        spec.tracking, Storage(folder), folder.name, {"spec": spec.dump(), "search": settings}, {SEARCH: folder.name}
    )
    callback = TrialTracking(spec.tracking, tracker.run_id, folder.name, METRIC)
    with carried_out(folder, tracker):
        with stopping():
            results = _tuner(spec, settings, folder, _trainable(spec, settings, home, many), many, callback).fit()
            callback.complete(results)
        outcome = result.write([result.row(results[n], home) for n in range(len(results))], settings, folder)
        values = {"best_validation": outcome["best"]["validation"], "failed": len(outcome["failed"])}
        tracker.log(0, values, int(time.time() * 1000))
    return outcome


def _trainable(spec: DistillSpec, settings: dict[str, Any], home: Path, many: int) -> Any:
    """The body of a trial, with its resources."""
    import ray.tune

    plain = spec.model_copy(update={"tracking": spec.tracking.model_copy(update={"enabled": False})})
    given = {"spec": plain.dump(), "home": str(home), "variables": cluster.worker_environment()["env_vars"]}
    if settings["scheduler"] == "pbt":
        from raystill.search.tune.generations import member

        every = interval(settings, spec)
        turns = f", {many} at once, which take turns" if many < settings["trials"] else ""
        print(f"a population of {settings['trials']}{turns}; compared every {every} outer steps", flush=True)
        body = ray.tune.with_parameters(member, **given, every=every)
    else:
        from raystill.search.tune.trial import trial

        body = ray.tune.with_parameters(trial, **given)
    return ray.tune.with_resources(body, ray.tune.PlacementGroupFactory(placement.bundles(spec)))


def _tuner(spec: DistillSpec, settings: dict[str, Any], folder: Path, trainable: Any, many: int, callback: Any) -> Any:
    """The experiment, restored where the folder holds it; `many` trials run at once."""
    import ray.tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from ray.tune.search.optuna import OptunaSearch

    # Tune's own handler of SIGINT would end the experiment as done; without it a resume can go on
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    if settings["scheduler"] == "pbt":
        # Tune's own interval is ten seconds or more, and a kill would undo the exchanges since
        os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
    warnings.filterwarnings("ignore", message="Consider boosting PBT")  # trials share no actor on purpose
    storage = folder.absolute() / "tune"
    space = param_space(domains(settings["over"], spec))
    if ray.tune.Tuner.can_restore(str(storage / "search")):
        return ray.tune.Tuner.restore(
            str(storage / "search"), trainable, resume_unfinished=True, resume_errored=True, param_space=space
        )
    steps = spec.outer.steps
    scheduler: Any = FIFOScheduler()
    if settings["scheduler"] == "asha":
        # a trial that reaches the last step is not stopped there: its run ends itself, and reports its best
        scheduler = ASHAScheduler(time_attr="step", max_t=steps, grace_period=max(1, steps // 9), reduction_factor=3,
                                  stop_last_trials=False)  # fmt: skip
    search: Any = OptunaSearch(seed=spec.run.seed)
    if settings["searcher"] == "random":
        search = BasicVariantGenerator(random_state=spec.run.seed, max_concurrent=many)
    if settings["scheduler"] == "pbt":
        from raystill.search.tune.population import Population

        explorer = Explorer(domains(settings["over"], spec), INITIAL, spec.run.seed, folder.absolute() / "trials")
        scheduler = Population(settings["trials"], interval(settings, spec), explorer)
        search = BasicVariantGenerator(random_state=spec.run.seed)  # all trials are there at once, and take turns
    return ray.tune.Tuner(
        trainable,
        param_space=space,
        tune_config=ray.tune.TuneConfig(
            metric=METRIC, mode="max", num_samples=settings["trials"], search_alg=search, scheduler=scheduler,
            max_concurrent_trials=None if settings["searcher"] == "random" else many,
            time_budget_s=settings["time_budget"],
        ),
        run_config=ray.tune.RunConfig(
            name="search", storage_path=str(storage), verbose=0, callbacks=[callback],
            failure_config=ray.tune.FailureConfig(max_failures=1),
        ),
    )  # fmt: skip
