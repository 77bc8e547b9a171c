"""`raystill search tune`: hyperparameters of any recipe by Ray Tune; each trial is a run with evaluators of its own, or
in a population (`--scheduler pbt`) several, one after another.

A trial's driver has 0.01 CPU, its evaluators a CPU (or a GPU) each in its placement group, its parameter server none.
Trials report validation accuracy alone. Which trial ends first is up to the machines, so a search promises that no
trial is lost, not the same result twice.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import yaml

from raystill.actors import cluster
from raystill.actors.drive import pipeline
from raystill.actors.drive.plan import make_plan
from raystill.actors.signals import Stopped, stopping
from raystill.platform import runs
from raystill.platform.command_line import options
from raystill.platform.files.storage import write_whole
from raystill.platform.spec import DistillSpec
from raystill.platform.tracking import Tracker, reachable
from raystill.search.tune.explore import BEGUN, Explorer, interval
from raystill.search.tune.space import METRIC, applied, domains, param_space

SETTINGS, RESULT = "settings.yaml", "result.json"
SCHEDULERS = {"asha": "stops poor trials early", "pbt": "has them take over good ones' states", "none": "stops none"}
HEAD = 0.01
"""CPU of a trial's driver, which waits most of the time."""


def command(argv: list[str]) -> int:
    """Search a recipe's hyperparameters."""
    text = "Search hyperparameters of a recipe on validation data; each trial is a run with its own evaluators."

    def extend(parser: argparse.ArgumentParser) -> None:
        words = "uniform:a:b, loguniform:a:b, int:a:b or choice:x,y; again for each field"
        parser.add_argument("--over", action="append", default=[], metavar="FIELD=DOMAIN", help=words)
        parser.add_argument("--trials", type=int, default=16, help="runs to make (default: 16)")
        does = "; ".join(f"{name} {what}" for name, what in SCHEDULERS.items())
        parser.add_argument("--scheduler", choices=tuple(SCHEDULERS), default="asha", help=f"{does} (default: asha)")
        who = "who chooses values (default: optuna; random with pbt, which takes no other)"
        parser.add_argument("--searcher", choices=("optuna", "random"), help=who)
        steps = "pbt: outer steps between comparisons, a multiple of validation.every (default: about a ninth of all)"
        parser.add_argument("--perturb", type=int, metavar="STEPS", help=steps)
        parser.add_argument("--time-budget", type=float, help="seconds after which no more is tried")

    spec, args = options.load(DistillSpec, "search tune", text, argv, default="digits", extend=extend)
    searcher = args.searcher or ("random" if args.scheduler == "pbt" else "optuna")
    settings = {"over": args.over, "trials": args.trials, "scheduler": args.scheduler, "searcher": searcher,
                "time_budget": args.time_budget, "perturb": args.perturb}  # fmt: skip
    tune(spec, settings)
    return 0


def tune(spec: DistillSpec, settings: dict[str, Any]) -> dict[str, Any]:
    """Search; returns what `result.json` has: the best values, and a row for each trial.

    Args:
        spec: what each trial starts from; `run.workers` evaluators each (1 where it says nothing).
        settings: `over`, `trials`, `scheduler`, `searcher`, `time_budget`, and for pbt `perturb`.

    Raises:
        ValueError: a field or domain that is none, or not one for the scheduler, or a trial that the cluster has no
            room for.
        RuntimeError: no trial reported anything.
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
    spec = _placed(spec)
    _concurrent(spec)
    folder = runs.create(spec, "search tune", "tune")
    (folder / SETTINGS).write_text(yaml.safe_dump(settings, sort_keys=False))
    return carry_out(spec, settings, folder)


def write_report(folder: Path) -> Path:
    """A table of the trials as JSON; what is missing of the search is done."""
    resume(folder)
    return folder / RESULT


def resume(folder: Path, workers: int | str | None = None) -> dict[str, Any]:
    """Go on with a search; trials that had ended stay, others go on from their runs' checkpoints.

    Raises:
        ValueError: not a search.
    """
    spec = runs.load(folder)
    if workers is not None and workers != spec.run.workers:
        raise ValueError(f"--workers: trials of {folder} have places for {spec.run.workers or 1} evaluators each, and "
                         "Tune keeps them; leave it out")  # fmt: skip
    try:
        settings = yaml.safe_load((folder / SETTINGS).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{folder / SETTINGS} can not be read: {error}") from None
    return carry_out(spec, settings, folder)


def bundles(spec: DistillSpec) -> list[dict[str, float]]:
    """A trial's placement group: its driver, then each evaluator; the whole of a CPU where it computes itself."""
    workers = spec.run.fleet[1] if spec.run.fleet is not None else 1
    if not workers:
        return [{"CPU": 1.0, "GPU": 1.0} if spec.run.device == "cuda" else {"CPU": 1.0}]
    return [{"CPU": HEAD}, *([{"GPU": 1.0} if spec.run.device == "cuda" else {"CPU": 1.0}] * workers)]


def fits(wanted: list[dict[str, float]], nodes: list[dict[str, float]]) -> int:
    """How many trials fit the nodes at once, each bundle on one node; a trial that never fits would wait for ever.

    Raises:
        ValueError: none does; says what it takes and what there is.
    """
    free = [dict(node) for node in nodes]
    many = 0
    while True:
        for bundle in sorted(wanted, key=lambda b: -sum(b.values())):
            node = next((n for n in free if all(n.get(k, 0) >= v - 1e-9 for k, v in bundle.items())), None)
            if node is None:
                break
            for key, value in bundle.items():
                node[key] -= value
        else:
            many += 1
            continue
        break
    if not many:
        takes = {k: round(sum(b.get(k, 0) for b in wanted), 2) for k in ("CPU", "GPU")}
        has = {k: round(sum(n.get(k, 0) for n in nodes), 2) for k in ("CPU", "GPU")}
        raise ValueError(
            f"run.workers: a trial takes {len(wanted)} bundles with {takes['CPU']:g} CPU and {takes['GPU']:g} GPU, and "
            f"the cluster has {has['CPU']:g} CPU and {has['GPU']:g} GPU on {len(nodes)} nodes; take fewer workers"
        )
    return many


def _placed(spec: DistillSpec) -> DistillSpec:
    """The spec with a device of `auto` replaced by what the cluster has: bundles are made of it."""
    if spec.run.device != "auto":
        return spec
    _connected(spec)
    return spec.model_copy(update={"run": spec.run.model_copy(update={"device": cluster.default_workers()[1]})})


def _connected(spec: DistillSpec) -> int:
    """Join the cluster; how many slots this machine has."""
    slots = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cluster.connect(spec.run.address, slots + 1)  # one slot more, of which drivers take a hundredth each
    return slots


def _concurrent(spec: DistillSpec) -> int:
    slots = _connected(spec)
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return min(fits(bundles(spec), nodes), max(1, slots) if spec.run.address is None else 10**6)


def trial(config: dict[str, Any], spec: dict[str, Any], home: str, variables: dict[str, str]) -> None:
    """One trial, in its own process: a run in `home` that reports its validation accuracy; it goes on where it was.

    Args:
        variables: of the environment: where the driver finds its data.
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

    def watch(step: int, accuracy: float, place: str | None) -> None:
        ray.tune.report({METRIC: accuracy, "step": step, "trial_seconds": time.monotonic() - began})

    best = pipeline.learn(plan, folder, watch)
    ray.tune.report({METRIC: best["accuracy"], "step": plan.spec.outer.steps, "ended": 1,
                     "trial_seconds": time.monotonic() - began})  # fmt: skip


def carry_out(spec: DistillSpec, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Do what is still missing of a search."""
    import ray.tune

    from raystill.search.tune.tracking import Children  # is a part of what Tune pickles, so it lies in a module

    print(f"search {folder}", flush=True)
    concurrent, home = _concurrent(spec), folder.absolute() / "trials"
    home.mkdir(exist_ok=True)
    plain = spec.model_copy(update={"tracking": spec.tracking.model_copy(update={"enabled": False})})
    given = {"spec": plain.dump(), "home": str(home), "variables": cluster.worker_environment()["env_vars"]}
    body = ray.tune.with_parameters(trial, **given)
    if settings["scheduler"] == "pbt":
        from raystill.search.tune.generations import member

        # by itself Tune writes down its state every ten seconds or more, and a kill would undo the exchanges of these
        os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
        every = interval(settings, spec)
        body = ray.tune.with_parameters(member, **given, every=every)
        turns = f", {concurrent} at once, which take turns" if concurrent < settings["trials"] else ""
        print(f"a population of {settings['trials']}{turns}; compared every {every} outer steps", flush=True)
    trainable = ray.tune.with_resources(body, ray.tune.PlacementGroupFactory(bundles(spec)))
    parent = _parent(spec, settings, folder)
    watched = Children(spec.tracking, parent.run_id, folder.name, METRIC)
    # Tune's own handler would end the search as if it was done; this way it stops, and a resume goes on
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    warnings.filterwarnings("ignore", message="Consider boosting PBT")  # a process for each run lets go of all it held
    try:
        with stopping():
            found = _tuner(spec, settings, folder, trainable, concurrent, watched).fit()
            watched.complete(found)
        result = _result([_row(found[n], home) for n in range(len(found))], settings, folder)
    except KeyboardInterrupt as stop:
        parent.finish("KILLED")
        signum = stop.signum if isinstance(stop, Stopped) else 2
        raise pipeline.Interrupted(signum, f"stopped; go on with: raystill resume {folder}") from None
    except BaseException:
        parent.finish("FAILED")
        raise
    parent.log(0, {"best_validation": result["best"]["validation"], "failed": len(result["failed"])},
               int(time.time() * 1000))  # fmt: skip
    parent.finish()
    return result


def _tuner(spec: DistillSpec, settings: dict[str, Any], folder: Path, trainable: Any, many: int, watched: Any) -> Any:
    """The search as Tune has it, taken up again where the folder holds one; `many` trials run at once."""
    import ray.tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator
    from ray.tune.search.optuna import OptunaSearch

    storage = folder.absolute() / "tune"
    space = param_space(domains(settings["over"], spec))
    if ray.tune.Tuner.can_restore(str(storage / "search")):
        return ray.tune.Tuner.restore(
            str(storage / "search"), trainable, resume_unfinished=True, resume_errored=True, param_space=space
        )
    steps = spec.outer.steps
    scheduler: Any = FIFOScheduler()
    if settings["scheduler"] == "asha":
        # a trial that reaches the last step is not stopped there: its run ends itself, and tells its best
        scheduler = ASHAScheduler(time_attr="step", max_t=steps, grace_period=max(1, steps // 9), reduction_factor=3,
                                  stop_last_trials=False)  # fmt: skip
    search: Any = OptunaSearch(seed=spec.run.seed)
    if settings["searcher"] == "random":
        search = BasicVariantGenerator(random_state=spec.run.seed, max_concurrent=many)
    if settings["scheduler"] == "pbt":
        from raystill.search.tune.population import Population

        found = domains(settings["over"], spec)
        explorer = Explorer(found, BEGUN, spec.run.seed, folder.absolute() / "trials")
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
            name="search", storage_path=str(storage), verbose=0, callbacks=[watched],
            failure_config=ray.tune.FailureConfig(max_failures=1),
        ),
    )  # fmt: skip


def _row(result: Any, home: Path) -> dict[str, Any]:
    """A trial's row; one without a metric has failed, whatever it says of errors."""
    metrics, frame = result.metrics or {}, result.metrics_dataframe
    row = {"trial": Path(result.path).name, "values": result.config or {}, "validation": metrics.get(METRIC),
           "step": metrics.get("step"), "seconds": metrics.get("trial_seconds")}  # fmt: skip
    if "run" in metrics:  # of a population
        from raystill.search.tune.generations import more

        row |= more(str(row["trial"]), metrics, home)
        if frame is not None:  # a trial that was paused has been several processes
            row["seconds"] = float(frame.groupby("pid")["trial_seconds"].max().sum())
    error = str(result.error).strip().splitlines() if result.error is not None else []
    if row["validation"] is None:
        row["failed"] = error[-1][:300] if error else "no metrics: it never began, or was stopped before its first"
    elif error:
        row["failed"] = error[-1][:300]
    return row


def _result(rows: list[dict[str, Any]], settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    good = sorted((row for row in rows if row["validation"] is not None), key=lambda row: -row["validation"])
    failed = [row for row in rows if "failed" in row]
    for row in failed:
        print(f"failed: {row['trial']}: {row['failed']}", flush=True)
    if not good:
        raise RuntimeError(f"no trial of {len(rows)} reported anything; {folder / 'trials'} has their logs")
    for row in good[:10]:
        values = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row["values"].items())
        print(f"  {row['validation']:6.2f} % validation, step {row['step']}: {values}")
    result = {"best": good[0], "trials": rows, "failed": failed, "settings": settings, "split": "validation",
              "seconds": sum(row["seconds"] or 0 for row in rows)}  # fmt: skip
    write_whole(folder / RESULT, json.dumps(result, indent=1, default=str).encode())
    print(f"  result  {folder / RESULT}")
    if "lineage" in good[0]:  # its last values alone do not make it again
        print(f"  data    {folder / 'trials' / good[0]['run'] / 'artefact'}")
    return result


def _parent(spec: DistillSpec, settings: dict[str, Any], folder: Path) -> Tracker:
    path = folder / "tracking.json"
    noted = json.loads(path.read_text())["run_id"] if path.is_file() else None
    tracker = Tracker.start(
        spec.tracking, folder.name, {"spec": spec.dump(), "search": settings}, {"raystill.search": folder.name}, noted
    )
    if tracker.run_id:
        write_whole(path, json.dumps({"run_id": tracker.run_id}).encode())
    return tracker
