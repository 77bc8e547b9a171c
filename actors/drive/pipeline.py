"""What `raystill distill` does, callable from Python: plan, distil, write the artefact, assess it, and report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from raystill.actors.drive import artefact, assessment, coordinator, saving
from raystill.actors.drive.loop import Loop
from raystill.actors.drive.plan import Plan, make_plan
from raystill.actors.drive.session import Session, open_session
from raystill.actors.record import history
from raystill.platform import registry, runs
from raystill.platform.artifacts import Distilled, load_distilled
from raystill.platform.report import write_report
from raystill.platform.runs import Interrupted
from raystill.platform.spec import DistillSpec
from raystill.platform.tracking import Tracker, carried_out, noted

__all__ = ["Interrupted", "Plan", "assess_run", "carry_out", "distill", "make_plan", "resume"]


Watch = Callable[[int, float, str | None], None]


def distill(spec: DistillSpec, plugins: registry.Plugins | None = None) -> Distilled:
    """Distil a data set, from a spec to its artefact; the run folder holds everything beside.

    Args:
        spec: what to do; see `raystill.platform.spec.experiment`.
        plugins: parts of your own, `{kind: {name: callable}}`, that the spec names.

    Returns:
        The artefact, as `load_distilled` gives it.

    Raises:
        ValueError: the spec or its data are wrong.
        Interrupted: stopped by Ctrl-C; `resume` goes on.
    """
    plan = make_plan(spec, plugins)
    folder = runs.create(plan.spec)
    return carry_out(plan, folder)


def resume(folder: Path, plugins: registry.Plugins | None = None, workers: int | str | None = None) -> Distilled:
    """Go on with a run that was stopped or killed; the result has the same bits as undisturbed.

    Args:
        workers: evaluators in place of the run's own setting.

    Raises:
        ValueError: not a run.
    """
    spec = runs.load(folder)
    changes: dict[str, Any] = {"out": folder.absolute().parent}  # wherever it was taken to, or is looked at from
    if workers is not None:
        changes["workers"] = workers
    spec = spec.model_copy(update={"run": spec.run.model_copy(update=changes)})
    return carry_out(make_plan(spec, plugins, resumed=True), folder)


def carry_out(plan: Plan, folder: Path) -> Distilled:
    """Do what is still missing of a run: distil, keep, assess, report."""
    print(f"run {folder}", flush=True)
    with open_session(plan, folder) as session:
        tracker = _tracker(session)
        with carried_out(folder, tracker):
            if not (folder / "artefact").exists():
                _distil(session, tracker)
            distilled = load_distilled(folder / "artefact", plugins=plan.plugins)
            session.log.flush()
            history.write(folder)
            if not (folder / "assessment.json").exists():
                print(f"assess on {plan.data.modality.count(len(plan.data.test), 'test')}", flush=True)
                assessment.assess(session, distilled)
            session.log.flush()
            tracker.catch_up(history.record(folder, plan.spec))  # the test accuracies too, with their file's time
            if session.crew.retries:
                counts = sorted(session.crew.retries.items())
                print("computed again: " + ", ".join(f"{n} {status}" for status, n in counts))
            report = write_report(folder, plan.plugins)
            tracker.artifact(folder / "spec.yaml")
            tracker.artifact(report)
            tracker.image(folder / "artefact" / "preview.png")
            tracker.artifact_dir(folder / "artefact", "artefact")
    return distilled


def learn(plan: Plan, folder: Path, watch: Watch, every: int | None = None) -> dict[str, Any]:
    """A run's artefact without a look at test data, as a search over hyperparameters needs it.

    Args:
        watch: called with (outer step, validation accuracy in percent, None) after each step with a new one.
        every: call it at the multiples of this many steps below the last alone, when that step's own score and a
            checkpoint are there, with the checkpoint's place.

    Returns:
        The artefact's `selection`: step and validation accuracy.
    """
    with open_session(plan, folder) as session:
        if not (folder / "artefact").exists():
            _distil(session, Tracker(), watch, every)
        session.log.flush()
        history.write(folder)
    selection: dict[str, Any] = load_distilled(folder / "artefact", plugins=plan.plugins).manifest["selection"]
    return selection


def _distil(session: Session, tracker: Tracker, watch: Watch | None = None, every: int | None = None) -> None:
    """Run the loop, and write its distilled set as an artefact."""
    plan = session.plan
    loop = Loop(
        plan.spec,
        plan.data,
        plan.synthesizer,
        session.folder,
        session.crew,
        session.log,
        tracker,
        session.store,
        session.faults,
    )

    seen = float("nan")

    def after(step: int) -> None:
        nonlocal seen
        if watch is not None and every is not None:
            if step % every == 0 and step < plan.spec.outer.steps:
                place = session.store.under(saving.settle(loop)).root
                watch(step, loop.accuracy, place)
        elif watch is not None and loop.accuracy == loop.accuracy and loop.accuracy != seen:
            seen = loop.accuracy
            watch(step, seen, None)
        session.metrics.step(loop.figures, loop.seconds, plan.spec.outer)
        session.tell(
            step=step, servers=loop.servers, validation=None if loop.accuracy != loop.accuracy else loop.accuracy
        )

    loop.on_step, loop.on_save = after, session.saving
    loop.on_saved = lambda seconds: session.metrics.observe("checkpoint_seconds", seconds)
    try:
        coordinator.distil(loop)
    except KeyboardInterrupt:
        if loop.settled:  # else the last checkpoint serves: the server is lost or not yet begun
            saving.save(loop, wait=True)
        raise
    artefact.keep(session)


def _tracker(session: Session) -> Tracker:
    """The run's MLflow run, with what an earlier session recorded and could not write before it ended."""
    spec, name = session.plan.spec, session.folder.name
    tracker, resumed = noted(spec.tracking, session.home, name, spec.dump(), {"raystill.run": name})
    if resumed:
        tracker.catch_up(history.record(session.folder, spec))
    return tracker


def assess_run(folder: Path, changes: dict[str, Any], plugins: registry.Plugins | None = None) -> dict[str, Any]:
    """Assess a run's artefact again, with another `assess` section; its table and report are replaced."""
    spec = runs.load(folder).model_copy(update=changes)
    distilled = load_distilled(folder / "artefact", plugins=plugins)
    plan = make_plan(spec, plugins, resumed=True)
    with open_session(plan, folder) as session:
        table = assessment.assess(session, distilled)
    write_report(folder, plugins)
    return table
