"""Test accuracy that a recipe reaches in a budget of evaluators' CPU seconds.

    python benchmarks/time_to_accuracy.py --recipe mnist-random-100 --cpu-seconds 240 --json [--seeds 0,1,2]
        [--outer.steps N ...]

CPU seconds are those of the evaluators' work, validation included and the one look at test data not. The schedule
runs in the recipe's outer steps, so a budget cuts it; any field of the spec can be overridden to fit it to the
budget. Without a budget the recipe runs whole.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

from raystill.actors.drive import pipeline
from raystill.actors.record import history
from raystill.platform import runs
from raystill.platform.command_line import options
from raystill.platform.spec import DistillSpec


def one(spec: DistillSpec, seed: int, budget: float | None, out: Path) -> dict[str, float]:
    """Distil once and look at the test split once."""
    spec = spec.model_copy(update={
        "run": spec.run.model_copy(update={"seed": seed, "cpu_seconds": budget, "out": out, "name": f"seed-{seed}"}),
        "tracking": spec.tracking.model_copy(update={"enabled": False}),
        "assess": spec.assess.model_copy(update={"baselines": False, "architectures": ()}),
    })  # fmt: skip
    made = pipeline.make_plan(spec)
    folder = out / f"seed-{seed}"
    if folder.exists():  # resumes where it was stopped
        begun = pipeline.make_plan(runs.load(folder))
        if begun.spec.identity != made.spec.identity:
            raise SystemExit(f"{folder} holds a run of other settings; give another --out")
        made = begun
    else:
        folder = runs.create(made.spec)
    pipeline.carry_out(made, folder)
    row = json.loads((folder / "assessment.json").read_text())["rows"][0]
    return {
        "seed": seed, "test_accuracy": row["accuracy_mean"], "test_std": row["accuracy_std"], "networks": row["n"],
        "cpu_seconds": history.cpu_seconds(folder), "outer_steps": history.rows(folder)[-1]["step"],
    }  # fmt: skip


def main() -> None:
    """Print a table, or one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--cpu-seconds", type=float)
    parser.add_argument("--seeds", default="0", help="distillation seeds, comma between them (default: 0)")
    parser.add_argument("--out", type=Path, help="keep the runs here, and go on with them; else a temporary folder")
    parser.add_argument("--json", action="store_true", help="one JSON line on standard output, nothing else")
    args, rest = parser.parse_known_args()
    spec, _ = options.load(DistillSpec, "distill", "", ["--recipe", args.recipe, *rest])
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(sys.stderr):
        found = [one(spec, int(s), args.cpu_seconds, args.out or Path(temporary)) for s in args.seeds.split(",")]
    accuracies = [f["test_accuracy"] for f in found]
    result = {
        "recipe": args.recipe, "overrides": rest, "budget_cpu_seconds": args.cpu_seconds,
        "test_accuracy": statistics.mean(accuracies), "test_std": statistics.mean(f["test_std"] for f in found),
        "std_over_distillation_seeds": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "cpu_seconds": statistics.mean(f["cpu_seconds"] for f in found), "seeds": found,
    }  # fmt: skip
    if args.json:
        print(json.dumps(result))
        return
    for f in found:
        print(f"seed {f['seed']}: {f['test_accuracy']:.2f} +- {f['test_std']:.2f} % in {f['cpu_seconds']:.0f} CPU s")
    print(f"mean {result['test_accuracy']:.2f} %, spread over networks {result['test_std']:.2f}")


if __name__ == "__main__":
    main()
