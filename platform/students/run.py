"""A run of students: train every stage for every seed, evaluate once on test data, write the report.

RUN/spec.yaml  networks/SEED/STAGE.safetensors (and STAGE.json, its history)  results.json  report.html
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raystill.platform import runs
from raystill.platform.files import documents
from raystill.platform.files.storage import Storage
from raystill.platform.learners import files
from raystill.platform.progress import progress
from raystill.platform.registry import Plugins
from raystill.platform.students.checkpoints import Checkpoints
from raystill.platform.students.loop import Row
from raystill.platform.students.spec import KdSpec, StageSpec
from raystill.platform.students.stages import Bench, Stage, accuracy, check, prepare
from raystill.platform.tracking import Tracker, carried_out, found_again, noted, reachable

RESULTS = "results.json"


def kd(spec: KdSpec, plugins: Plugins | None = None) -> Path:
    """Train students as a spec says.

    Returns:
        The run folder.

    Raises:
        ValueError: the spec, its data or its parts are wrong; nothing is trained then.
    """
    runs.writable(spec.run.out)
    if spec.tracking.enabled:
        reachable(spec.tracking)
    _one_thread()
    bench = Bench(spec, plugins)
    check(bench)
    spec = resolved(bench)
    bench.spec = spec
    folder = runs.create(spec, "kd", "kd")
    carry_out(bench, folder)
    return folder


def resume(folder: Path, plugins: Plugins | None = None) -> None:
    """Resume a run; the networks have the same bits as without the interruption.

    Raises:
        ValueError: not a run of students.
    """
    _one_thread()
    carry_out(Bench(runs.load_as(KdSpec, folder), plugins), folder)


def _one_thread() -> None:
    torch.set_num_threads(1)  # the order of sums depends on the number of threads


def resolved(bench: Bench) -> KdSpec:
    """The spec with device, precision and tracking resolved."""
    spec, gpu = bench.spec, bench.device.type == "cuda"
    precision = ("bfloat16" if gpu else "float32") if spec.run.precision == "auto" else spec.run.precision
    run = spec.run.model_copy(update={"device": bench.device.type, "precision": precision})
    return spec.model_copy(update={"run": run, "tracking": found_again(spec.tracking)})


def carry_out(bench: Bench, folder: Path) -> None:
    """Carry out the missing parts of a run.

    Raises:
        ValueError: another process works on the run.
    """
    with runs.locked(folder):
        print(f"run {folder}", flush=True)
        _carry_out(bench, folder)


def _carry_out(bench: Bench, folder: Path) -> None:
    spec, name = bench.spec, folder.name
    tracker, _ = noted(spec.tracking, Storage(folder), name, spec.dump(), {"raystill.run": name})
    with carried_out(folder, tracker):
        stages = {**spec.stages, **spec.comparison}
        for seed in seeds(spec):
            _stages(bench, stages, seed, folder, tracker)
        if not (folder / RESULTS).exists():
            documents.write(folder / RESULTS, assess(bench, folder))
        from raystill.platform.report.students import write_report

        tracker.catch_up(_record(spec, folder))
        report = write_report(folder)
        for path in (folder / "spec.yaml", report, folder / RESULTS):
            tracker.artifact(path)
        tracker.artifact_dir(folder / "networks", "networks")


def seeds(spec: KdSpec) -> range:
    """The seeds of a run."""
    return range(spec.run.seed, spec.run.seed + spec.run.seeds)


def _stages(bench: Bench, stages: dict[str, StageSpec], seed: int, folder: Path, tracker: Tracker) -> None:
    """Train the stages of one seed; finished ones are read from their files."""
    networks: dict[str, nn.Module] = {}
    missing = [name for name in stages if not file_of(folder, seed, name).exists()]
    if not missing:
        return
    for name, stage in stages.items():
        file = file_of(folder, seed, name)
        if file.exists():
            networks[name] = files.load_network(file, bench.plugins)[0].to(bench.device)
            continue
        ready = prepare(bench, name, stage, networks, seed)
        checkpoints = Checkpoints(
            folder / "checkpoints" / f"{seed}-{name}",
            f"{bench.spec.identity} {seed} {name}",
            bench.spec.run.checkpoint_every,
        )
        with progress(f"seed {seed} {name}", ready.steps) as show:
            log = _log(show, tracker, f"{seed}/{name}")
            done = ready.train(checkpoints, log)
        _save(bench, ready, done.history, file, {"seconds": done.seconds, "cached": done.cached})
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
        networks[name] = ready.student


def _log(show: Any, tracker: Tracker, prefix: str) -> Callable[[int, Row], None]:
    def log(step: int, row: Row) -> None:
        row["time_ms"] = int(time.time() * 1000)
        show(step, loss=f"{row['loss']:.4f}")
        tracker.log(step, _metrics(prefix, row), int(row["time_ms"]))
        tracker.flush()

    return log


def _metrics(prefix: str, row: Row) -> dict[str, float]:
    return {f"{prefix}/{key}": value for key, value in row.items() if key not in ("step", "time_ms")}


def _save(bench: Bench, ready: Stage, history: list[Row], file: Path, facts: dict[str, Any]) -> None:
    """Write a stage's history, then its network, whose file marks the stage as finished."""
    documents.write(file.with_suffix(".json"), {"history": history, **facts})
    data = bench.data
    about = {"data": data.fingerprint, "classes": list(data.classes), "mean": list(data.mean), "std": list(data.std)}
    about |= {"stage": ready.name, "identity": bench.spec.identity}
    files.save_network(file, ready.student, ready.learner, data.shape, ready.outputs, **about)


def file_of(folder: Path, seed: int, stage: str) -> Path:
    """The file of a stage's network."""
    return folder / "networks" / str(seed) / f"{stage}.safetensors"


def assess(bench: Bench, folder: Path) -> dict[str, Any]:
    """Evaluate all classifiers, after their last step, on validation and, once, on test data.

    Each stage has a row: accuracy in percent for each seed, mean and standard deviation over seeds.
    """
    spec, rows = bench.spec, []
    splits = {name: bench.split(name) for name in ("validation", "test") if len(getattr(bench.data, name))}
    last, baseline = list(spec.stages)[-1], list(spec.comparison)[-1]
    for name, stage in {**spec.stages, **spec.comparison}.items():
        if stage.outputs:
            continue
        accuracies: dict[str, list[float]] = {split: [] for split in splits}
        size = 0
        for seed in seeds(spec):
            model = files.load_network(file_of(folder, seed, name), bench.plugins)[0].to(bench.device)
            size = sum(p.numel() for p in model.parameters())
            for split, data in splits.items():
                accuracies[split].append(accuracy(model, data))
        kind = "student" if name == last else "baseline" if name == baseline else "stage"
        row = {"name": name, "kind": kind, "parameters": size, **accuracies}
        row |= {f"{s}_mean": statistics.mean(v) for s, v in accuracies.items()}
        row |= {f"{s}_std": statistics.stdev(v) if len(v) > 1 else 0.0 for s, v in accuracies.items()}
        rows.append(row)
    return {
        "split": "test", "test_images": len(bench.data.test), "seeds": list(seeds(spec)), "rows": rows,
        "time_ms": int(time.time() * 1000),
    }  # fmt: skip


def _record(spec: KdSpec, folder: Path) -> list[tuple[int, dict[str, float], int]]:
    """All metrics of a run as (step, metrics, time in ms), for a tracking store that lacks some."""
    record = []
    for file in sorted(folder.glob("networks/*/*.json")):
        prefix = f"{file.parent.name}/{file.stem}"
        rows = documents.read(file)["history"]
        record += [(int(r["step"]), _metrics(prefix, r), int(r["time_ms"])) for r in rows]
    results = documents.read(folder / RESULTS)
    for row in results["rows"]:
        values = {
            f"{row['name']}/{key}": row[key] for key in ("validation_mean", "test_mean", "test_std") if key in row
        }
        record.append((0, values, results["time_ms"]))
    return record
