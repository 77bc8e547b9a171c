"""Ground truth for rankers: architectures trained on real data, once; kept in benchmarks/data.

    RAYSTILL_DATA=... OMP_NUM_THREADS=1 python benchmarks/ground_truth.py [--levels mnist,cifar,cells] [--seeds 0,1,2]

To try another protocol: --space cell@c8n3, --many 24, --steps N and --rate R change the levels; give --out then.

Seeds go round all levels, so that an early look has whole seeds. Each network's row is on disk when it is done; the
same command goes on after a kill. Levels and protocols: raystill.search.ranking.levels, docs/guides/search.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from pathlib import Path

from raystill.search.ranking import ground_truth, levels

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/ground_truth.py --levels mnist,cifar,cells --seeds 0,1,2"
HERE = Path(__file__).parent / "data"


def changed(at: levels.Level, args: argparse.Namespace) -> levels.Level:
    """A level with what the command line changes of it."""
    way = at.protocol
    way = dataclasses.replace(way, steps=args.steps or way.steps, lr=args.rate or way.lr)
    return dataclasses.replace(at, space=args.space or at.space, count=args.many or at.count, protocol=way)


def tell(line: str) -> None:
    """Print a line of progress with the time of day."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default="mnist,cifar,cells")
    parser.add_argument("--seeds", default="0,1,2", help="those that a level has, of these")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--space", help="another space, or scale of it")
    parser.add_argument("--many", type=int, help="another number of architectures, the first of them")
    parser.add_argument("--steps", type=int, help="another number of minibatches")
    parser.add_argument("--rate", type=float, help="another first rate")
    args = parser.parse_args()
    if (args.space or args.many or args.steps or args.rate) and args.out == HERE:
        parser.error("--out: another protocol needs a folder of its own")
    for seed in map(int, args.seeds.split(",")):
        for name in args.levels.split(","):
            at = changed(levels.level(name), args)
            if seed < at.seeds:
                command = COMMAND if at == levels.level(name) else f"python {shlex.join(sys.argv)}"
                path = args.out / f"truth-{name}.parquet"
                ground_truth.train_missing(name, path, command, tell, [seed], at)


if __name__ == "__main__":
    main()
