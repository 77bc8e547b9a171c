"""The tables of the seeds again: the paper's number, the reference's, and ours, from stored results or by running it.

    python benchmarks/reproduce.py                       # which tables there are
    python benchmarks/reproduce.py --table 1             # from benchmarks/results/
    python benchmarks/reproduce.py --table 4 --run       # what is not stored is run first; --again runs all of it
    python benchmarks/reproduce.py --write docs/results/tables.md  # the tables of the page, from benchmarks/results/
    python benchmarks/reproduce.py --keep RUN --as NAME  # take finished runs' figures among the stored results

A run that was stopped goes on where it was (`--out`, default runs/reproduce). Pools that a recipe starts from must be
there first: each recipe's first line has the command (`raystill recipes NAME`).
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from raystill.actors.record import history
from raystill.platform import runs
from raystill.platform.report.provenance import from_recipe

HERE = Path(__file__).parent
RESULTS = HERE / "results"


class Cell(NamedTuple):
    """One experiment of a table.

    Attributes:
        name: of the stored result.
        words: what it is.
        paper, reference: as 1811.10959, 1910.02551 and their public code report it; empty where they do not.
        argv: of time_to_accuracy.py, or of `raystill distill` where baselines belong to it.
        baselines: whether the whole assessment is kept.
    """

    name: str
    words: str
    paper: str
    reference: str
    argv: str
    baselines: bool = False


TABLES: dict[int, tuple[str, list[Cell]]] = {
    1: (
        "Dataset distillation, hard labels (seeds 001 and 004, the paper's table 1)",
        [
            Cell("mnist-fixed-10", "MNIST, 10 images, fixed start", "93.76", "94",
                 "--seeds 0,1,2 --recipe mnist-fixed-10"),
            Cell("mnist-fixed-100", "MNIST, 100 images, fixed start", "96.6", "",
                 "--seeds 0,1,2 --recipe mnist-fixed-100"),
            Cell("mnist-random-100", "MNIST, 100 images, random starts", "79.5 +- 8.1", "78.0 +- 3.7 at 239 CPU s",
                 "--seeds 0,1 --recipe mnist-random-100"),
            Cell("mnist-random-100-at-240", "the same, cut at 240 CPU s", "", "78.0 +- 3.7 at 239 CPU s",
                 "--seeds 0,1,2 --recipe mnist-random-100 --cpu-seconds 240 --outer.members 1 --outer.delay 0 "
                 "--outer.steps 1850 --outer.rate_lr 0.007"),
            Cell("cifar10-fixed-100", "CIFAR-10 (a JPEG copy), 100 images, fixed start", "54.0", "54",
                 "--recipe cifar10-fixed-100", True),
            Cell("cifar10-random-100", "CIFAR-10 (a JPEG copy), 100 images, random starts", "36.8 +- 1.2", "",
                 "--recipe cifar10-random-100", True),
        ],
    ),
    2: (
        "Soft labels (seed 004, 1910.02551)",
        [
            Cell("mnist-soft-fixed-10", "MNIST, 10 images, fixed start", "96.13", "82.2 at 200 CPU s",
                 "--seeds 0 --recipe mnist-soft-fixed-10"),
            Cell("mnist-soft-fixed-5", "MNIST, 5 images, fixed start", "92", "",
                 "--seeds 0 --recipe mnist-soft-fixed-5"),
            Cell("mnist-soft-random-100-at-240", "MNIST, 100 images, random starts, cut at 240 CPU s",
                 "82.7 +- 2.8 (from memory)", "", "--seeds 0 --recipe mnist-soft-random-100 --cpu-seconds 240 "
                 "--outer.steps 1000 --validation.every 50"),
            Cell("mnist-soft-random-10", "MNIST, 10 images, random starts", "", "",
                 "--seeds 0 --recipe mnist-soft-random-10"),
            Cell("mnist-soft-random-5", "MNIST, 5 images, random starts", "", "",
                 "--seeds 0 --recipe mnist-soft-random-5"),
            Cell("mnist-labels-random-100", "MNIST, 100 real images, labels alone, random starts", "", "",
                 "--seeds 0 --recipe mnist-labels-random-100"),
            Cell("mnist-labels-fixed-10", "MNIST, 10 real images, labels alone, fixed start", "", "",
                 "--seeds 0 --recipe mnist-labels-fixed-10"),
        ],
    ),
    3: (
        "Adaptation between domains (seed 004, figure 1b)",
        [
            Cell("adapt-digits-mnist", "scikit-learn's digits to MNIST, 100 images", "", "",
                 "--recipe adapt-digits-mnist", True),
            Cell("adapt-mnist-digits", "MNIST to scikit-learn's digits, 100 images", "", "",
                 "--recipe adapt-mnist-digits", True),
            Cell("adapt-mnist-usps", "MNIST to USPS, 100 images", "95.4 +- 1.8 (from memory)", "",
                 "--recipe adapt-mnist-usps", True),
            Cell("adapt-usps-mnist", "USPS to MNIST, 100 images", "92.7 +- 1.4 (from memory)", "",
                 "--recipe adapt-usps-mnist", True),
        ],
    ),
    4: (
        "Poisoning in one gradient step (seeds 001 and 004, figure 1c)",
        [
            Cell("poison-mnist", "sevens taken for ones, networks that the attacker has not seen", "", "",
                 "--recipe poison-mnist", True),
            Cell("poison-mnist-fixed", "the same, one known network", "", "", "--recipe poison-mnist-fixed", True),
        ],
    ),
    5: (
        "Texts (seed 004; vectors made here, the reference's are GloVe's; its IMDB figures compare a logit with 0.5)",
        [
            Cell("text-trec-fixed", "TREC, 6 sentences, fixed start", "", "87.4", "--recipe text-trec-fixed", True),
            Cell("text-trec-random", "TREC, 6 sentences, random starts", "", "62.0 +- 8.8",
                 "--recipe text-trec-random", True),
            Cell("text-imdb-fixed", "IMDB, 2 sentences, fixed start", "", "78.3", "--recipe text-imdb-fixed", True),
            Cell("text-imdb-random", "IMDB, 2 sentences, random starts", "", "69.6 +- 5.5",
                 "--recipe text-imdb-random", True),
            Cell("text-imdb-random-20", "IMDB, 20 sentences, random starts", "", "74.3 +- 3.0; README 80",
                 "--recipe text-imdb-random-20", True),
        ],
    ),
}  # fmt: skip


def stored(name: str) -> dict[str, Any] | None:
    """A result that lies in benchmarks/results/."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def keep(folders: list[Path], name: str) -> dict[str, Any]:
    """Finished runs' figures, one for each seed, with the command that makes them again, among the stored results.

    Baselines are the first run's.
    """
    found = [json.loads((run / "assessment.json").read_text()) for run in folders]
    again = from_recipe(runs.load(folders[0]).dump()) or "raystill distill --config spec.yaml"
    also = ", ".join(str(one["seeds"]["run"]) for one in found[1:])
    result = {
        "command": again.replace(f"{Path.cwd()}/", "") + (f"  # and --run.seed {also}" if also else ""),
        "seeds": [{
            "seed": one["seeds"]["run"], "test_accuracy": (own := one["rows"][0])["accuracy_mean"],
            "test_std": own["accuracy_std"], "networks": own["n"], "cpu_seconds": history.cpu_seconds(run),
            "outer_steps": history.rows(run)[-1]["step"],
        } for run, one in zip(folders, found)],
        "mean": sum(one["rows"][0]["accuracy_mean"] for one in found) / len(found),
        "rows": [{k: v for k, v in row.items() if k != "values"} for row in found[0]["rows"]],
    }  # fmt: skip
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1))
    return result


def carry_out(cell: Cell, out: Path) -> dict[str, Any]:
    """Run a cell, or go on with it, and store what it found."""
    folder = out / cell.name
    if cell.baselines:
        if (folder / "spec.yaml").is_file():
            words = ["resume", str(folder)]
        else:
            words = ["distill", *shlex.split(cell.argv), "--run.out", str(out), "--run.name", cell.name]
        subprocess.run([sys.executable, "-m", "raystill.platform.cli", *words], check=True, stdout=sys.stderr)
        return keep([folder], cell.name)
    words = [str(HERE / "time_to_accuracy.py"), *shlex.split(cell.argv), "--out", str(folder), "--json"]
    said = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True).stdout
    told = json.loads(said)
    result = {"command": f"python benchmarks/time_to_accuracy.py {cell.argv} --json", "seeds": told["seeds"],
              "mean": told["test_accuracy"]}  # fmt: skip
    (RESULTS / f"{cell.name}.json").write_text(json.dumps(result, indent=1))
    return result


def written(page: str) -> str:
    """A page with what stands between `<!-- table N -->` and `<!-- end of table N -->` made again."""
    for number, (_, cells) in TABLES.items():
        begin, end = f"<!-- table {number} -->", f"<!-- end of table {number} -->"
        before, found, rest = page.partition(begin)
        if not found:
            continue
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{begin} has no {end}")
        table = lines(number, {cell.name: stored(cell.name) for cell in cells}, whole=False)
        table[0] = "#" + table[0]
        page = "\n".join([before + begin, *table, end + after])
    return page


def _spread(mean: float, std: float, many: int) -> str:
    return f"{mean:.2f}" + (f" +- {std:.2f}" if many > 1 else "")


def lines(number: int, found: dict[str, dict[str, Any] | None], whole: bool = True) -> list[str]:
    """A table as Markdown; what was not measured is said to be so.

    Args:
        found: the stored result of each of its cells.
        whole: with the baselines beside each experiment that has them; else with every command in one block.
    """
    title, cells = TABLES[number]
    out = [f"## Table {number}: {title}", "",
           "| experiment | ours, % | over networks | over seeds | CPU s | paper | reference |",
           "|---|---|---|---|---|---|---|"]  # fmt: skip
    for cell in cells:
        result = found[cell.name]
        beside = f"{cell.paper or '-'} | {cell.reference or '-'} |"
        if result is None:
            out.append(f"| `{cell.name}`: {cell.words} | not measured | | | | {beside}")
            continue
        values = [s["test_accuracy"] for s in result["seeds"]]
        mean = sum(values) / len(values)
        over = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else 0.0
        networks = [s["test_std"] for s in result["seeds"] if s["networks"] > 1]
        seconds = sum(s["cpu_seconds"] for s in result["seeds"]) / len(values)
        out.append(
            f"| `{cell.name}`: {cell.words} | **{mean:.2f}** | "
            f"{f'+- {sum(networks) / len(networks):.2f}' if networks else '-'} | "
            f"{f'+- {over:.2f} ({len(values)} seeds)' if len(values) > 1 else 'one seed'} | {seconds:.0f} | {beside}"
        )
    if not whole:
        commands = [result["command"] for cell in cells if (result := found[cell.name])]
        return [*out, "", "```", *commands, "```"] if commands else out
    for cell in cells:
        if (result := found[cell.name]) and result.get("rows"):
            out += ["", f"`{cell.name}`, test split (`{result['command']}`):", "", *_beside(result["rows"])]
    return out


def _beside(rows: list[dict[str, Any]]) -> list[str]:
    """The whole assessment of one experiment."""
    names = list(dict.fromkeys(name for row in rows for name in row.get("measures", {})))
    heads = [
        "set",
        "as wanted, %" if names else "accuracy, %",
        *(n.replace("_", " ") for n in names),
        "images",
        "spread over",
    ]
    out = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        if row["kind"] == "robustness":
            continue
        told = row.get("measures", {})
        beside = [_spread(told[n]["mean"], told[n]["std"], row["n"]) if n in told else "-" for n in names]
        cells = [row["name"], _spread(row["accuracy_mean"], row["accuracy_std"], row["n"]), *beside, str(row["images"])]
        out.append(f"| {' | '.join(cells)} | {row['spread_over']} |")
    return out


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, choices=sorted(TABLES))
    parser.add_argument("--run", action="store_true", help="run what is not stored")
    parser.add_argument("--again", action="store_true", help="run all of it")
    parser.add_argument("--only", help="one experiment of the table, by its name")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"))
    parser.add_argument("--write", type=Path, metavar="PAGE", help="make a page's tables again from stored results")
    parser.add_argument("--keep", type=Path, metavar="RUN", nargs="+", help="finished runs that differ in their seed")
    parser.add_argument("--as", dest="name", help="name of the result that --keep stores")
    args = parser.parse_args()
    if args.keep:
        names = {cell.name for _, cells in TABLES.values() for cell in cells}
        if args.name not in names:
            parser.error(f"--as: one of {', '.join(sorted(names))}")
        keep(args.keep, args.name)
        return
    if args.write:
        args.write.write_text(written(args.write.read_text()))
        return
    if args.table is None:
        for number, (title, cells) in TABLES.items():
            print(f"{number}  {title}: {', '.join(cell.name for cell in cells)}")
        return
    cells = [c for c in TABLES[args.table][1] if args.only in (None, c.name)]
    found = {cell.name: stored(cell.name) for _, all_cells in [TABLES[args.table]] for cell in all_cells}
    for cell in cells:
        if args.again or (args.run and found[cell.name] is None):
            found[cell.name] = carry_out(cell, args.out)
    print("\n".join(lines(args.table, found)))


if __name__ == "__main__":
    main()
