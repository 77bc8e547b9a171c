"""The one look at test data: the distilled set, the field's baselines and other architectures, as work items.

Whatever is tuned (a baseline's rates, the choice among random sets) is tuned on validation data; test items come last.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.crew import Crew, Result
from raystill.actors.executors import Handle
from raystill.actors.messages import Option, WorkItem
from raystill.platform import robustness, runs
from raystill.platform.artifacts import Distilled
from raystill.platform.baselines import Summary, best_share, summary
from raystill.platform.data import DataSet
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec, LearnerSpec
from raystill.platform.storage import write_whole

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOMENTA = (0.0, 0.9)
TUNING_NETWORKS = 3
ROUNDS = 3
FULL_STEPS, FULL_RATE = 2500, 0.01

NAMES = {"real": "random real", "average": "class averages", "kmeans": "k-means centroids"}


class Assessment:
    """Collects the rows of the table; every number in it names its split, its spread and what it is spread over."""

    def __init__(self, spec: DistillSpec, data: DataSet, crew: Crew) -> None:
        self.spec, self.data, self.crew = spec, data, crew
        self.fixed = spec.initialisation.kind == "fixed"
        self.rows: list[dict[str, Any]] = []
        self.cpu_seconds = 0.0
        self._none = crew.executor.put({"none": np.zeros(1, np.float32)})

    def items(
        self, kind: str, stream: str, many: int, inputs: Handle | Sequence[Handle] | None, **options: Option
    ) -> list[Result]:
        """`many` items whose addresses differ in the member alone, and their results in order.

        Networks are drawn from the stream `assess` for every row, so rows are compared on the same networks.
        """
        handles = inputs if isinstance(inputs, list) else [self._none if inputs is None else inputs] * many
        base = Address(self.spec.assess.seed, stream="assess")
        named = tuple(sorted(options.items()))
        tried = [
            self.crew.add(WorkItem(kind, base.at(member=n), 0, f"{stream}/{n}", named), handle)
            for n, handle in enumerate(handles)
        ]
        results = self.crew.wait(tried)
        self.cpu_seconds += sum(r.outcome.cpu_seconds for r in results)
        return results

    def accuracies(self, kind: str, stream: str, many: int, inputs: Any, **options: Option) -> list[float]:
        """Percent, one for each item."""
        return [100 * r.outcome.numbers["accuracy"] for r in self.items(kind, stream, many, inputs, **options)]

    def sets(self, name: str, many: int) -> list[Handle]:
        """`many` draws of a baseline's set; k-means and averages are drawn by other seeds."""
        return [r.arrays for r in self.items("real_set", f"set/{name}", many, None, name=name)]

    def tuned(self, stream: str, sets: list[Handle]) -> dict[str, Option]:
        """The constant rate and momentum with the best mean validation accuracy over a few sets and networks."""
        sets = sets[:TUNING_NETWORKS]
        limit = self.spec.validation.images
        scores = {}
        for lr, momentum in itertools.product(RATES, MOMENTA):
            values = self.accuracies("train_network", f"tune/{stream}", len(sets), sets, lr=lr, momentum=momentum,
                                     split="validation", limit=limit)  # fmt: skip
            scores[lr, momentum] = float(np.mean(values))
        lr, momentum = max(scores, key=lambda key: scores[key])
        return {"lr": lr, "momentum": momentum}

    def row(self, name: str, kind: str, values: Sequence[float], over: str, note: str = "", same_budget: bool = True,
            images: int | None = None, learner: str | None = None,
            inner_steps: int | None = None) -> Summary:  # fmt: skip
        """Add a row; returns its mean and spread."""
        found = summary(values)
        self.rows.append({
            "name": name, "kind": kind, "same_budget": same_budget, "images": images or self.budget,
            "inner_steps": self.spec.unroll if inner_steps is None else inner_steps, "accuracy_mean": found.mean,
            "accuracy_std": 0.0 if found.n == 1 else found.std, "n": found.n, "spread_over": over, "note": note,
            "learner": self.spec.learner.name if learner is None else learner, "values": [round(v, 4) for v in values],
        })  # fmt: skip
        return found

    @property
    def budget(self) -> int:
        """Images in the distilled set, over all steps."""
        part = self.spec.synthesizer
        return part.steps * (part.images or part.per_class * len(self.data.classes))


def assess(
    spec: DistillSpec, data: DataSet, crew: Crew, distilled: Distilled, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The assessment of a distilled set, as it is written to `assessment.json`.

    Args:
        spec: what it was distilled with, with the `assess` section that is wanted.
        tell: called with a word about each part as it begins.
    """
    began = time.monotonic()
    table = Assessment(spec, data, crew)
    own = crew.executor.put({"x": distilled.images, "y": distilled.labels, "order": distilled.order, **distilled.rates})
    networks = 1 if table.fixed else spec.assess.networks
    tell("distilled set on the test split")
    over = "one network: the artefact's own theta0" if table.fixed else f"{networks} fresh networks"
    table.row(
        "distilled", "distilled", table.accuracies("train_network", "distilled", networks, own, split="test"), over
    )
    if spec.assess.baselines:
        _baselines(table, own, tell)
        _robustness(table, own, tell)
    for name in spec.assess.architectures:
        tell(f"{name} trained on the distilled set")
        learner = LearnerSpec(name=name)
        values = table.accuracies("train_network", f"cross/{name}", spec.assess.cross_networks, own, split="test",
                                  learner=learner.model_dump_json())  # fmt: skip
        table.row(
            name,
            "architecture",
            values,
            f"{len(values)} fresh networks",
            "other architecture, learned rates",
            learner=name,
        )
    return {
        "split": "test", "test_images": len(data.test), "validation_images": len(data.validation), "rows": table.rows,
        "seeds": {"run": spec.run.seed, "assess": spec.assess.seed, "split": spec.data.split_seed},
        "seconds": time.monotonic() - began, "cpu_seconds": table.cpu_seconds,
    }  # fmt: skip


def _baselines(table: Assessment, own: Handle, tell: Callable[[str], None]) -> None:
    spec = table.spec
    many = spec.assess.networks
    over = f"{many} draws, " + ("one network" if table.fixed else "a fresh network each")
    found: dict[str, list[Handle]] = {}
    for name, title in NAMES.items():
        tell(f"baseline: {title}")
        # averages and centroids hardly depend on the draw: a few sets are enough, shared by the networks
        sets = table.sets(name, many if name == "real" else TUNING_NETWORKS)
        found[name] = sets
        rates = table.tuned(name, sets)
        spread = [sets[n % len(sets)] for n in range(many)]
        values = table.accuracies("train_network", name, many, spread, split="test", **rates)
        note = f"lr {rates['lr']:g}, momentum {rates['momentum']:g} by validation"
        table.row(
            title,
            "baseline",
            values,
            over if name == "real" else over.replace(f"{many} draws", f"{len(sets)} draws"),
            note,
        )
        if name == "real":
            _optimised(table, rates, tell)
    neighbours = [k for k in (1, 3) if k <= table.budget]  # two sentences have no third neighbour
    for k, norm in itertools.product(neighbours, (1, 2)):
        tell(f"baseline: {k}-NN, l{norm}")
        real = table.accuracies("nearest", "nn/real", many, found["real"], k=k, norm=norm, split="test")
        table.row(f"{k}-NN (l{norm}) on random real", "baseline", real, f"{many} draws", learner="", inner_steps=0)
        distilled = table.accuracies("nearest", "nn/own", 1, own, k=k, norm=norm, split="test")
        name, note = f"{k}-NN (l{norm}) on the distilled images", "another use of the same images"
        table.row(name, "reference", distilled, "one set", note, learner="", inner_steps=0)


def _optimised(table: Assessment, rates: dict[str, Option], tell: Callable[[str], None]) -> None:
    """The best 20 % of many random sets, chosen by validation accuracy."""
    spec = table.spec
    tell(f"baseline: best 20 % of {spec.assess.candidates} random sets")
    sets = table.sets("real", spec.assess.candidates)
    scores = table.accuracies(
        "train_network", "optimise", len(sets), sets, split="validation", limit=spec.validation.images, **rates
    )
    best = [sets[n] for n in best_share(scores)]
    spread = [best[n % len(best)] for n in range(spec.assess.networks)]
    values = table.accuracies("train_network", "optimised", len(spread), spread, split="test", **rates)
    table.row("optimised real", "baseline", values, f"best {len(best)} of {len(sets)} sets, by validation",
              f"lr {rates['lr']:g}, momentum {rates['momentum']:g} by validation")  # fmt: skip


def _robustness(table: Assessment, own: Handle, tell: Callable[[str], None]) -> None:
    """DD-Ranking's scores (2505.13300), a few rounds of fresh networks and fresh random sets."""
    tell("full training data, and DD-Ranking's scores")
    executor = table.crew.executor
    epochs = max(3, -(-FULL_STEPS * 64 // len(table.data.train)))
    full = table.items("train_full", "full", ROUNDS, None, epochs=epochs, lr=FULL_RATE, split="test")
    accuracies = {"full_hard": [100 * r.outcome.numbers["accuracy"] for r in full]}
    count = len(table.data.train)
    table.row(
        "all training data", "reference", accuracies["full_hard"], f"{ROUNDS} networks", f"{epochs} epochs of SGD",
        same_budget=False, images=count, inner_steps=epochs * -(-count // 64),
    )  # fmt: skip
    random = table.sets("real", ROUNDS)
    if table.spec.synthesizer.labels == "soft":
        merged = [executor.put({**executor.fetch(s), **executor.fetch(f.arrays)}) for s, f in zip(random, full)]
        random = [r.arrays for r in table.items("label", "label", ROUNDS, merged)]
    rates = table.tuned("robust", random)
    for name, kind in robustness.TRAININGS.items():
        if kind.data == "full":
            continue
        distilled = kind.data == "distilled"
        extra: dict[str, Option] = {"augment": int(kind.augment == "always"), "hard": int(kind.labels == "hard")}
        accuracies[name] = table.accuracies("train_network", f"robust/{name}", ROUNDS, own if distilled else random,
                                            split="test", **extra, **({} if distilled else rates))  # fmt: skip
    rounds = [{k: v[r] for k, v in accuracies.items()} for r in range(ROUNDS)]

    def score(function: Callable[..., float], *names: str) -> list[float]:
        return [function(**{n: values[n] for n in names}) for values in rounds]

    label = score(robustness.label_robust_score, "full_hard", "syn_hard", "syn_any", "random_any")
    augmentation = score(
        robustness.augmentation_robust_score, "syn_augmented", "random_augmented", "syn_plain", "random_plain"
    )
    table.row(
        "label-robust score (LRS)",
        "robustness",
        label,
        f"{ROUNDS} rounds",
        "26.9: no better than random, and all recovered",
    )
    table.row(
        "augmentation-robust score (ARS)", "robustness", augmentation, f"{ROUNDS} rounds", "26.9: no better than random"
    )


def over_seeds(folder: Path, found: dict[str, Any]) -> None:
    """Add the spread over distillation seeds, where runs of the same spec and other seeds lie beside this one.

    Two spreads are two columns: over networks on one distilled set, and over the sets that other run seeds gave.
    """

    def question(run: Path) -> tuple[dict[str, Any], int]:
        spec = runs.load(run).dump()
        seed = spec["run"].pop("seed")
        aside = {"run": {"cpu_seconds": spec["run"]["cpu_seconds"]}, "assess": None, "tracking": None}
        return {**spec, **aside}, seed

    own, seed = question(folder)
    means = {seed: found["rows"][0]["accuracy_mean"]}
    for path in sorted(folder.parent.glob("*/assessment.json")):
        try:
            other, seed = question(path.parent)
            rows = json.loads(path.read_text())["rows"]
        except (ValueError, KeyError, OSError):  # a neighbour of another version, or half written, says nothing
            continue
        if other == own and rows and rows[0].get("kind") == "distilled":
            means.setdefault(seed, rows[0]["accuracy_mean"])
    if len(means) > 1:
        spread = summary(list(means.values()))
        found["rows"][0]["distillation_seeds"] = {"n": spread.n, "mean": spread.mean, "std": spread.std}


def write(folder: Path, found: dict[str, Any]) -> Path:
    """`assessment.json` of a run."""
    over_seeds(folder, found)
    path = folder / "assessment.json"
    write_whole(path, lambda stream: stream.write(json.dumps(found, indent=1).encode()))
    return path
