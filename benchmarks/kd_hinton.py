"""Hinton's findings on MNIST: KD against none, the temperature for each width, and a digit never seen.

    RAYSTILL_DATA=... python benchmarks/kd_hinton.py --out rows [--seeds 0,1,2,3,4] [--widths 8,30,128]
        [--temperatures 1,2,4,8,20] [--shares 1.0,0.01] [--table] [--figure FILE]

One cell is one student: it appends a JSON row to OUT/rows.jsonl when it is done, so a stopped benchmark goes on. One
teacher for each seed (two hidden layers of 400 units, images jittered by up to two pixels, as the paper's); students
have two hidden layers of WIDTH. Without KD and with it, a student takes as many steps over the same images. The digit
never seen: no image of a 3 in the transfer set, and the bias of class 3 raised to the value that is best on validation
data, as section 3 does on test data. Test accuracies in percent; nothing is chosen on test data.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from raystill.platform import data, learners
from raystill.platform.data.cut import draw
from raystill.platform.data.resident import Resident, resident
from raystill.platform.learners import files
from raystill.platform.objectives import hinton, make
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec, LearnerSpec
from raystill.platform.students import OptimizerSpec, Some, fit
from raystill.platform.students.augmentations import Context
from raystill.platform.students.augmentations import make as make_augmentation
from raystill.platform.students.stages import accuracy
from raystill.platform.students.teachers import frozen

TEACHER = LearnerSpec(name="mlp", width=400)
LEFT_OUT = 3


class Problem:
    """The data, and a teacher for each seed, trained once and kept."""

    def __init__(self, out: Path, teacher_steps: int) -> None:
        torch.set_num_threads(1)
        self.data = data.load(DataSpec(source="mnist"))
        self.train, self.validation, self.test = (
            resident(part, self.data) for part in (self.data.train, self.data.validation, self.data.test)
        )
        self.out, self.teacher_steps = out, teacher_steps

    def network(self, spec: LearnerSpec, address: Address) -> nn.Module:
        """Fresh weights from an address."""
        learner = learners.build(spec, self.data.shape, 10)
        return learner.load(learner.init(address))

    def teacher(self, seed: int) -> nn.Module:
        """The teacher of a seed."""
        file = self.out / f"teacher-{seed}.safetensors"
        if file.exists():
            return files.load_network(file)[0]
        address = Address(seed, stream="teacher")
        model = self.network(TEACHER, address)
        about = Context(10, self.train.mean, self.train.std, model)
        augmentation = make_augmentation({"shift": {"share": 0.07}}, about)
        fit(model, self.train, make("cross_entropy"), seed=address, steps=self.teacher_steps, augmentation=augmentation,
            batch_size=128, optimizer=OptimizerSpec(lr=0.05))  # fmt: skip
        files.save_network(file, model, TEACHER, self.data.shape, 10)
        return model

    def rows(self, seed: int, share: float, without: int | None) -> np.ndarray:
        """Rows of the transfer set of a seed."""
        y = self.data.train.y
        rows = np.arange(len(y)) if without is None else np.flatnonzero(y != without)
        if share == 1.0:
            return rows
        return rows[draw(y[rows], round(share * len(rows)), numpy_rng(Address(seed, stream="transfer")))]


def cell(problem: Problem, key: dict[str, Any], steps: int) -> dict[str, Any]:
    """One student: width, temperature (0 is none), share of the training images, class left out (-1 is none)."""
    address = Address(key["seed"], stream=f"student {key['width']}")
    student = problem.network(LearnerSpec(name="mlp", width=key["width"]), address)
    without = None if key["without"] < 0 else key["without"]
    part = Some(problem.train, problem.rows(key["seed"], key["share"], without))
    T = key["temperature"]
    objective = make("cross_entropy") if T == 0 else hinton(T, 0.9)
    teacher = frozen(problem.teacher(key["seed"])) if T else None
    done = fit(student, part, objective, seed=address, steps=steps, teacher=teacher, batch_size=128)
    found = {"test": accuracy(student, problem.test), "validation": accuracy(student, problem.validation)}
    if without is not None:
        found |= _left_out(student, problem, without)
    return {**key, **found, "steps": steps, "seconds": done.seconds}


@torch.no_grad()
def _left_out(student: nn.Module, problem: Problem, digit: int) -> dict[str, float]:
    """Accuracy with the digit's bias raised, by what is best on validation data; on all and on the digit alone."""

    def logits(split: Resident) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [split.batch(np.arange(i, min(i + 1000, len(split)))) for i in range(0, len(split), 1000)]
        return torch.cat([student(x) for x, _ in parts]), torch.cat([y for _, y in parts])

    def score(z: torch.Tensor, y: torch.Tensor, bias: float) -> torch.Tensor:
        shift = torch.zeros(10)
        shift[digit] = bias
        return ((z + shift).argmax(1) == y).float()

    held, shown = logits(problem.validation), logits(problem.test)
    best = max((float(b) for b in np.arange(0, 15.1, 0.25)), key=lambda b: score(*held, b).mean().item())
    is_digit = shown[1] == digit
    return {
        "bias": best, "test_with_bias": 100 * score(*shown, best).mean().item(),
        "digit": 100 * score(*shown, 0.0)[is_digit].mean().item(),
        "digit_with_bias": 100 * score(*shown, best)[is_digit].mean().item(),
    }  # fmt: skip


def keys(args: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells, seed by seed."""
    found = []
    for seed in map(int, args.seeds.split(",")):
        for share in map(float, args.shares.split(",")):
            for width in map(int, args.widths.split(",")):
                for T in (0.0, *map(float, args.temperatures.split(","))):
                    found.append({"seed": seed, "share": share, "width": width, "temperature": T, "without": -1})
        for T in (0.0, 8.0):
            found.append({"seed": seed, "share": 1.0, "width": 128, "temperature": T, "without": LEFT_OUT})
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean and standard deviation over seeds."""

    def both(values: list[float]) -> str:
        return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.2f}"

    lines = ["| share | width | T (0: labels alone) | left out | test | n | digit | digit, bias raised |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    names = ("share", "width", "temperature", "without")
    for key in dict.fromkeys(tuple(row[n] for n in names) for row in rows):
        mine = [row for row in rows if tuple(row[n] for n in names) == key]
        digit = [both([r[n] for r in mine]) if n in mine[0] else "–" for n in ("digit", "digit_with_bias")]
        cells = (f"{key[0]:g}", key[1], f"{key[2]:g}", key[3] if key[3] >= 0 else "–", both([r["test"] for r in mine]))
        lines.append("| " + " | ".join(map(str, (*cells, len(mine), *digit))) + " |")
    return "\n".join(lines)


def figure(rows: list[dict[str, Any]], file: Path) -> None:
    """The T curve of each width, a panel for each share; dashed is the same student on labels alone."""
    from matplotlib.figure import Figure

    shares = sorted({row["share"] for row in rows}, reverse=True)
    drawn = Figure(figsize=(5.0 * len(shares), 3.8), layout="constrained")
    for at, share in enumerate(shares):
        ax = drawn.add_subplot(1, len(shares), at + 1)
        mine = [row for row in rows if row["share"] == share and row["without"] < 0]
        for width in sorted({row["width"] for row in mine}):
            found: dict[float, list[float]] = {}
            for row in (r for r in mine if r["width"] == width):
                found.setdefault(row["temperature"], []).append(row["test"])
            ts = sorted(t for t in found if t)
            spread = [statistics.stdev(found[t]) if len(found[t]) > 1 else 0.0 for t in ts]
            line = ax.errorbar(ts, [statistics.mean(found[t]) for t in ts], spread, marker="o", ms=4, capsize=2,
                               label=f"{width} units")  # fmt: skip
            if 0.0 in found:
                ax.axhline(statistics.mean(found[0.0]), ls="--", lw=1, color=line[0].get_color())
        ax.set(xscale="log", title=f"{100 * share:g} % of the images", xlabel="T", ylabel="test accuracy, %")
        ax.set_xticks(ts, [f"{t:g}" for t in ts])
        ax.legend(frameon=False, fontsize=8)
    drawn.savefig(file, dpi=130)


def main() -> None:
    """Compute the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--widths", default="8,30,128")
    parser.add_argument("--temperatures", default="1,2,4,8,20")
    parser.add_argument("--shares", default="1.0,0.01")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--teacher-steps", type=int, default=6000)
    parser.add_argument("--table", action="store_true", help="print what there is, compute nothing")
    parser.add_argument("--figure", type=Path, help="draw what there is into this file")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    missing = [key for key in keys(args) if not any(key.items() <= row.items() for row in rows)]
    if missing and not args.table:
        problem = Problem(args.out, args.teacher_steps)
        for key in missing:
            rows.append(cell(problem, key, args.steps))
            with file.open("a") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
            print({k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    if args.figure:
        figure(rows, args.figure)
    print(table(rows))


if __name__ == "__main__":
    main()
