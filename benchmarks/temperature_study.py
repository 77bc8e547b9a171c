"""Two studies of temperature, each taken up again where it was stopped.

    python benchmarks/temperature_study.py search --out runs      # halving against the full grid, on MNIST
    python benchmarks/temperature_study.py smoothing --out runs   # does a smoothed teacher teach worse? one Tune study
        [--teacher.training.steps 1000 ...]                       # any field of the spec

`search` runs the recipe `temperature-mnist` by halving on two evaluators, and its full grid once as the oracle: is the
choice of halving, at its mean in the full grid, within one standard error of the grid's best?
`smoothing` (Mueller 2019, 1906.02629, against 2104.00676 and 2206.14532): teacher's smoothing x T x student width; it
writes `smoothing.json`, `smoothing.png`, and `penultimate.png`, where activations of three classes lie on the plane
through the three classes' weight rows.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from raystill.platform.command_line.options import merge

SMOOTHINGS, WIDTHS, TEMPERATURES, SEEDS = (0.0, 0.1, 0.3), (8, 32), (1.0, 2.0, 4.0, 8.0, 16.0), 3


def _spec(name: str, **changes: Any) -> Any:
    from raystill.platform.recipes import recipe
    from raystill.search.temperature.spec import TemperatureSpec

    return TemperatureSpec.model_validate({**merge(recipe(name), changes), "recipe": name})


def _run(spec: Any) -> tuple[dict[str, Any], list[Any], float]:
    """A search by its folder's name: begun, or taken up again. (result, rows, wall seconds of this call)."""
    from raystill.search.temperature import run as temperature
    from raystill.search.temperature import settings

    folder, began = spec.run.out / spec.run.name, time.monotonic()
    result = temperature.resume(folder) if (folder / "spec.yaml").exists() else temperature.search_temperature(spec)
    return result, settings.read(folder / temperature.ROWS), time.monotonic() - began


def search(out: Path, source: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Halving's choice, judged by the full grid."""
    from raystill.search.temperature import settings

    name = f"temperature-{source}"
    found = {}
    for method in ("halving", "grid"):
        run = {"out": out, "name": f"study-{source}-{method}", "workers": 2, "device": "cpu"}
        given = merge({"search": {"method": method}, "run": run, "tracking": {"enabled": False}}, changes)
        found[method] = _run(_spec(name, **given))
    steps = _spec(name, **changes).student.training.steps
    means = settings.summaries(found["grid"][1], steps)
    report: dict[str, Any] = {"seconds": {m: f[2] for m, f in found.items()}, "widths": {}}
    for width, best in settings.chosen(found["grid"][1], steps).items():
        pick = settings.chosen(found["halving"][1], steps)[width]
        error = means[best].std / math.sqrt(means[best].n)
        gap = means[best].mean - means[pick].mean
        report["widths"][width] = {
            "grid": str(best), "grid_mean": 100 * means[best].mean, "grid_standard_error": 100 * error,
            "halving": str(pick), "halving_mean_in_grid": 100 * means[pick].mean, "within": bool(gap <= error),
        }  # fmt: skip
    report["student_steps"] = {m: f[0]["searched"]["student_steps"] for m, f in found.items()}
    report["test"] = {m: f[0]["test"]["rows"] for m, f in found.items()}
    return report


def _study_trial(config: dict[str, Any], host_spec: dict[str, Any], spec: dict[str, Any], logits: Any) -> None:
    """One teacher's smoothing and one student width: all T and seeds under one vmap."""
    from ray import tune

    from raystill.platform.spec import DistillSpec
    from raystill.platform.work.student_grid import StudentsOptions, cohort
    from raystill.platform.work.workbench import Workbench
    from raystill.search.temperature.spec import TemperatureSpec

    study, bench = TemperatureSpec.model_validate(spec), Workbench(DistillSpec.model_validate(host_spec))
    settings = tuple((t, 1.0) for t in TEMPERATURES)
    options = StudentsOptions(study.learner(config["width"]), study.student.training, settings, tuple(range(SEEDS)))
    group = cohort(bench, options, {"logits": logits[config["smoothing"]]})
    group.advance()
    tune.report({"accuracies": (100 * group.accuracies(bench.validation)).tolist()})


def smoothing(out: Path, source: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Students of differently smoothed teachers: one Tune study."""
    from ray import tune

    from raystill.actors import cluster
    from raystill.platform import learners
    from raystill.platform.seeds import Address
    from raystill.platform.work.student_grid import Cohort
    from raystill.platform.work.workbench import Workbench

    given = merge({"run": {"device": "cpu", "workers": 0}, "tracking": {"enabled": False}}, changes)
    spec = _spec(f"temperature-{source}", **given)
    bench = Workbench(spec.host_spec())
    none = torch.zeros(len(bench.train), len(bench.data.classes))
    learner = learners.build(spec.teacher.learner, bench.data.shape, len(bench.data.classes))
    teachers = {}
    for amount in SMOOTHINGS:
        one = Cohort(learner, bench.train, none, (1.0,), (0.0,), (Address(0, stream="teacher"),), spec.teacher.training,
                     "loop", smoothing=amount)  # fmt: skip
        one.advance()
        teachers[amount] = one
    logits = {amount: one.answers(bench.train).numpy() for amount, one in teachers.items()}
    cluster.connect(None, 2)
    trial = tune.with_resources(
        tune.with_parameters(_study_trial, host_spec=spec.host_spec().dump(), spec=spec.dump(), logits=logits),
        {"cpu": 1},
    )
    place = (out / f"smoothing-{source}").absolute()
    if tune.Tuner.can_restore(str(place)):
        tuner = tune.Tuner.restore(str(place), trial, resume_unfinished=True, restart_errored=True)
    else:
        space = {"smoothing": tune.grid_search(list(SMOOTHINGS)), "width": tune.grid_search(list(WIDTHS))}
        config = tune.RunConfig(name=place.name, storage_path=str(place.parent), verbose=0)
        tuner = tune.Tuner(trial, param_space=space, run_config=config)
    results = tuner.fit()
    rows = [{**(r.config or {}), "accuracies": (r.metrics or {})["accuracies"]} for r in results]  # type: ignore[attr-defined]
    accuracy = {a: 100 * float(t.accuracies(bench.validation)[0, 0]) for a, t in teachers.items()}
    report = {"changes": changes, "split": "validation", "images": len(bench.validation), "seeds": SEEDS,
              "temperatures": TEMPERATURES, "teachers": accuracy, "rows": rows}  # fmt: skip
    place.mkdir(parents=True, exist_ok=True)
    (place / "smoothing.json").write_text(json.dumps(report, indent=1))
    _lines(report).savefig(place / "smoothing.png", dpi=130)
    _plane(teachers, learner, bench).savefig(place / "penultimate.png", dpi=130)
    return report


def _lines(report: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(WIDTHS), 3.8), layout="constrained")
    for at, width in enumerate(WIDTHS):
        ax = figure.add_subplot(1, len(WIDTHS), at + 1)
        for row in sorted((r for r in report["rows"] if r["width"] == width), key=lambda r: r["smoothing"]):
            values = np.array(row["accuracies"])  # [S, T]
            error = values.std(0, ddof=1) / math.sqrt(len(values))
            teacher = report["teachers"][row["smoothing"]]
            label = f"teacher smoothed by {row['smoothing']:g} ({teacher:.1f} %)"
            ax.errorbar(TEMPERATURES, values.mean(0), error, marker="o", ms=4, capsize=2, label=label)
        ax.set(xscale="log", title=f"students of width {width}", xlabel="T", ylabel="validation accuracy, %")
        ax.legend(frameon=False, fontsize=8)
    return figure


def _plane(teachers: dict[float, Any], learner: Any, bench: Any, classes: tuple[int, ...] = (3, 5, 8)) -> Any:
    """Penultimate activations of three classes on the plane through their weight rows (Mueller 2019, section 2)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.8 * len(teachers), 3.6), layout="constrained")
    for at, (amount, one) in enumerate(teachers.items()):
        module, kept = learner.load(one.theta[0, 0]), []
        last = [m for m in module.modules() if isinstance(m, torch.nn.Linear)][-1]
        hook = last.register_forward_pre_hook(lambda _, inputs, kept=kept: kept.append(inputs[0].detach()))
        rows = np.flatnonzero(np.isin(bench.validation.y.numpy(), classes))
        with torch.no_grad():
            module(bench.validation.batch(rows)[0])
        hook.remove()
        w = last.weight.detach()[list(classes)]
        basis = torch.linalg.qr(torch.stack([w[1] - w[0], w[2] - w[0]]).T)[0]
        points, labels = ((kept[0] - w[0]) @ basis).numpy(), bench.validation.y.numpy()[rows]
        ax = figure.add_subplot(1, len(teachers), at + 1)
        for label in classes:
            ax.scatter(*points[labels == label].T, s=6, label=bench.data.classes[label])
        ax.set(title=f"smoothing {amount:g}", xticks=[], yticks=[])
        ax.legend(frameon=False, fontsize=8)
    return figure


def main() -> int:
    """Run a study, and print what it found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", choices=["search", "smoothing"])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--source", choices=["mnist", "digits"], default="mnist")
    args, rest = parser.parse_known_args()
    changes: dict[str, Any] = {}
    for key, value in zip(rest[::2], rest[1::2], strict=True):
        for part in reversed(key.removeprefix("--").split(".")):
            value = {part: yaml.safe_load(value) if isinstance(value, str) else value}
        changes = merge(changes, value)
    print(json.dumps({"search": search, "smoothing": smoothing}[args.study](args.out, args.source, changes), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
