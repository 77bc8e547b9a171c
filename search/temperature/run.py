"""A temperature search: one teacher, many students, a choice by validation, one look at test data.

Grid and halving run on the evaluators (`on_evaluators.py`), TPE and ASHA in Ray Tune (`on_tune.py`).
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from raystill.actors.drive.plan import Plan, make_plan
from raystill.actors.drive.session import open_session
from raystill.platform import learners, registry, runs
from raystill.platform.evaluation.summary import Summary, summary
from raystill.platform.files.storage import write_whole
from raystill.platform.spec import TrackingSpec
from raystill.platform.tracking import Tracker, carried_out, noted
from raystill.search.temperature import on_evaluators, page, recipes, settings, teacher, teacher_file
from raystill.search.temperature.on_evaluators import Students
from raystill.search.temperature.settings import Setting, StudentScore
from raystill.search.temperature.spec import TemperatureSpec
from raystill.search.tracking import SEARCH, Children

RESULT, ROWS = "result.json", "settings.parquet"
ON_EVALUATORS = {"grid": on_evaluators.grid, "halving": on_evaluators.halving}
ASSESS = "assess/student"
"""Stream of the students that are tested: none of them took part in the choice."""
SETTING = "raystill.setting"
"""Tag of a setting's run in MLflow."""
MOST = 1000
"""Settings that become runs in MLflow; the Parquet file has all."""


def search_temperature(spec: TemperatureSpec, plugins: registry.Plugins | None = None) -> dict[str, Any]:
    """Search for the temperature and the mixing of a distillation.

    Args:
        spec: see `TemperatureSpec`.
        plugins: parts of your own, `{kind: {name: callable}}`, that the spec names.

    Returns:
        What `result.json` of the run folder holds.

    Raises:
        ValueError: the spec, its data or its teacher are wrong.
        Interrupted: stopped by Ctrl-C; `resume` goes on.
    """
    spec, plan = prepare(spec, plugins)
    return carry_out(spec, plan, runs.create(spec, "search temperature", "temperature"))


def resume(folder: Path, workers: int | str | None = None, plugins: registry.Plugins | None = None) -> dict[str, Any]:
    """Finish a search; students that its log has are not trained again.

    Raises:
        ValueError: not a temperature search.
    """
    spec = runs.load_as(TemperatureSpec, folder)
    changes: dict[str, Any] = {"out": folder.absolute().parent}
    if workers is not None:
        changes["workers"] = workers
    spec = spec.model_copy(update={"run": spec.run.model_copy(update=changes)})
    spec, plan = prepare(spec, plugins, resumed=True)
    return carry_out(spec, plan, folder)


def prepare(
    spec: TemperatureSpec, plugins: registry.Plugins | None = None, resumed: bool = False
) -> tuple[TemperatureSpec, Plan]:
    """The resolved spec, checked whole, and the plan of its evaluators.

    Raises:
        ValueError: one line about the first thing that is wrong.
    """
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
    run = spec.run.model_copy(update={"device": plan.spec.run.device})
    return spec.model_copy(update={"run": run, "tracking": plan.spec.tracking}), plan


def carry_out(spec: TemperatureSpec, plan: Plan, folder: Path) -> dict[str, Any]:
    """Do what is still missing of a search: teacher, settings, choice, test, report."""
    print(f"run {folder}", flush=True)
    with open_session(plan, folder) as session:
        tags = {SEARCH: folder.name, "raystill.run": folder.name, "raystill.command": "search temperature"}
        tracker, _ = noted(spec.tracking, session.home, folder.name, spec.dump(), tags)
        with carried_out(folder, tracker):
            began = time.monotonic()
            students = teacher.load_or_train(spec, session, _say)
            rows = _rows(students)
            settings.write(folder / ROWS, rows)
            result = _result(students, rows)
            result["seconds"] = round(_seconds(folder) + time.monotonic() - began, 1)
            write_whole(folder / RESULT, json.dumps(result, indent=1).encode())
            recipes.write(folder, spec, [
                Setting(s["width"], s["temperature"], s["alpha"]) for s in result["selection"]["settings"]
            ])  # fmt: skip
            report = page.write(folder, spec, rows, result)
            _track(spec.tracking, tracker, folder, rows, result, report)
    return result


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _seconds(folder: Path) -> float:
    """Seconds of earlier sessions."""
    with suppress(OSError, ValueError, KeyError):
        return float(json.loads((folder / RESULT).read_text())["seconds"])
    return 0.0


def _rows(students: Students) -> list[StudentScore]:
    """All students that the search's method trained."""
    spec, session = students.spec, students.session
    if spec.search.method in ON_EVALUATORS:
        return ON_EVALUATORS[spec.search.method](students, _say)
    from raystill.search.temperature import on_tune

    if (session.folder / RESULT).exists():  # the choice was made; Tune is not asked again
        return settings.read(session.folder / ROWS)
    _say(f"{spec.search.trials} trials of Ray Tune ({spec.search.method})")
    logits = session.crew.executor.server.fetch(students.teacher)["logits"]
    host_spec = session.plan.spec.model_copy(update={"run": spec.host_spec().run})
    return on_tune.search(host_spec, spec, logits, session.folder)


def _result(students: Students, rows: list[StudentScore]) -> dict[str, Any]:
    """The choice, and its one look at test data beside students of labels alone and the teacher."""
    spec, data = students.spec, students.session.plan.data
    steps, seeds = spec.student.training.steps, range(spec.search.assess)
    means, best = settings.summaries(rows, steps), settings.chosen(rows, steps)
    for setting in best.values():
        _say(f"chosen: {setting}: {100 * means[setting].mean:.2f} % of the validation split")
    _say(f"test: {len(data.test)} images, {len(seeds)} fresh students of each")
    items = [
        students.block(width, [setting[1:], (1.0, 0.0)], seeds, steps, "test", ASSESS)
        for width, setting in best.items()
    ]
    tested = []
    for (width, setting), numbers in zip(best.items(), students.numbers(items)):
        for at, name in enumerate(("chosen setting", "labels alone")):
            values = [100 * numbers[f"{s}.{at}"] for s in seeds]
            tested.append({"name": name, "width": width, **_spread(summary(values)), "values": values})
            if name == "chosen setting":
                tested[-1] |= {"temperature": setting.temperature, "alpha": setting.alpha}
    return {
        "selection": {"split": "validation", "images": len(data.validation), "seeds": spec.search.seeds, "settings": [
            {**setting._asdict(), **_spread(means[setting], 100)} for setting in best.values()]},
        "test": {"split": "test", "images": len(data.test), "rows": tested},
        "teacher": teacher.facts_of(students),
        "searched": {"method": spec.search.method, "settings": len({r.setting for r in rows}), "students": len(rows),
                     "student_steps": sum(r.steps for r in rows)},
        "data": {"name": data.name, "fingerprint": data.fingerprint},
    }  # fmt: skip


def _spread(cell: Summary, scale: float = 1.0) -> dict[str, float | int | None]:
    """A summary as JSON has it; one value has no spread."""
    return {"mean": scale * cell.mean, "std": scale * cell.std if cell.n > 1 else None, "n": cell.n}


def _track(
    spec: TrackingSpec, tracker: Tracker, folder: Path, rows: list[StudentScore], result: dict[str, Any], report: Path
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
    children = Children(spec, tracker.run_id, folder.name, SETTING)
    own: dict[Setting, list[StudentScore]] = {}
    for row in rows:
        own.setdefault(row.setting, []).append(row)
    for setting in list(own)[:MOST]:
        if children.trouble:
            break
        points = [(r.seed, {f"accuracy/{r.steps}": 100 * r.accuracy}, now) for r in own[setting]]
        last = max(r.steps for r in own[setting])
        mean, std, n = summary([100 * r.accuracy for r in own[setting] if r.steps == last])
        points.append((last, {"accuracy_mean": mean} | ({"accuracy_std": std} if n > 1 else {}), now))
        children.write(str(setting), setting._asdict(), points)
    if children.trouble:
        print(f"warning: MLflow lacks some of this search ({children.trouble}); `raystill resume {folder}` adds it")
