"""What scoring costs beside the training it needs: macro architectures on persistent evaluators.

    RAYSTILL_DATA=... python benchmarks/scoring.py [--architectures 500] [--workers 2] [--steps 64] [--images 500]

The curriculum is noise with the shape of a GTN's: what it teaches does not change what it costs. One JSON line:
`overhead_steps` is wall time over (training steps' own wall time / workers), `overhead_work` over that of training and
evaluating on validation images, which no way of scoring can do without.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from raystill.actors.drive.session import open_session
from raystill.platform import runs
from raystill.platform.artifacts import Distilled
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec, RunSpec, TrackingSpec
from raystill.search.ranking import evaluators
from raystill.search.ranking.levels import sample
from raystill.search.ranking.rankers import RankerOptions
from raystill.search.ranking.scoring import Ranking, Scorer


def noise(steps: int, batch: int, shape: tuple[int, ...], classes: int) -> Distilled:
    """A curriculum of noise, each step its own."""
    images = numpy_rng(Address(0, stream="scoring")).standard_normal((steps, batch, *shape), np.float32)
    labels = np.tile(np.arange(batch) % classes, (steps, 1)).astype(np.int64)
    rates = {"lr": np.full(steps, 0.02, np.float32), "momentum": np.full(steps, 0.5, np.float32)}
    return Distilled(images, labels, rates, np.arange(steps, dtype=np.int64), None, {})


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--source", default="mnist")
    parser.add_argument("--size", type=int, default=14)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(sys.stderr):
        data, run = DataSpec(source=args.source, size=args.size), RunSpec(workers=args.workers, out=Path(temporary))
        made = evaluators.planned(data, run, TrackingSpec(enabled=False), None)
        archs = sample("macro", args.architectures, "scoring")
        curriculum = noise(args.steps, 64, made.data.shape, len(made.data.classes))
        with open_session(made, runs.create(made.spec, stem="scoring")) as session:
            if args.workers:
                session.executor.await_all()  # type: ignore[attr-defined]
            scorer = Scorer(session)
            scorer.scores(Ranking("warm", "curriculum", RankerOptions(limit=args.images), curriculum), archs[:16])
            cpu = time.process_time()
            scores = scorer.scores(Ranking("noise", "curriculum", RankerOptions(limit=args.images), curriculum), archs)
            cpu = time.process_time() - cpu
    steps, work = scores.overhead(args.workers)
    print(json.dumps({
        **vars(args), "overhead_steps": steps, "overhead_work": work, "wall_seconds": scores.wall,
        "training_seconds": float(scores.training.sum()), "evaluation_seconds": float(scores.evaluation.sum()),
        "item_cpu_seconds": float(scores.cpu.sum()), "driver_cpu_seconds": cpu, "load": os.getloadavg()[0],
        "cpus": os.cpu_count(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
