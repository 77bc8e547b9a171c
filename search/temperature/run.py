"""The temperature search: a teacher once, its students by the thousand, a choice by validation, one look at test data.

`raystill search temperature`. Grid and halving run on the evaluators (`blocks.py`), TPE and ASHA in Ray Tune
(`tuning.py`); what lies around them is the same.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.crew import Crew
from raystill.actors.drive.pipeline import Interrupted
from raystill.actors.drive.plan import Plan, make_plan
from raystill.actors.drive.session import Session, open_session
from raystill.actors.signals import Stopped
from raystill.platform import learners, registry, runs
from raystill.platform.evaluation.summary import Summary, summary
from raystill.platform.files.storage import write_whole
from raystill.platform.tracking import Tracker
from raystill.platform.work.student_grid import GradeOptions, TeacherOptions
from raystill.search.temperature import on_evaluators, page, settings, teacher_file, tracking
from raystill.search.temperature.on_evaluators import Hunt
from raystill.search.temperature.settings import Row, Setting
from raystill.search.temperature.spec import TemperatureSpec

RESULT, ROWS, TEACHER, TRACKING = "result.json", "settings.parquet", "teacher.safetensors", "tracking.json"
ON_EVALUATORS = {"grid": on_evaluators.grid, "halving": on_evaluators.halving}
ASSESS = "assess/student"
"""Stream of the students that are tested: none of them took part in the choice."""


def search_temperature(spec: TemperatureSpec, plugins: registry.Plugins | None = None) -> dict[str, Any]:
    """Search for the temperature and the mixing of a distillation.

    Args:
        spec: what to do; see `TemperatureSpec`.
        plugins: parts of your own, `{kind: {name: callable}}`, that the spec names.

    Returns:
        What `result.json` of the run folder holds.

    Raises:
        ValueError: the spec, its data or its teacher are wrong.
        Interrupted: stopped by Ctrl-C; `resume` goes on.
    """
    spec, plan = prepared(spec, plugins)
    return carry_out(spec, plan, runs.create(spec, "search temperature", "temperature"))


def resume(folder: Path, workers: int | str | None = None, plugins: registry.Plugins | None = None) -> dict[str, Any]:
    """Go on with a search; students that its log holds are not trained again.

    Raises:
        ValueError: not a temperature search.
    """
    spec = runs.load_as(TemperatureSpec, folder)
    changes: dict[str, Any] = {"out": folder.absolute().parent}
    if workers is not None:
        changes["workers"] = workers
    spec = spec.model_copy(update={"run": spec.run.model_copy(update=changes)})
    spec, plan = prepared(spec, plugins, resumed=True)
    return carry_out(spec, plan, folder)


def prepared(
    spec: TemperatureSpec, plugins: registry.Plugins | None = None, resumed: bool = False
) -> tuple[TemperatureSpec, Plan]:
    """A spec that was checked whole, resolved, and the plan of its evaluators.

    Raises:
        ValueError: one clear line about the first thing that is wrong.
    """
    if spec.search.method not in ON_EVALUATORS:
        from raystill.search.temperature import on_tune

        on_tune.check(spec)
    host_spec = spec.host_spec()
    if spec.search.method not in ON_EVALUATORS:  # Tune's trials need the machine; what is left is done in this process
        host_spec = host_spec.model_copy(update={"run": host_spec.run.model_copy(update={"workers": 0})})
    plan = make_plan(host_spec, plugins, resumed)
    shape, classes = plan.data.shape, len(plan.data.classes)
    for width in spec.widths:
        try:
            learners.build(spec.learner(width), shape, classes, plugins)
        except ValueError as error:
            raise ValueError(str(error).replace("learner", "student.learner", 1)) from None
    if spec.teacher.file is not None:
        teacher_file.read(spec.teacher.file, plan.data)
    kept = {"device": plan.spec.run.device}
    spec = spec.model_copy(update={"run": spec.run.model_copy(update=kept), "tracking": plan.spec.tracking})
    return spec, plan


def carry_out(spec: TemperatureSpec, plan: Plan, folder: Path) -> dict[str, Any]:
    """Do what is still missing of a search: teacher, settings, choice, test, report."""
    print(f"run {folder}", flush=True)
    with open_session(plan, folder) as session:
        tracker = _tracker(spec, session)
        try:
            began = time.monotonic()
            hunt = _listened(spec, session)
            rows = _rows(hunt)
            settings.write(folder / ROWS, rows)
            result = _judged(hunt, rows)
            result["seconds"] = round(_noted(folder) + time.monotonic() - began, 1)
            _write(folder / RESULT, result)
            _recipes(spec, folder, result)
            report = page.write(folder, spec, rows, result)
        except KeyboardInterrupt as stop:
            session.log.flush()
            tracker.finish("KILLED")
            signum = stop.signum if isinstance(stop, Stopped) else 2
            raise Interrupted(signum, f"stopped; go on with: raystill resume {folder}") from None
        except BaseException:
            tracker.finish("FAILED")
            raise
        _track(spec, tracker, folder, rows, result, report)
    return result


def _noted(folder: Path) -> float:
    with suppress(OSError, ValueError, KeyError):
        return float(json.loads((folder / RESULT).read_text())["seconds"])
    return 0.0


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _write(path: Path, found: dict[str, Any]) -> None:
    write_whole(path, json.dumps(found, indent=1).encode())


def _listened(spec: TemperatureSpec, session: Session) -> Hunt:
    """The teacher's logits in the object store: from the run folder, a file, or a teacher trained now."""
    path = session.folder / TEACHER
    if path.exists() or spec.teacher.file:
        teacher = teacher_file.read(path if path.exists() else spec.teacher.file, session.plan.data)  # type: ignore[arg-type]
    else:
        _say(f"teacher: {spec.teacher.learner.name}, {spec.teacher.training.steps} steps")
        options = TeacherOptions(spec.teacher.learner, spec.teacher.training, spec.teacher.smoothing)
        crew: Crew = session.crew
        (done,) = crew.wait([crew.add(on_evaluators.item("teacher", spec.run.seed, options), crew.executor.put({}))])
        arrays = crew.executor.server.fetch(done.arrays)
        teacher = teacher_file.Teacher(
            np.array(arrays["logits"]),
            np.array(arrays["theta"]),
            spec.teacher.learner,
            done.outcome.numbers["accuracy"],
        )
    if not path.exists():
        teacher_file.write(path, teacher, session.plan.data)
    _say(f"teacher: {100 * teacher.accuracy:.2f} % of the validation split")
    return Hunt(spec, session, session.crew.executor.put({"logits": teacher.logits}))


def _rows(hunt: Hunt) -> list[Row]:
    """What the searcher measured."""
    spec = hunt.spec
    if spec.search.method in ON_EVALUATORS:
        return ON_EVALUATORS[spec.search.method](hunt, _say)
    from raystill.search.temperature import on_tune

    found = hunt.session.folder / ROWS
    if (hunt.session.folder / RESULT).exists():  # the choice was made; Tune is not asked again
        return settings.read(found)
    _say(f"{spec.search.trials} trials of Ray Tune ({spec.search.method})")
    logits = hunt.session.crew.executor.server.fetch(hunt.teacher)["logits"]
    return on_tune.tuned(
        hunt.session.plan.spec.model_copy(update={"run": spec.host_spec().run}), spec, logits, hunt.session.folder
    )


def _judged(hunt: Hunt, rows: list[Row]) -> dict[str, Any]:
    """The choice, and its one look at test data beside students of labels alone and the teacher."""
    spec, data = hunt.spec, hunt.session.plan.data
    steps, seeds = spec.student.training.steps, range(spec.search.assess)
    means, best = settings.summaries(rows, steps), settings.chosen(rows, steps)
    for setting in best.values():
        _say(f"chosen: {setting}: {100 * means[setting].mean:.2f} % of the validation split")
    _say(f"test: {len(data.test)} images, {len(seeds)} fresh students of each")
    items = [
        hunt.block(width, [setting[1:], (1.0, 0.0)], seeds, steps, "test", ASSESS) for width, setting in best.items()
    ]
    tested = []
    for (width, setting), numbers in zip(best.items(), hunt.numbers(items)):
        for at, name in enumerate(("chosen setting", "labels alone")):
            values = [100 * numbers[f"{s}.{at}"] for s in seeds]
            tested.append({"name": name, "width": width, **_spread(summary(values)), "values": values})
            if name == "chosen setting":
                tested[-1] |= {"temperature": setting.temperature, "alpha": setting.alpha}
    teacher = teacher_file.read(hunt.session.folder / TEACHER, data)
    return {
        "selection": {"split": "validation", "images": len(data.validation), "seeds": spec.search.seeds, "settings": [
            {**setting._asdict(), **_spread(means[setting], 100)} for setting in best.values()]},
        "test": {"split": "test", "images": len(data.test), "rows": tested},
        "teacher": {"learner": teacher.learner.model_dump(mode="json"), "validation": 100 * teacher.accuracy,
                    "test": 100 * _graded(hunt, teacher)},
        "searched": {"method": spec.search.method, "settings": len({r.setting for r in rows}), "students": len(rows),
                     "student_steps": sum(r.steps for r in rows)},
        "data": {"name": data.name, "fingerprint": data.fingerprint},
    }  # fmt: skip


def _spread(found: Summary, factor: float = 1.0) -> dict[str, float | int | None]:
    """A summary as JSON has it; one value has no spread."""
    return {"mean": factor * found.mean, "std": factor * found.std if found.n > 1 else None, "n": found.n}


def _graded(hunt: Hunt, teacher: teacher_file.Teacher) -> float:
    item = on_evaluators.item("grade", hunt.spec.run.seed, GradeOptions(teacher.learner, "test"))
    found = on_evaluators.finished(hunt.session)
    if item.address.stream in found:
        return found[item.address.stream]["accuracy"]
    crew = hunt.session.crew
    (done,) = crew.wait([crew.add(item, crew.executor.put({"theta": teacher.theta}))])
    hunt.session.log.flush()
    return done.outcome.numbers["accuracy"]


def _recipes(spec: TemperatureSpec, folder: Path, result: dict[str, Any]) -> None:
    """`recipe.yaml`, or one for each width: the chosen setting as a distillation's objective."""
    chosen = [Setting(s["width"], s["temperature"], s["alpha"]) for s in result["selection"]["settings"]]
    for setting in chosen:
        name = f"recipe-{setting.width}.yaml" if len(chosen) > 1 else "recipe.yaml"
        text = runs_yaml(spec, setting, folder.name)
        write_whole(folder / name, text.encode())


def runs_yaml(spec: TemperatureSpec, setting: Setting, run: str) -> str:
    """What `raystill kd --config` trains a student with at a setting: Hinton's recipe, this data, these networks.

    Steps, batches and rates are the search's: a temperature is chosen for a length of training.
    """
    import yaml

    training, taught = spec.student.training, spec.teacher.training
    body: dict[str, Any] = {
        "recipe": "kd-hinton",
        "data": spec.data.model_dump(mode="json", exclude_defaults=True) or {"source": spec.data.source},
        "student": spec.learner(setting.width).model_dump(mode="json", exclude_defaults=True),
        "teacher": spec.teacher.learner.model_dump(mode="json", exclude_defaults=True),
        "temperature": setting.temperature,
        "alpha": setting.alpha,
        "train": {"steps": training.steps, "batch_size": training.batch_size},
        "optimizer": {"lr": training.lr, "momentum": training.momentum},
        "stages": {"teacher": {"steps": taught.steps, "lr": taught.lr}},
    }
    return f"# Chosen by validation in {run}: {setting}.\n{yaml.safe_dump(body, sort_keys=False)}"


def _tracker(spec: TemperatureSpec, session: Session) -> Tracker:
    """The parent run in MLflow: a new one, or the one that an earlier session noted."""
    noted = None
    with suppress(OSError, ValueError, KeyError):
        noted = str(json.loads(session.home.read(TRACKING, 10_000))["run_id"])
    name = session.folder.name
    tracker = Tracker.start(
        spec.tracking, name, spec.dump(), {"raystill.run": name, "raystill.command": "search temperature"}, noted
    )
    if tracker.run_id and tracker.run_id != noted:
        session.home.write(TRACKING, json.dumps({"run_id": tracker.run_id}).encode())
    return tracker


def _track(
    spec: TemperatureSpec, tracker: Tracker, folder: Path, rows: list[Row], result: dict[str, Any], report: Path
) -> None:
    now = int((folder / RESULT).stat().st_mtime * 1000)
    for row in result["test"]["rows"]:
        name = f"test/{row['name'].replace(' ', '_')}" + (f"/width_{row['width']}" if row["width"] else "")
        tracker.log(0, {name: row["mean"], **({f"{name}_std": row["std"]} if row["n"] > 1 else {})}, now)
    tracker.log(0, {"teacher/validation": result["teacher"]["validation"]}, now)
    for path in (folder / "spec.yaml", report, folder / ROWS, folder / RESULT, *folder.glob("recipe*.yaml")):
        tracker.artifact(path)
    for path in folder.glob("*.png"):
        tracker.image(path)
    trouble = tracking.log(spec.tracking, tracker.run_id, rows, now) if tracker.run_id else ""
    if not tracker.finish() or trouble:
        what = trouble or tracker.trouble
        print(f"warning: MLflow lacks some of this search ({what}); `raystill resume {folder}` adds it")
