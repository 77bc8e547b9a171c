"""The commands `distill`, `resume` and `assess`."""

from __future__ import annotations

import argparse
import importlib
import itertools
import time
from pathlib import Path

from pydantic import Field

from raystill.actors.drive import pipeline
from raystill.actors.record import mirror
from raystill.platform import runs
from raystill.platform.command_line import options
from raystill.platform.files.storage import Storage, is_remote, plain
from raystill.platform.spec import AssessSpec, DistillSpec, TrackingSpec
from raystill.platform.spec.section import Part, Workers


def distill(argv: list[str]) -> int:
    """Distil a data set; write its report and its MLflow run."""
    text = "Distil a data set. Without --recipe or --config: the recipe `digits`, which needs no data and no network."
    spec, _ = options.load(DistillSpec, "distill", text, argv, default=_default_recipe(argv))
    began = time.monotonic()
    plan = pipeline.make_plan(spec)
    folder = runs.create(plan.spec)
    pipeline.carry_out(plan, folder)
    _close(folder, plan.spec.tracking, time.monotonic() - began)
    return 0


def _default_recipe(argv: list[str]) -> str:
    """The recipe where the user names none, by the synthesizer's kind."""
    kinds = [value for option, value in itertools.pairwise(argv) if option == "--synthesizer.kind"]
    kinds += [word.partition("=")[2] for word in argv if word.startswith("--synthesizer.kind=")]
    return "gtn-digits" if kinds[-1:] == ["generator"] else "digits"


def _close(folder: Path, tracking: TrackingSpec, seconds: float) -> None:
    print(f"done in {seconds:.0f} s\n  result  {folder / 'artefact'}\n  report  {folder / 'report.html'}")
    if tracking.enabled:
        print("  runs    raystill ui")


def _local_folder(run: str) -> Path:
    """The run's folder; a run in a storage is copied into `runs` first."""
    if not is_remote(run):
        return Path(run)
    storage = Storage(run)
    folder = Path("runs") / plain(storage.root.partition("?")[0].rstrip("/").rpartition("/")[2])
    mirror.pull(storage, folder)
    return folder


def _run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")


def _run_or_uri_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="the run's folder, or its URI in a storage")


class ResumeSpec(Part):
    """Settings that may differ when a run is resumed; none of them changes its bits."""

    workers: Workers | None = Field(None, description="number of evaluators; default: the run's own setting")


def resume(argv: list[str]) -> int:
    """Resume a run from its newest checkpoint."""
    text = "Go on with a run that was stopped or killed. The result has the same bits as that of an undisturbed run."
    changes, args = options.load(ResumeSpec, "resume", text, argv, extend=_run_or_uri_argument)
    began, folder = time.monotonic(), _local_folder(args.folder)
    if maker := runs.MAKERS.get(runs.made_by(folder)):
        importlib.import_module(maker).resume(folder, changes.workers)
        return 0
    pipeline.resume(folder, workers=changes.workers)
    _close(folder, runs.load(folder).tracking, time.monotonic() - began)
    return 0


class AssessCommand(Part):
    """Settings of `raystill assess`."""

    assess: AssessSpec = AssessSpec()
    workers: Workers | None = Field(None, description="number of evaluators; default: the run's own setting")


def assess(argv: list[str]) -> int:
    """Evaluate a run's artefact again, and replace its table and report."""
    text = "Evaluate a run's result on test data again: with more networks, other architectures, other baselines."
    folder = next((Path(a) for a in argv if not a.startswith("-") and (Path(a) / "spec.yaml").is_file()), None)
    base = {"assess": runs.load(folder).assess.model_dump()} if folder else None
    command, args = options.load(AssessCommand, "assess", text, argv, base=base, extend=_run_argument)
    spec = runs.load(args.folder)
    workers = spec.run.workers if command.workers is None else command.workers
    assessment = pipeline.assess_run(
        args.folder, {"assess": command.assess, "run": spec.run.model_copy(update={"workers": workers})}
    )
    for row in assessment["rows"]:
        print(f"{row['name']:36s} {row['accuracy_mean']:6.2f} +- {row['accuracy_std']:.2f}  ({row['spread_over']})")
    return 0
