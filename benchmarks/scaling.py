"""What a second evaluator is worth: members per second with one and two, beside two processes without Ray.

    python benchmarks/scaling.py --json [--recipe mnist-random-100] [--seconds 40] [--rounds 3]

All arrangements compute the same addressed work items with the same product code, in turns within one run, so
that a machine whose speed drifts treats them alike.

    speedup_2               members/s of two evaluators over members/s of one
    against_bare_processes  members/s of two evaluators over those of two processes that need no one
    non_computing_share     part of two evaluators' wall time in the loop in which they computed nothing
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from raystill.actors.drive import coordinator, pipeline
from raystill.actors.drive.crew import Crew
from raystill.actors.drive.loop import Loop
from raystill.actors.fleet import ray_executor
from raystill.actors.fleet.evaluator import compute
from raystill.actors.record.commit_log import CommitLog
from raystill.platform import runs
from raystill.platform.command_line import options
from raystill.platform.files.storage import Storage
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec
from raystill.platform.tracking import Tracker
from raystill.platform.work.workbench import Workbench

WARM = 3
"""Outer steps before the clock starts."""


class Enough(Exception):
    """Ends a timed loop."""


def distributed(spec: DistillSpec, workers: int, seconds: float, out: Path) -> dict[str, float]:
    """Members per second of the product's own loop, and the share of its evaluators' time that is not computing."""
    run = spec.run.model_copy(update={"workers": workers, "out": out, "checkpoint_every": 50})
    made = pipeline.make_plan(
        spec.model_copy(update={"run": run, "tracking": spec.tracking.model_copy(update={"enabled": False})})
    )
    folder = runs.create(made.spec)
    log = CommitLog(folder / "commits")
    marks: dict[str, float] = {}
    executor = ray_executor.RayExecutor(
        made.spec, dict(made.synthesizer.groups), None, (workers, workers), made.data.fingerprint
    )
    executor.await_all()
    crew = Crew(executor, log, made.spec.run.deadline)

    def on_step(step: int) -> None:
        if step == WARM:
            marks.update(began=time.perf_counter(), busy=crew.seconds)
        elif step > WARM and time.perf_counter() - marks["began"] > seconds:
            marks.update(
                wall=time.perf_counter() - marks["began"], computed=crew.seconds - marks["busy"], steps=step - WARM
            )
            raise Enough

    store = Storage(folder / "checkpoints")
    loop = Loop(made.spec, made.data, made.synthesizer, folder, crew, log, Tracker(), store, on_step=on_step)
    with contextlib.suppress(Enough):
        coordinator.distil(loop)
    log.close()
    executor.close()
    members = marks["steps"] * made.spec.outer.members
    return {
        "members_per_second": members / marks["wall"],
        "non_computing_share": 1 - marks["computed"] / (workers * marks["wall"]),
        "step_seconds": marks["wall"] / marks["steps"],
    }


def _bare(spec: dict[str, Any], number: int, seconds: float, ready: Any, answers: Any) -> None:
    made = DistillSpec.model_validate(spec)
    bench = Workbench(made)
    meta = bench.synthesizer.start(bench.data, Address(made.run.seed, stream="start"))
    chunks = made.outer.members // made.outer.chunk
    ready.wait()
    began, members, step = None, 0, 0
    while began is None or time.perf_counter() - began < seconds:
        items = [i for c, i in enumerate(coordinator.gradient_items(made, 0, step)) if chunks < 2 or c % 2 == number]
        for item in items:
            compute(bench, number, item, meta)
            members += made.outer.chunk if began else 0
        step += 1
        if step % made.validation.every == 0:
            checks = coordinator.validation_items(made, step)
            for item in checks[number::2]:
                compute(bench, number, item, meta)
        if step == WARM:
            began = time.perf_counter()
    answers.put(members / (time.perf_counter() - began))


def bare(spec: DistillSpec, seconds: float) -> float:
    """Members per second of two processes that compute the same items and wait for no one."""
    context = get_context("spawn")
    ready, answers = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_bare, args=(spec.dump(), n, seconds, ready, answers)) for n in range(2)]
    for process in processes:
        process.start()
    total = sum(answers.get(timeout=seconds + 120) for _ in processes)
    for process in processes:
        process.join(30)
    return float(total)


def main() -> None:
    """Print the figures, or one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mnist-random-100")
    parser.add_argument("--seconds", type=float, default=40.0, help="timed seconds of each arrangement and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON line on standard output, nothing else")
    args, rest = parser.parse_known_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    spec, _ = options.load(DistillSpec, "distill", "", ["--recipe", args.recipe, *rest])
    one, two, none = [], [], []
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(sys.stderr):
        resolved = pipeline.make_plan(spec).spec
        for _ in range(args.rounds):
            one.append(distributed(spec, 1, args.seconds, Path(temporary)))
            two.append(distributed(spec, 2, args.seconds, Path(temporary)))
            none.append(bare(resolved, args.seconds))
    ratios = [b["members_per_second"] / a["members_per_second"] for a, b in zip(one, two)]
    result = {
        "recipe": args.recipe, "rounds": args.rounds,
        "speedup_2": statistics.median(ratios),
        "against_bare_processes": statistics.median(b["members_per_second"] / n for b, n in zip(two, none)),
        "non_computing_share": statistics.median(b["non_computing_share"] for b in two),
        "members_per_second_1": statistics.median(a["members_per_second"] for a in one),
        "members_per_second_2": statistics.median(b["members_per_second"] for b in two),
        "members_per_second_bare": statistics.median(none),
        "step_seconds_2": statistics.median(b["step_seconds"] for b in two), "speedups": ratios,
    }  # fmt: skip
    print(json.dumps(result) if args.json else "\n".join(f"{k:26s} {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
