"""Long unrolls in little memory: peak, price and exactness of each way to keep a trajectory; one thread.

    python benchmarks/long_memory.py --json [--learners lenet convnet] [--width 128] [--budgets 256MB 64MB]

T = 1000 inner steps of 100 images on LeNet and ConvNet-3, 28x28 grey, judged by 256 real images at the end. Each way is
one unroll in a process of its own. Its memory is the peak above what was there before the unroll, less the rest: what
three steps in 2 MB take (one step's graph, the outer pass), and the gradient itself. Errors are those of the images'
gradient against the way without a budget. Images are seeded patterns with noise.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import platform as machine
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform import learners, meta, seeds
from raystill.platform.meta.trajectory import Tape, slots
from raystill.platform.spec import LearnerSpec, MetaSpec
from raystill.platform.work import allocator

SEED, SHAPE, CLASSES, IMAGES, REAL = 0, (1, 28, 28), 10, 100, 256
RATE = 0.01


def images(y: Tensor, rng: torch.Generator, patterns: Tensor) -> Tensor:
    """One noisy pattern for each label."""
    return torch.randn(*y.shape, *SHAPE, generator=rng).mul_(0.7).add_(patterns[y])


def status(key: str) -> float:
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status") as lines:
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def one(learner: str, width: int | None, steps: int, way: str | None, out: str) -> dict[str, Any]:
    """One unroll: peak memory above what was there before, CPU seconds; the gradient goes to a file."""
    built = learners.build(LearnerSpec(name=learner, width=width), SHAPE, CLASSES)

    def cross_entropy(theta: Tensor, x: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
        return F.cross_entropy(built.apply(theta, x), y, reduction=reduction)

    rng = seeds.torch_rng(seeds.Address(SEED, stream="benchmark"))
    patterns = F.avg_pool2d(torch.randn(CLASSES, *SHAPE, generator=rng), 5, 1, 2) * 5
    y = torch.arange(IMAGES).remainder(CLASSES).expand(steps, -1)
    real_y = torch.arange(REAL).remainder(CLASSES)
    real_x = images(real_y, rng, patterns)
    x = torch.empty(steps, IMAGES, *SHAPE)
    for t in range(steps):  # one by one: nothing large is freed that the unroll would then find
        x[t] = images(y[t], rng, patterns)
    theta0 = built.init(seeds.Address(SEED))
    kept = MetaSpec.model_validate({"trajectory": way} if way == "bfloat16" else {"memory": way} if way else {})
    engine = meta.make_engine(cross_entropy, keep=meta.GRAPH_BYTES, memory=kept.memory, trajectory=kept.trajectory)
    outer_loss = meta.outer_loss(lambda theta, x, y: cross_entropy(theta, x, y, "sum"), real_x, real_y, REAL)
    all_steps = meta.Steps(x, y, {"lr": torch.full((steps,), RATE)})

    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    before, began = status("VmRSS"), time.process_time()
    meta_gradient = meta.unroll(engine, theta0, all_steps, [(steps, outer_loss)], to_theta0=False)
    found = {"seconds": time.process_time() - began, "peak": status("VmHWM") - before}
    if out:
        np.save(out, meta_gradient.steps.x.numpy())
    room, used = slots(kept.memory, (theta0,), steps, engine.trajectory)
    return {
        **found,
        "parameters": built.size,
        "loss": float(meta_gradient.loss),
        "result": meta_gradient.steps.x.numel() * 4,
        "states": used,
        "slots": room,
        "again": again(steps, room),
    }


def again(steps: int, slots: int) -> int:
    """Steps that a budgeted unroll computes again, counted by running its schedule on nothing."""
    count = 0

    def advance(state: Any, t: int) -> Any:
        nonlocal count
        count += 1
        return state

    tape = Tape(0, steps, slots, advance)
    for t in range(steps):
        tape.put(t, ())
    for t in reversed(range(steps)):
        tape.take(t)
    return count


def child(*task: Any) -> dict[str, Any]:
    """`one` in a process of its own."""
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip()[-300:]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(found: Path, exact: Path) -> dict[str, Any]:
    """Cosine and relative error of a gradient, and whether it has the same bits; a step at a time."""
    a, b = np.load(found, mmap_mode="r"), np.load(exact, mmap_mode="r")
    same, ab, aa, bb, gap = True, 0.0, 0.0, 0.0, 0.0
    for p, q in zip(a, b):
        same = same and p.tobytes() == q.tobytes()
        p, q = p.astype(np.float64), q.astype(np.float64)
        ab, aa, bb, gap = ab + (p * q).sum(), aa + (p * p).sum(), bb + (q * q).sum(), gap + ((p - q) ** 2).sum()
    return {
        "same_bits": same,
        "one_minus_cosine": float(max(0.0, 1 - ab / math.sqrt(aa * bb))),
        "relative_error": math.sqrt(gap / bb),
    }


def measure(learner: str, width: int | None, steps: int, budgets: list[str], folder: Path) -> dict[str, Any]:
    """All ways of one learner: without a budget, with each, and rounded."""
    short = child(learner, width, 3, "2MB", "")
    rest = short["peak"] - short["result"]
    found: dict[str, Any] = {"learner": learner, "width": width, "rest_mb": round(rest / 1e6, 1), "ways": {}}
    exact = folder / "none.npy"
    for way in ("none", *budgets, "bfloat16"):
        gradient = folder / f"{way}.npy"
        told = child(learner, width, steps, None if way == "none" else way, str(gradient))
        if "error" not in told:
            found |= {"parameters": told["parameters"], "gradient_mb": round(told["result"] / 1e6, 1)}
            seconds = told["seconds"]
            base = found["ways"].get("none", {}).get("cpu_seconds", seconds)
            told = {
                "memory_mb": round((told["peak"] - rest - told["result"]) / 1e6, 1),
                "peak_mb": round(told["peak"] / 1e6, 1),
                "states_mb": round(told["states"] / 1e6, 1),
                "slots": told["slots"],
                "steps_again": told["again"],
                "cpu_seconds": round(seconds, 2),
                "cpu_ratio": round(seconds / base, 3),
                "loss": told["loss"],
                **compare(gradient, exact),
            }
        found["ways"][way] = told
        if gradient != exact:
            gradient.unlink(missing_ok=True)
        print(json.dumps({way: told}), file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else on stdout")
    parser.add_argument("--steps", type=int, default=1000, help="inner steps T")
    parser.add_argument("--learners", nargs="*", default=["lenet", "convnet"], choices=["lenet", "convnet"])
    parser.add_argument("--width", type=int, default=128, help="ConvNet-3's channels")
    parser.add_argument("--budgets", nargs="*", default=["256MB", "64MB"], help="of meta.memory")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    allocator.keep_freed_memory()
    if options.child:
        print(json.dumps(one(*json.loads(options.child))))
        return
    found: dict[str, Any] = {
        "benchmark": "long_memory", "command": " ".join(["python", "benchmarks/long_memory.py", *sys.argv[1:]]),
        "device": machine.processor() or machine.machine(), "torch": torch.__version__, "threads": 1, "seed": SEED,
        "inner_steps": options.steps, "images_per_step": IMAGES, "real_images": REAL, "inner_rate": RATE,
        "keep_bytes": meta.GRAPH_BYTES, "learners": [],
    }  # fmt: skip
    for learner in options.learners:
        with tempfile.TemporaryDirectory() as folder:
            width = options.width if learner == "convnet" else None
            found["learners"].append(measure(learner, width, options.steps, options.budgets, Path(folder)))
    print(json.dumps(found) if options.json else json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
