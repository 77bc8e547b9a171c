"""Every recipe of `raystill kd` against the same student without its method, in one table.

    RAYSTILL_DATA=... python benchmarks/kd_table.py --out rows [--seeds 0,1,2] [--recipes kd-hinton,kd-takd]
        [--data.source mnist --data.limit 4000 --train.epochs 6 ...]

One cell is one recipe with one seed; it appends one JSON row to OUT/rows.jsonl when it is done, so a stopped table goes
on where it was. Any field of the spec can follow. `--table` prints the rows there are, and computes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from raystill.platform.command_line import options
from raystill.platform.recipes import of
from raystill.platform.students import run
from raystill.platform.students.spec import KdSpec

SMALL = ["--data.source", "mnist", "--data.limit", "4000", "--train.epochs", "6"]


def cell(recipe: str, seed: int, out: Path, changes: list[str]) -> dict[str, Any]:
    """One recipe with one seed: test and validation accuracies of student and baseline, in percent."""
    spec, _ = options.load(KdSpec, "kd", "", ["--recipe", recipe, *changes])
    place = {"seed": seed, "seeds": 1, "out": out, "name": f"{recipe}-{seed}"}
    spec = spec.model_copy(update={
        "run": spec.run.model_copy(update=place), "tracking": spec.tracking.model_copy(update={"enabled": False}),
    })  # fmt: skip
    folder = out / f"{recipe}-{seed}"
    if (folder / "spec.yaml").exists():
        run.resume(folder)
    else:
        run.kd(spec)
    found = json.loads((folder / run.RESULTS).read_text())["rows"]
    seconds = [json.loads(f.read_text())["seconds"] for f in sorted(folder.glob("networks/*/*.json"))]
    rows = {row["kind"]: row for row in found if row["kind"] != "stage"}
    values = {f"{kind}_{split}": row[split][0] for kind, row in rows.items() for split in ("test", "validation")}
    others = {row["name"]: row["test"][0] for row in found if row["kind"] == "stage"}
    return {"recipe": recipe, "seed": seed, **values, "stages": others, "seconds": sum(seconds), "changes": changes}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean and standard deviation over seeds, and the differences of each seed."""
    lines = ["| recipe | student | without it | difference | verdict | seeds |", "|---|---|---|---|---|---|"]
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        mine = [row for row in rows if row["recipe"] == recipe]
        student, other = ([r[f"{kind}_test"] for r in mine] for kind in ("student", "baseline"))
        pairs = [a - b for a, b in zip(student, other)]
        mean, spread = statistics.mean(pairs), _spread(pairs)
        word = "one seed" if len(pairs) < 2 else "tie" if abs(mean) <= spread else "ahead" if mean > 0 else "behind"
        lines.append(
            f"| {recipe} | {_both(student)} | {_both(other)} | {mean:+.2f} ± {spread:.2f} | {word} | {len(pairs)} |"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _both(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {_spread(values):.2f}"


def main() -> None:
    """Compute the cells that are missing, seed by seed, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the rows and the runs")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--recipes", default=",".join(of("kd")))
    parser.add_argument("--table", action="store_true", help="print what there is, compute nothing")
    args, changes = parser.parse_known_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(row["recipe"], row["seed"]) for row in rows}
    for seed in [int(s) for s in args.seeds.split(",")] if not args.table else []:
        for recipe in args.recipes.split(","):
            if (recipe, seed) not in done:
                with contextlib.redirect_stdout(sys.stderr):
                    rows.append(cell(recipe, seed, args.out, [*SMALL, *changes]))
                with file.open("a") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
