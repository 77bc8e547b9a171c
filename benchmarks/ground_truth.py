"""Ground truth for rankers: architectures trained on real data, once; kept in benchmarks/data.

    RAYSTILL_DATA=... OMP_NUM_THREADS=1 python benchmarks/ground_truth.py [--levels mnist,cifar,cells] [--seeds 0,1,2]

Seeds go round all levels, so that an early look has whole seeds. Each network's row is on disk when it is done; the
same command goes on after a kill. Levels and protocols: raystill.search.truth, docs/search.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from raystill.search import truth

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/ground_truth.py --levels mnist,cifar,cells --seeds 0,1,2"
HERE = Path(__file__).parent / "data"


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default="mnist,cifar,cells")
    parser.add_argument("--seeds", default="0,1,2", help="those that a level has, of these")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()
    for seed in map(int, args.seeds.split(",")):
        for name in args.levels.split(","):
            if seed < truth.level(name).seeds:
                path = args.out / f"truth-{name}.parquet"
                truth.make(name, path, COMMAND, lambda s: print(time.strftime("%H:%M:%S"), s, flush=True), [seed])


if __name__ == "__main__":
    main()
