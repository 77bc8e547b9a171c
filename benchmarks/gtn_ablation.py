"""What each part of a generative teaching network is worth: its curriculum, its order, and weight normalisation.

    python benchmarks/gtn_ablation.py --cpu-seconds 600 --out runs/ablation [--seeds 0,1,2] [--arms full,none]
        [--recipe gtn-mnist] [--picture FILE] [--json] [--beside FILE] [--outer.steps N ...]

Every arm is the recipe with one change, on the same seeds and the same CPU seconds of evaluators' work. Any field of
the spec can be overridden for all arms; the schedule runs in outer steps, so give as many as the budget pays for.
What is under --out is gone on with, and a run that has ended is not run again; the runs of an earlier result can stand
beside those that are made now. An arm's run *diverged* where it was
rolled back, or ended because no rollback was left, and *broke down* where its last validation lies 20 points below its
best.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from raystill.actors.drive import pipeline
from raystill.actors.drive.crew import WorkFailed
from raystill.actors.record import commit_log, history
from raystill.platform import runs
from raystill.platform.command_line import options
from raystill.platform.spec import DistillSpec

ARMS: dict[str, list[str]] = {
    "full": [],
    "batch-shuffled": ["--synthesizer.curriculum", "batch-shuffled"],
    "all-shuffled": ["--synthesizer.curriculum", "all-shuffled"],
    "none": ["--synthesizer.curriculum", "none"],
    "pixels": ["--synthesizer.curriculum", "pixels"],
    "no-weight-norm": ["--synthesizer.weight_norm", "false", "--learner.weight_norm", "false"],
}
FALL = 20.0


def spec_of(args: argparse.Namespace, rest: list[str], arm: str, seed: int) -> DistillSpec:
    """The recipe with an arm's change and what the command line overrides."""
    spec, _ = options.load(DistillSpec, "distill", "", ["--recipe", args.recipe, *rest, *ARMS[arm]])
    run = {"seed": seed, "cpu_seconds": args.cpu_seconds, "out": args.out, "name": f"{arm}-{seed}"}
    return spec.model_copy(update={
        "run": spec.run.model_copy(update=run),
        "tracking": spec.tracking.model_copy(update={"enabled": False}),
        "assess": spec.assess.model_copy(update={"baselines": False, "architectures": ()}),
    })  # fmt: skip


def one(args: argparse.Namespace, rest: list[str], arm: str, seed: int) -> dict[str, Any]:
    """An arm's run on a seed, from wherever it stands: its curve on validation, and one look at test data."""
    folder = args.out / f"{arm}-{seed}"
    diverged = ""
    try:
        made = pipeline.make_plan(runs.load(folder) if folder.exists() else spec_of(args, rest, arm, seed))
        pipeline.carry_out(made, folder if folder.exists() else runs.create(made.spec))
    except WorkFailed as error:
        diverged = str(error)
    curve, spent = [], 0.0
    for row in history.rows(folder):
        spent += row["cpu_seconds"]
        if "validation_accuracy" in row:
            curve.append({"step": row["step"], "cpu_seconds": round(spent, 1),
                          "validation": round(row["validation_accuracy"], 2)})  # fmt: skip
    values = [point["validation"] for point in curve]
    rollbacks = commit_log.read(folder / "commits").column("kind").to_pylist().count("rollback")
    found: dict[str, Any] = {
        "arm": arm, "seed": seed, "diverged": bool(diverged or rollbacks), "rollbacks": rollbacks,
        "error": diverged.partition("; see it")[0],  # what comes behind names the run's folder
        "broke_down": bool(values) and values[-1] < max(values) - FALL,
        "budget": args.cpu_seconds, "cpu_seconds": history.cpu_seconds(folder), "curve": curve,
    }  # fmt: skip
    if not diverged:
        row = json.loads((folder / "assessment.json").read_text())["rows"][0]
        found |= {"test": row["accuracy_mean"], "test_std": row["accuracy_std"], "networks": row["n"]}
    return found


def beside(path: Path, args: argparse.Namespace, rest: list[str]) -> list[dict[str, Any]]:
    """The runs of an earlier result of the same recipe and overrides; each says what CPU seconds it was given.

    A machine of another speed pays the same steps with other seconds, so their number may differ.

    Raises:
        ValueError: it is of others.
    """
    told = json.loads(path.read_text())
    for key, value in {"recipe": args.recipe, "overrides": rest}.items():
        if told[key] != value:
            raise ValueError(f"--beside: {path} has {key} {told[key]}, not {value}")
    runs_then: list[dict[str, Any]] = told["runs"]
    return [{"budget": told["budget_cpu_seconds"], **run} for run in runs_then]


def merged(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Earlier runs and those of now, which replace the earlier ones of the same arm and seed; seed by seed."""
    by = {(run["arm"], run["seed"]): run for run in (*then, *now)}
    return sorted(by.values(), key=lambda run: (run["seed"], list(ARMS).index(run["arm"])))


def table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per arm: test accuracy over seeds, its spread over seeds, and the shares that diverged or broke down."""
    rows = []
    for arm in dict.fromkeys(f["arm"] for f in found):
        own = [f for f in found if f["arm"] == arm]
        tests = [f["test"] for f in own if "test" in f]
        rows.append({
            "arm": arm, "seeds": len(own), "test": statistics.mean(tests) if tests else None,
            "std_over_seeds": statistics.stdev(tests) if len(tests) > 1 else None,
            "diverged": sum(f["diverged"] for f in own) / len(own),
            "broke_down": sum(f["broke_down"] for f in own) / len(own),
        })  # fmt: skip
    return rows


def figure(found: list[dict[str, Any]], file: Path) -> None:
    """Each arm's validation accuracy along its outer steps, which machines of any speed share.

    The mean over seeds, and the least and most of them, at the steps that all of them came to.
    """
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(7.0, 4.0), layout="constrained")
    ax = drawn.add_subplot()
    for arm in dict.fromkeys(f["arm"] for f in found):
        curves = [f["curve"] for f in found if f["arm"] == arm and f["curve"]]
        if not curves:
            continue
        by = [{point["step"]: point["validation"] for point in curve} for curve in curves]
        at = [step for step in by[0] if all(step in seed for seed in by)]
        values = [[seed[step] for seed in by] for step in at]
        (line,) = ax.plot(at, [statistics.mean(v) for v in values], marker="o", ms=3, label=f"{arm} ({len(curves)})")
        least, most = map(min, values), map(max, values)
        ax.fill_between(at, list(least), list(most), color=line.get_color(), alpha=0.15, lw=0)
    ax.set(xlabel="outer steps of meta-training", ylabel="validation accuracy, %")
    ax.legend(frameon=False, fontsize=8, title="arm (seeds)", title_fontsize=8)
    ax.grid(alpha=0.3)
    drawn.savefig(file, dpi=130)


def main() -> None:
    """Run the arms, the first seed of all before the second, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="gtn-mnist")
    parser.add_argument("--cpu-seconds", type=float, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default="full,batch-shuffled,all-shuffled,none,no-weight-norm",
                        help=f"of {', '.join(ARMS)}")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, which are gone on with")
    parser.add_argument("--beside", type=Path, help="a JSON of this command's, whose runs stand beside those of now")
    parser.add_argument("--picture", type=Path, help="a PNG of the curves")
    parser.add_argument("--json", action="store_true", help="one JSON line on standard output, nothing else")
    args, rest = parser.parse_known_args()
    if wrong := set(args.arms.split(",")) - set(ARMS):
        parser.error(f"--arms: unknown {', '.join(sorted(wrong))}; valid: {', '.join(ARMS)}")
    try:
        then = beside(args.beside, args, rest) if args.beside else []
    except ValueError as error:
        parser.error(str(error))
    found = []
    with contextlib.redirect_stdout(sys.stderr):
        for seed in map(int, args.seeds.split(",")):
            for arm in args.arms.split(","):
                found.append(one(args, rest, arm, seed))
                (args.out / "ablation.json").write_text(json.dumps(found, indent=1))
    found = merged(then, found)
    if args.picture:
        figure(found, args.picture)
    result = {
        "recipe": args.recipe, "overrides": rest, "budget_cpu_seconds": args.cpu_seconds,
        "arms": table(found), "runs": found,
    }  # fmt: skip
    if args.json:
        print(json.dumps(result))
        return
    for row in result["arms"]:
        test = "-" if row["test"] is None else f"{row['test']:.2f}"
        spread = "" if row["std_over_seeds"] is None else f" +- {row['std_over_seeds']:.2f}"
        print(f"{row['arm']:15s} {test}{spread} %, {row['seeds']} seeds, diverged {row['diverged']:.0%}, "
              f"broke down {row['broke_down']:.0%}")  # fmt: skip


if __name__ == "__main__":
    main()
