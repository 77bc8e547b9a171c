"""What training a (T, alpha, seed) grid together is worth: settings per CPU second, three ways, in one run.

    python benchmarks/student_grid.py --json [--steps 1000] [--settings 16] [--device cuda]

The same settings of the same students on the same teacher's logits, by the product's own code: all under one
`vmap`, one after another in a loop, and one Ray Tune trial each (its actors used again). Each way of training is warm
before the clock starts, and training and all else are told apart: a Tune trial's CPU seconds are those of this process
and of all that Ray started for it, and what is above the loop's is overhead.

    vmap_over_trials  settings per CPU second under vmap over those of Tune trials, with all overhead
    vmap_over_loop    settings per CPU second of training alone, under vmap over the loop
    ...wall           the same of wall seconds, which is what counts on a GPU

Each is the least of the networks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

STUDENTS = {"mlp": {"name": "mlp", "width": 16, "depth": 1}, "lenet": {"name": "lenet"}}
TICK = os.sysconf("SC_CLK_TCK")


class Tree:
    """CPU seconds of this process and of all below it, those included that ended: looked at twice a second.

    Ray's processes take the seconds of those that they started with them where nobody waits for these, so a sum over
    the living at the end would leave out a trial's actor.
    """

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Tree:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def __call__(self) -> float:
        """Seconds so far; children's own are counted as theirs."""
        parents, own = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            pid = int(path.parent.name)
            parents[pid], own[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / TICK
        below = [os.getpid()]
        for pid in below:
            below += [child for child, parent in parents.items() if parent == pid]
        for pid in {*below, *(self._seen.keys() & own.keys())}:  # an orphan is still ours
            self._seen[pid] = max(self._seen.get(pid, 0.0), own.get(pid, 0.0))
        return sum(self._seen.values())

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self()


def clocked(work: Callable[[], Any], cpu: Callable[[], float]) -> dict[str, float]:
    """CPU and wall seconds of some work."""
    began, wall = cpu(), time.perf_counter()
    work()
    return {"cpu_seconds": cpu() - began, "wall_seconds": time.perf_counter() - wall}


def spec_of(args: argparse.Namespace, student: dict[str, Any], out: Path) -> Any:
    """The search whose trials are timed: one grid, each setting once, with one seed."""
    from raystill.search.temperature.spec import TemperatureSpec

    temperatures = np.geomspace(1, 20, args.settings).tolist()
    return TemperatureSpec.model_validate({
        "data": {"source": args.source, "limit": args.limit, "size": 28 if args.source == "digits" else None},
        "teacher": {"training": {"steps": 50}},
        "student": {"learner": student, "training": {"steps": args.steps, "batch_size": args.batch_size}},
        "search": {"method": "asha", "temperatures": temperatures, "alphas": [0.9], "seeds": 1, "rungs": 1,
                   "trials": args.settings},
        "run": {"device": args.device, "workers": 1, "out": out}, "tracking": {"enabled": False},
    })  # fmt: skip


def measure(args: argparse.Namespace, name: str, out: Path) -> dict[str, Any]:
    """Settings per second of one network, three ways."""
    import torch

    from raystill.actors import cluster
    from raystill.platform.work.student_grid import StudentsOptions, cohort
    from raystill.platform.work.workbench import Workbench
    from raystill.search.temperature import on_tune

    spec = spec_of(args, STUDENTS[name], out)
    host_spec = spec.host_spec()
    bench = Workbench(host_spec)
    logits = 3 * torch.randn(len(bench.train), 10, generator=_rng()).numpy()
    settings = tuple((t, 0.9) for t in spec.search.temperatures)
    options = StudentsOptions(spec.learner(0), spec.student.training, settings, (0,))

    def here(stack: Literal["vmap", "loop"], steps: int | None = None) -> Callable[[], None]:
        def work() -> None:
            group = cohort(bench, replace(options, stack=stack), {"logits": logits})
            group.advance(steps)
            group.accuracies(bench.validation)

        return work

    for stack in ("vmap", "loop"):
        here(stack, 2)()
    found: dict[str, Any] = {stack: clocked(here(stack), time.process_time) for stack in ("vmap", "loop")}
    cluster.connect(None, 2)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    with Tree() as tree:
        found["trials"] = clocked(lambda: on_tune.search(host_spec, spec, logits, out), tree)
    found["trials"]["overhead_cpu_seconds"] = found["trials"]["cpu_seconds"] - found["loop"]["cpu_seconds"]
    for way in ("vmap", "loop", "trials"):
        for clock in ("cpu", "wall"):
            found[way][f"settings_per_{clock}_second"] = args.settings / found[way][f"{clock}_seconds"]
    return found


def _rng() -> Any:
    from raystill.platform.seeds import Address, torch_rng

    return torch_rng(Address(0, stream="benchmark"))


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--settings", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--source", default="digits", help="digits are enlarged to 28 pixels")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--nets", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for name in args.nets:
        with tempfile.TemporaryDirectory() as out:
            found[name] = measure(args, name, Path(out))
            print(f"{name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    ratios = {
        f"vmap_over_{other}{suffix}": min(
            f["vmap"][f"settings_per_{clock}_second"] / f[other][f"settings_per_{clock}_second"] for f in found.values()
        )
        for other in ("trials", "loop")
        for clock, suffix in (("cpu", ""), ("wall", "_wall"))
    }
    report = {**ratios, "arguments": vars(args), "load": os.getloadavg(), **found}
    print(json.dumps(report, indent=1) if args.json else "\n".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
