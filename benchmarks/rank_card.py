"""Rank cards of the ground truths in benchmarks/data, with the curricula that are given.

    RAYSTILL_DATA=... python benchmarks/rank_card.py --json [--levels mnist,cifar,cells] [--mnist RUN[,RUN...]]
        [--cifar RUN[,RUN...]] [--cells RUN[,RUN...]] [--mnist-untrained RUN] [--mnist-also NAME=RUN ...]
        [--mnist-meta-seconds S] [--workers N] [--equal-seconds] [--pictures FOLDER]

RUN is a run's folder or an artefact. One JSON line on standard output, a key for each level; a card whose ground truth
is noise has `speaks` false and no rankers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from raystill.platform.spec import RunSpec
from raystill.search.card import page
from raystill.search.card.inputs import TABLES
from raystill.search.card.run import rank_card
from raystill.search.card.spec import CardSpec
from raystill.search.ranking import ground_truth

LEVELS = ("mnist", "cifar", "cells")


def main() -> None:
    """Print the cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default=",".join(LEVELS))
    parser.add_argument("--workers", type=int, default=0, help="evaluators; 0 computes in this process")
    parser.add_argument("--truth", type=Path, default=TABLES, help="folder of the ground truths")
    parser.add_argument("--json", action="store_true", help="one JSON line on standard output, nothing else")
    for level in (*LEVELS, "digits"):
        parser.add_argument(f"--{level}", default="", help="curricula, comma between them; the first is compared")
        parser.add_argument(f"--{level}-untrained")
        parser.add_argument(f"--{level}-also", nargs="*", default=[], metavar="NAME=RUN", help="a row under a name")
        parser.add_argument(f"--{level}-meta-seconds", type=float)
    parser.add_argument("--equal-seconds", action="store_true", help="also real data for as many CPU seconds")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each card")
    args = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as temporary, contextlib.redirect_stdout(sys.stderr):
        for level in args.levels.split(","):
            spec = CardSpec(
                level=level, truth=args.truth / f"truth-{level}.parquet",
                curriculum=tuple(filter(None, getattr(args, level).split(","))),
                untrained=getattr(args, f"{level}_untrained"), meta_seconds=getattr(args, f"{level}_meta_seconds"),
                also=tuple(getattr(args, f"{level}_also")),
                equal_seconds=args.equal_seconds,
                run=RunSpec(workers=args.workers, out=Path(temporary)),
            )  # fmt: skip
            found[level], scores, _ = rank_card(spec, print)
            if args.pictures and scores is not None:
                figure = page.figure(found[level], scores, ground_truth.load(args.truth / f"truth-{level}.parquet"))
                figure.savefig(args.pictures / f"rank-card-{level}.png", dpi=110)
    print(json.dumps(found) if args.json else json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
