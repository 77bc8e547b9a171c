"""Inner steps to a level of accuracy: on a generator's curriculum, and on real data at tuned rates, in one run.

    python benchmarks/gtn_steps.py RUN [--networks 10] [--horizon 16] [--json]

The level is 97 % of what the curriculum reaches at its end. Real data comes in minibatches of the same size; rate,
momentum and whether weights are normalised are chosen, on validation images, by the fewest steps to the level, within
`horizon` times the curriculum's length. Then both are judged once on test images: the first step at which the mean
accuracy of fresh networks, the same for both, is at the level. Real data's steps to 97 % of *its* own accuracy at the
end of the horizon are told beside, and what the curriculum reaches when it is made longer.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raystill.actors.drive import pipeline
from raystill.platform import runs
from raystill.platform.artifacts import Distilled, load_distilled
from raystill.platform.data.resident import Resident
from raystill.platform.meta import optimisers
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import LearnerSpec
from raystill.platform.work.problem import Problem
from raystill.platform.work.workbench import Workbench

SHARE = 0.97
RATES, MOMENTA = (0.01, 0.03, 0.1, 0.3), (0.0, 0.5, 0.9)
Batches = Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]


def curve(problem: Problem, theta: Tensor, batches: Batches, data: Resident, at: set[int], limit: int) -> list[float]:
    """Accuracy after each of the steps `at`, in percent, while a network learns."""
    found, state = [], None
    for step, (x, y, hyper) in enumerate(batches, 1):
        optimiser = optimisers.choose(hyper)
        state = optimiser.init(theta) if state is None else state
        state = optimiser.update(state, problem.engine.gradient(state[0], x, y), hyper)
        if step in at:
            found.append(100 * problem.evaluate(state[0], data, limit)["accuracy"])
    return found


def curriculum(d: Distilled) -> Batches:
    """An artefact's steps with their learned rates."""
    for t, s in enumerate(d.order):
        rates = {name: torch.tensor(rate[t]) for name, rate in d.rates.items()}
        yield torch.tensor(d.images[s]), torch.tensor(d.labels[s]), rates


def real(bench: Workbench, size: int, steps: int, lr: float, momentum: float, network: int) -> Batches:
    """Real minibatches at constant rates."""
    rng = numpy_rng(Address(1, member=network, stream="real"))
    hyper = {"lr": torch.tensor(lr), "momentum": torch.tensor(momentum)}
    for _ in range(steps):
        yield *bench.train.batch(rng.choice(len(bench.train), size, replace=False)), hyper


def longer(bench: Workbench, d: Distilled, factor: int, networks: int) -> list[float]:
    """Mean and spread of test accuracy on the curriculum made `factor` times as long."""
    more = d.longer(factor * len(d.order))
    end = [len(more.order)]
    values = mean_curve(bench, bench.spec.learner, lambda _: curriculum(more), "test", end, networks, 10_000)
    return [float(values.mean()), float(values.std(ddof=1))]


def first(steps: list[int], values: np.ndarray, level: float) -> int | None:
    """The first step at the level, None where there is none."""
    return next((step for step, value in zip(steps, values) if value >= level), None)


def mean_curve(bench: Workbench, learner: LearnerSpec, batches: Callable[[int], Batches], split: str, at: list[int],
               networks: int, limit: int) -> np.ndarray:  # fmt: skip
    """[networks, len(at)] of fresh networks; validation's and test's are drawn from streams of their own."""
    problem = bench.problem(learner)
    return np.array([
        curve(problem, problem.learner.init(Address(1, member=n, stream=f"steps/{split}")), batches(n),
              getattr(bench, split), set(at), limit)
        for n in range(networks)
    ])  # fmt: skip


def measure(folder: Path, networks: int, horizon: int) -> dict[str, Any]:
    """Both curves, and what they say."""
    bench = Workbench(pipeline.make_plan(runs.load(folder), resumed=True).spec)
    d = load_distilled(folder / "artefact")
    own, length, size = bench.spec.learner, len(d.order), d.images.shape[1]
    many = horizon * length
    each, coarse = list(range(1, length + 1)), list(range(4, many + 1, 4))
    tuning = mean_curve(bench, own, lambda _: curriculum(d), "validation", each, 3, 1000).mean(0)
    level = SHARE * tuning[-1]
    tried = {}
    for lr, momentum, norm in itertools.product(RATES, MOMENTA, (True, False)):
        learner = own.model_copy(update={"weight_norm": norm})
        values = mean_curve(bench, learner, lambda n: real(bench, size, many, lr, momentum, n), "validation",  # noqa: B023
                            coarse, 2, 500).mean(0)  # fmt: skip
        reached = first(coarse, values, level)
        tried[lr, momentum, norm] = (many + 1 if reached is None else reached, -float(values[-1]))
    lr, momentum, norm = min(tried, key=lambda key: tried[key])
    learner = own.model_copy(update={"weight_norm": norm})
    gtn = mean_curve(bench, own, lambda _: curriculum(d), "test", each, networks, 2000)
    fine = sorted({*range(1, many + 1, max(1, length // 16)), many})
    data = mean_curve(bench, learner, lambda n: real(bench, size, many, lr, momentum, n), "test", fine, networks, 2000)
    level = SHARE * float(gtn[:, -1].mean())
    steps = first(each, gtn.mean(0), level), first(fine, data.mean(0), level)
    return {
        "run": folder.name, "networks": networks, "inner_steps": length, "images_a_step": size,
        "gtn_final": float(gtn[:, -1].mean()), "gtn_final_std": float(gtn[:, -1].std(ddof=1)), "level": level,
        "gtn_steps": steps[0], "real_steps": steps[1], "horizon": many,
        "ratio": None if None in steps else steps[1] / steps[0],  # type: ignore[operator]
        "real_rate": lr, "real_momentum": momentum, "real_weight_norm": norm,
        "real_at_equal_steps": float(data.mean(0)[np.searchsorted(fine, length)]),
        "real_final": float(data[:, -1].mean()),
        "real_steps_to_its_own": first(fine, data.mean(0), SHARE * float(data[:, -1].mean())),
        "longer": {f"x{k}": longer(bench, d, k, networks) for k in (2, 4)} if d.generator else {},
        "gtn_curve": [round(v, 2) for v in gtn.mean(0)],
        "real_curve": [[s, round(v, 2)] for s, v in zip(fine, data.mean(0))],
    }  # fmt: skip


def main() -> None:
    """Print a few lines, or one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--horizon", type=int, default=16, help="real steps at most, in lengths of the curriculum")
    parser.add_argument("--json", action="store_true", help="one JSON line on standard output, nothing else")
    args = parser.parse_args()
    found = measure(args.run, args.networks, args.horizon)
    if args.json:
        print(json.dumps(found))
        return
    real_steps = found["real_steps"] or f"more than {found['horizon']}"
    print(f"level {found['level']:.2f} %: {found['gtn_steps']} steps of the curriculum, {real_steps} of real data")
    for name, (mean, spread) in found["longer"].items():
        print(f"made {name[1:]} times as long: {mean:.2f} +- {spread:.2f} %")
    print(f"after {found['inner_steps']} steps: {found['gtn_final']:.2f} +- {found['gtn_final_std']:.2f} % on the "
          f"curriculum, {found['real_at_equal_steps']:.2f} % on real data")  # fmt: skip


if __name__ == "__main__":
    main()
