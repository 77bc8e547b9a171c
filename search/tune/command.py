"""`raystill search tune`, and what other commands do with the run of a hyperparameter search."""

from __future__ import annotations

import argparse
from pathlib import Path

SCHEDULERS = {"asha": "stops poor trials early", "pbt": "has them take over good ones' states", "none": "stops none"}


def command(argv: list[str]) -> int:
    """Search a recipe's hyperparameters."""
    from raystill.platform.command_line import options
    from raystill.platform.spec import DistillSpec
    from raystill.search.tune.run import tune

    text = "Search hyperparameters of a recipe on validation data; each trial is a run with its own evaluators."
    spec, args = options.load(DistillSpec, "search tune", text, argv, default="digits", extend=_arguments)
    searcher = args.searcher or ("random" if args.scheduler == "pbt" else "optuna")
    tune(spec, {
        "over": args.over, "trials": args.trials, "scheduler": args.scheduler, "searcher": searcher,
        "time_budget": args.time_budget, "perturb": args.perturb,
    })  # fmt: skip
    return 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    domain = "values to try: uniform:a:b, loguniform:a:b, int:a:b or choice:x,y; repeat for each field"
    parser.add_argument("--over", action="append", default=[], metavar="FIELD=DOMAIN", help=domain)
    parser.add_argument("--trials", type=int, default=16, help="runs to make (default: 16)")
    schedulers = "; ".join(f"{name} {does}" for name, does in SCHEDULERS.items())
    parser.add_argument("--scheduler", choices=tuple(SCHEDULERS), default="asha", help=f"{schedulers} (default: asha)")
    searchers = "chooses values (default: optuna; random with pbt, which takes no other)"
    parser.add_argument("--searcher", choices=("optuna", "random"), help=searchers)
    steps = "pbt: outer steps between comparisons, a multiple of validation.every (default: about a ninth of all)"
    parser.add_argument("--perturb", type=int, metavar="STEPS", help=steps)
    parser.add_argument("--time-budget", type=float, help="seconds after which no new trial starts")


def resume(folder: Path, workers: int | str | None = None) -> None:
    """Finish a search that was stopped or killed."""
    from raystill.search.tune.run import resume as finish

    finish(folder, workers)


def write_report(folder: Path) -> Path:
    """The table of the trials as JSON; what is missing of the search is done first."""
    resume(folder)
    return folder / "result.json"
