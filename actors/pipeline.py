"""From a spec to a result: plan, distil, keep, assess, report. What `raystill distill` does, callable from Python."""

from __future__ import annotations

import platform as machine
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raystill.actors import assessment, checkpoints, cluster, coordinator, history
from raystill.actors.commit_log import CommitLog
from raystill.actors.crew import Crew
from raystill.actors.executors import Executor, InProcess
from raystill.platform import learners, registry, runs, synthesis
from raystill.platform.artifacts import Distilled, load_distilled, save_distilled
from raystill.platform.data import DataSet, load
from raystill.platform.objectives import OBJECTIVES
from raystill.platform.report import write_report
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import Synthesizer
from raystill.platform.tracking import Tracker, reachable
from raystill.platform.tracking_store import found_again
from raystill.platform.workbench import resolve_auto


class Interrupted(KeyboardInterrupt):
    """The run was stopped by the user, and can go on."""


@dataclass(frozen=True)
class Plan:
    """A spec that was checked against its data: nothing in it can be the user's mistake any more."""

    spec: DistillSpec
    data: DataSet
    synthesizer: Synthesizer
    plugins: registry.Plugins | None
    workers: int


def plan(spec: DistillSpec, plugins: registry.Plugins | None = None) -> Plan:
    """Check a spec whole, before any actor starts.

    Raises:
        ValueError: one clear line about the first thing that is wrong.
    """
    runs.writable(spec.run.out)
    if spec.tracking.enabled:
        reachable(spec.tracking)
    registry.resolve("objectives", spec.inner.objective, OBJECTIVES, plugins, "inner.objective")
    registry.resolve("objectives", spec.outer.objective, OBJECTIVES, plugins, "outer.objective")
    for field, names in (("learner.name", (spec.learner.name,)), ("assess.architectures", spec.assess.architectures)):
        for name in names:
            registry.resolve("learners", name, learners.NETWORKS, plugins, field)
    data = load(spec.data, plugins)
    if not len(data.validation):
        raise ValueError(
            "data.validation: no validation images; give a share above 0, since the best data is chosen by them"
        )
    learners.build(spec.learner, data.shape, len(data.classes), plugins)
    synthesizer = synthesis.build(spec, data.shape, len(data.classes), plugins)
    synthesizer.check(data)
    workers, device = _workers(spec)
    spec = resolve_auto(spec, device).model_copy(update={"tracking": found_again(spec.tracking)})
    return Plan(spec, data, synthesizer, plugins, workers)


def _workers(spec: DistillSpec) -> tuple[int, str]:
    """(evaluators, device); a cluster is asked only when it must be, since joining one takes seconds."""
    run = spec.run
    gpus = torch.cuda.device_count()
    if run.device == "cuda" and not gpus and run.address is None:
        raise ValueError("run.device: cuda, but this machine has no GPU that torch sees; valid here: cpu, auto")
    if run.workers == 0:
        return 0, "cuda" if run.device != "cpu" and gpus else "cpu"
    cluster.connect(run.address, run.workers)
    offered, device = cluster.default_workers()
    if run.device == "cpu":
        device, offered = "cpu", cluster.cpu_slots()
    elif run.device == "cuda" != device:
        raise ValueError(f"run.device: cuda, but the cluster offers no GPU, only {offered} CPU slots")
    workers = run.workers or offered
    if workers > offered:
        raise ValueError(f"run.workers: {workers} evaluators, but the cluster offers {offered} {device} slots")
    return workers, device


@contextmanager
def _executor(made: Plan) -> Iterator[Executor]:
    groups = dict(made.synthesizer.groups)
    executor: Executor = (
        cluster.OnRay(made.spec, groups, made.plugins, made.workers, made.data.fingerprint)
        if made.workers
        else InProcess(made.spec, groups, made.plugins, made.data)
    )
    try:
        yield executor
    finally:
        executor.close()


def distill(spec: DistillSpec, plugins: registry.Plugins | None = None) -> Distilled:
    """Distil a data set, from a spec to its artefact; the run folder holds everything beside.

    Args:
        spec: what to do; see `raystill.platform.spec`.
        plugins: parts of your own, `{kind: {name: callable}}`, that the spec names.

    Returns:
        The artefact, as `load_distilled` gives it.

    Raises:
        ValueError: the spec or its data are wrong.
        Interrupted: stopped by Ctrl-C; `resume` goes on.
    """
    made = plan(spec, plugins)
    folder = runs.create(made.spec)
    return carry_out(made, folder)


def resume(folder: Path, plugins: registry.Plugins | None = None) -> Distilled:
    """Go on with a run that was stopped or killed; the result has the same bits as undisturbed.

    Raises:
        ValueError: not a run.
    """
    spec = runs.load(folder)
    run = spec.run.model_copy(update={"out": folder.absolute().parent})  # wherever it was taken to, or is looked at from
    return carry_out(plan(spec.model_copy(update={"run": run}), plugins), folder)


def carry_out(made: Plan, folder: Path) -> Distilled:
    """Do what is still missing of a run: distil, keep, assess, report."""
    spec = made.spec
    print(f"run {folder}", flush=True)
    tracker = Tracker.start(spec.tracking, folder.name, spec.dump(), {"raystill.run": folder.name}, _tracked(folder))
    log = CommitLog(folder / "commits")
    try:
        with _executor(made) as executor:
            crew = Crew(executor, log, spec.run.deadline)
            if not (folder / "artefact").exists():
                loop = coordinator.Loop(spec, made.data, made.synthesizer, folder, crew, log, tracker)
                try:
                    coordinator.distil(loop)
                except KeyboardInterrupt:
                    if loop.settled:  # else the last checkpoint serves: half a step is no place to go on from
                        coordinator.save(loop)
                    raise
                _keep(made, folder, crew)
            distilled = load_distilled(folder / "artefact")
            log.flush()
            history.write(folder)
            if not (folder / "assessment.json").exists():
                _assess(made, folder, crew, distilled, tracker)
            if crew.retries:
                print("computed again: " + ", ".join(f"{n} {status}" for status, n in sorted(crew.retries.items())))
        report = write_report(folder)
    except KeyboardInterrupt:
        tracker.finish("KILLED")
        raise Interrupted(f"stopped; go on with: raystill resume {folder}") from None
    except BaseException:
        tracker.finish("FAILED")
        raise
    finally:
        log.close()
    tracker.artifact(folder / "spec.yaml")
    tracker.artifact(report)
    tracker.image(folder / "artefact" / "preview.png")
    tracker.artifact_dir(folder / "artefact", "artefact")
    tracker.finish()
    return distilled


def _tracked(folder: Path) -> str | None:
    """MLflow's id of a run that was tracked before."""
    newest = checkpoints.newest(folder / "checkpoints")
    tracking: str | None = checkpoints.read(newest)[1]["tracking"] if newest else None
    return tracking


def _keep(made: Plan, folder: Path, crew: Crew) -> None:
    """Write the chosen data as the artefact."""
    spec, data = made.spec, made.data
    score, handle = crew.executor.arrays("chosen")
    meta = {k: torch.from_numpy(np.array(v)) for k, v in crew.executor.fetch(handle).items()}
    steps = made.synthesizer.steps(meta, Address(spec.run.seed, stream="artefact"))
    order = made.synthesizer.order
    first = [int(np.flatnonzero(order == s)[0]) for s in range(order.max() + 1)]
    theta0 = None
    if spec.initialisation.kind == "fixed":
        learner = learners.build(spec.learner, data.shape, len(data.classes), made.plugins)
        theta0 = learner.init(Address(spec.run.seed, stream="theta0")).numpy()
    labels = steps.y[first].detach().numpy()
    manifest = {
        "name": spec.recipe or "distilled",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "learner": spec.learner.model_dump(),
        "initialisation": spec.initialisation.model_dump(),
        "seeds": {"run": spec.run.seed, "split": spec.data.split_seed},
        "normalisation": {"mean": list(data.mean), "std": list(data.std)},
        "classes": list(data.classes),
        "source": {"name": data.name, "fingerprint": data.fingerprint},
        "selection": {"split": "validation", **score},
        "spec": spec.dump(),
        "versions": {name: version(name) for name in ("raystill", "torch", "numpy", "ray")}
        | {"python": machine.python_version()},
    }
    rates = {k: v.detach().numpy() for k, v in steps.hyper.items()}
    images = np.ascontiguousarray(steps.x[first].detach().numpy())
    save_distilled(folder / "artefact", Distilled(images, np.array(labels), rates, order, theta0, manifest))


def _assess(made: Plan, folder: Path, crew: Crew, distilled: Distilled, tracker: Tracker) -> None:
    print(f"assess on {len(made.data.test)} test images", flush=True)
    found: dict[str, Any] = assessment.assess(
        made.spec, made.data, crew, distilled, lambda text: print(f"  {text}", flush=True)
    )
    assessment.write(folder, found)
    now = int(time.time() * 1000)
    tracker.log(made.spec.outer.steps, {f"test/{row['name']}": row["accuracy_mean"] for row in found["rows"]}, now)


def assess_run(folder: Path, changes: dict[str, Any], plugins: registry.Plugins | None = None) -> dict[str, Any]:
    """Assess a run's artefact again, with another `assess` section; its table and report are replaced."""
    spec = runs.load(folder)
    distilled = load_distilled(folder / "artefact")
    spec = spec.model_copy(update=changes)
    made = plan(spec, plugins)
    with _executor(made) as executor:
        log = CommitLog(folder / "commits")
        crew = Crew(executor, log, spec.run.deadline)
        found = assessment.assess(made.spec, made.data, crew, distilled, lambda text: print(f"  {text}", flush=True))
        log.close()
    assessment.write(folder, found)
    write_report(folder)
    return found
