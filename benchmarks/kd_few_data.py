"""Students of few images: KD, FitNet, activation boundaries and the Wasserstein ball, as seed 003's tables.

    RAYSTILL_DATA=... python benchmarks/kd_few_data.py --out rows [--sources mnist,cifar10] [--seeds 0,1,2]
        [--images 50,100,500,1000] [--radii 0.1,0.3,1.0] [--steps 300] [--table]

MNIST stands in for Fashion-MNIST and CIFAR-10 is a JPEG copy: orderings can be compared with the paper's, accuracies
can not. All methods share a source's teacher of a seed (trained on all training images), the student's network, the
images and the steps; the first stages of FitNet and AB take as many on top. The ball's radius is chosen for each cell
on validation data among --radii. One cell appends one JSON row to OUT/rows.jsonl; a stopped benchmark goes on.
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
from raystill.platform.data.resident import resident
from raystill.platform.learners import files
from raystill.platform.objectives import kd, make, regressor, weighted
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec, LearnerSpec
from raystill.platform.students import OptimizerSpec, Some, fit
from raystill.platform.students.stages import accuracy
from raystill.platform.students.teachers import frozen

TEACHER, STUDENT = (LearnerSpec(name="convnet", width=w, depth=2) for w in (32, 16))
T = 4.0
METHODS = ("labels", "kd", "fitnet", "ab", "ball")


class Problem:
    """One source, and its teacher for each seed, trained once and kept."""

    def __init__(self, source: str, out: Path, teacher_steps: int) -> None:
        torch.set_num_threads(1)
        self.source, self.out, self.teacher_steps = source, out, teacher_steps
        self.data = data.load(DataSpec(source=source))
        self.train, self.validation, self.test = (
            resident(part, self.data) for part in (self.data.train, self.data.validation, self.data.test)
        )

    def network(self, spec: LearnerSpec, address: Address) -> nn.Module:
        """Fresh weights from an address."""
        learner = learners.build(spec, self.data.shape, 10)
        return learner.load(learner.init(address))

    def teacher(self, seed: int) -> nn.Module:
        """The teacher of a seed."""
        file = self.out / f"teacher-{self.source}-{seed}.safetensors"
        if file.exists():
            return files.load_network(file)[0]
        address = Address(seed, stream="teacher")
        model = self.network(TEACHER, address)
        fit(model, self.train, make("cross_entropy"), seed=address, steps=self.teacher_steps)
        files.save_network(file, model, TEACHER, self.data.shape, 10)
        return model


def student(problem: Problem, method: str, seed: int, images: int, steps: int, radius: float) -> nn.Module:
    """One student of some images."""
    teacher, y = problem.teacher(seed), problem.data.train.y
    rows = draw(y, images, numpy_rng(Address(seed, stream="transfer")))
    part, address = Some(problem.train, rows), Address(seed, stream="student")
    model = problem.network(STUDENT, address)
    shared: dict[str, Any] = {"seed": address, "steps": steps, "optimizer": OptimizerSpec(lr=0.05)}
    first = {
        "fitnet": ("hint", "regressor", "features.6", 0.01),
        "ab": ("activation_boundary", "connector", "features.5", 0.001),
    }
    if method in first:
        kind, mapping, path, weight = first[method]
        side = problem.data.shape[1] // 2
        module = regressor((16, side, side), (32, side, side), address.at(stream="regressor"))
        stage = make(kind, {"student": path, "teacher": path, mapping: module})
        fit(model, part, weighted(**{kind: (weight, stage)}), teacher=frozen(teacher, [path]), **shared)
    final = {"labels": make("cross_entropy"), "ball": make("wasserstein", {"inner": kd(T), "radius": radius})}
    fit(model, part, final.get(method, kd(T)), teacher=frozen(teacher), **shared)
    return model


def cell(problem: Problem, key: dict[str, Any], radii: list[float]) -> dict[str, Any]:
    """Test accuracy in percent of a method; the ball's radius is that of the best validation accuracy."""
    best: tuple[float, float, nn.Module] | None = None
    for radius in radii if key["method"] == "ball" else [0.0]:
        model = student(problem, key["method"], key["seed"], key["images"], key["steps"], radius)
        score = accuracy(model, problem.validation)
        if best is None or score > best[0]:
            best = (score, radius, model)
    assert best is not None
    taught = accuracy(problem.teacher(key["seed"]), problem.test)
    return {**key, "test": accuracy(best[2], problem.test), "validation": best[0], "radius": best[1], "teacher": taught}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: mean and standard deviation over seeds, and the paper's ordering of the means."""
    heads = f"| source | images | steps | {' | '.join(METHODS)} | ball > ab > kd | seeds |"
    lines = [heads, "|---" * (len(METHODS) + 5) + "|"]
    for kind in dict.fromkeys((row["source"], row["images"], row["steps"]) for row in rows):
        mine = [row for row in rows if (row["source"], row["images"], row["steps"]) == kind]
        found = {m: np.array([r["test"] for r in mine if r["method"] == m]) for m in METHODS}
        cells = [_both(list(v)) if len(v) else "–" for v in found.values()]
        means = [found[m].mean() if len(found[m]) else float("nan") for m in ("ball", "ab", "kd")]
        holds = "–" if np.isnan(means).any() else "yes" if means[0] > means[1] > means[2] else "no"
        lines.append(
            f"| {' | '.join(map(str, kind))} | {' | '.join(cells)} | {holds} | {max(map(len, found.values()))} |"
        )
    return "\n".join(lines)


def _both(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.2f}"


def main() -> None:
    """Compute the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sources", default="mnist,cifar10")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--images", default="50,100,500,1000")
    parser.add_argument("--radii", default="0.1,0.3,1.0")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--teacher-steps", type=int, default=2000)
    parser.add_argument("--table", action="store_true", help="print what there is, compute nothing")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    radii = [float(r) for r in args.radii.split(",")]
    for source in args.sources.split(",") if not args.table else []:
        wanted = [
            {"source": source, "seed": int(seed), "images": int(images), "steps": args.steps, "method": method}
            for seed in args.seeds.split(",") for images in args.images.split(",") for method in METHODS
        ]  # fmt: skip
        missing = [key for key in wanted if not any(key.items() <= row.items() for row in rows)]
        problem = Problem(source, args.out, args.teacher_steps) if missing else None
        for key in missing:
            assert problem is not None
            rows.append(cell(problem, key, radii))
            with file.open("a") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
            print({k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
