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

from raystill.actors.drive.crew import Crew, Result
from raystill.actors.messages import Option, WorkItem
from raystill.actors.server.shards import Handle
from raystill.platform import registry, runs
from raystill.platform.artifacts import Distilled
from raystill.platform.artifacts.export import quantised
from raystill.platform.data import DataSet
from raystill.platform.evaluation import dd_ranking
from raystill.platform.evaluation.summary import Summary, best_share, summary
from raystill.platform.files.storage import write_whole
from raystill.platform.objectives import of_outer
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec, LearnerSpec

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOMENTA = (0.0, 0.9)
TUNING_NETWORKS = 3
ROUNDS = 3
FULL_STEPS, FULL_RATE = 2500, 0.01

ATTACKED = ", labelled as the attack wants them"

NAMES = {"real": "random real", "average": "class averages", "kmeans": "k-means centroids"}


class Assessment:
    """Collects the rows of the table; every number in it names its split, its spread and what it is spread over."""

    def __init__(self, spec: DistillSpec, data: DataSet, crew: Crew, plugins: registry.Plugins | None = None) -> None:
        self.spec, self.data, self.crew = spec, data, crew
        self.single = spec.initialisation.single
        self.relabels = of_outer(spec.outer, plugins).facts.relabels
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

    def measures(self, kind: str, stream: str, many: int, inputs: Any, **options: Option) -> list[dict[str, float]]:
        """Percent, for each item what it measured: `accuracy`, and what the objective asks for beside."""
        results = self.items(kind, stream, many, inputs, **options)
        return [{k: 100 * v for k, v in r.outcome.numbers.items()} for r in results]

    def accuracies(self, kind: str, stream: str, many: int, inputs: Any, **options: Option) -> list[float]:
        """Percent, one for each item."""
        return [found["accuracy"] for found in self.measures(kind, stream, many, inputs, **options)]

    def sets(self, name: str, many: int, **options: Option) -> list[Handle]:
        """`many` draws of a baseline's set; k-means and averages are drawn by other seeds."""
        stream = "/".join(("set", name, *options))
        return [r.arrays for r in self.items("real_set", stream, many, None, name=name, **options)]

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

    def row(self, name: str, kind: str, values: Sequence[float] | Sequence[dict[str, float]], over: str,
            note: str = "", same_budget: bool = True, images: int | None = None, learner: str | None = None,
            inner_steps: int | None = None) -> Summary:  # fmt: skip
        """Add a row; returns its mean and spread. Values are percent, or what `measures` gives."""
        told = [v if isinstance(v, dict) else {"accuracy": v} for v in values]
        values = [v["accuracy"] for v in told]
        found = summary(values)
        beside = {k: summary([v[k] for v in told]) for k in told[0] if k != "accuracy"}
        self.rows.append({
            "name": name, "kind": kind, "same_budget": same_budget,
            "images": self.budget if images is None else images,
            "inner_steps": self.spec.unroll if inner_steps is None else inner_steps, "accuracy_mean": found.mean,
            "accuracy_std": 0.0 if found.n == 1 else found.std, "n": found.n, "spread_over": over, "note": note,
            "learner": self.spec.learner.name if learner is None else learner, "values": [round(v, 4) for v in values],
            "measures": {k: {"mean": s.mean, "std": 0.0 if s.n == 1 else s.std} for k, s in beside.items()},
        })  # fmt: skip
        return found

    def networks(self, many: int) -> str:
        """What a spread is over, in words."""
        if self.single:
            return "one network: the artefact's own theta0"
        if self.spec.initialisation.kind == "pool":
            return f"{many} held-out pre-trained networks"
        return f"{many} fresh networks"

    @property
    def budget(self) -> int:
        """Images in the distilled set, over all steps."""
        part = self.spec.synthesizer
        return part.steps * (part.images or part.per_class * len(self.data.classes))


def assess(
    spec: DistillSpec,
    data: DataSet,
    crew: Crew,
    distilled: Distilled,
    tell: Callable[[str], None],
    plugins: registry.Plugins | None = None,
) -> dict[str, Any]:
    """The assessment of a distilled set, as it is written to `assessment.json`.

    Args:
        spec: what it was distilled with, with the `assess` section that is wanted.
        tell: called with a word about each part as it begins.
    """
    began = time.monotonic()
    table = Assessment(spec, data, crew, plugins)
    own = crew.executor.put({"x": distilled.images, "y": distilled.labels, "order": distilled.order, **distilled.rates})
    networks = 1 if table.single else spec.assess.networks
    tell("distilled set on the test split")
    over = table.networks(networks)
    table.row("distilled", "distilled", table.measures("train_network", "distilled", networks, own, split="test"), over)
    if spec.assess.bits is not None:
        tell(f"distilled images in {spec.assess.bits} bits")
        few = quantised(distilled.images, spec.assess.bits).restored()
        stored = crew.executor.put({**crew.executor.server.fetch(own), "x": few})
        found = table.measures("train_network", "bits", networks, stored, split="test")
        table.row(
            f"distilled, images in {spec.assess.bits} bits",
            "reference",
            found,
            over,
            "as `raystill export` stores them",
        )
    if spec.initialisation.path is not None:
        tell("networks as they start")
        found = table.measures("untrained", "untrained", networks, None, split="test")
        table.row("no training", "reference", found, over, "the pre-trained networks as they are", same_budget=False,
                  images=0, inner_steps=0)  # fmt: skip
    if spec.assess.baselines:
        _baselines(table, own, tell)
        if not table.relabels:  # what is nearest, or all of the data, says nothing of an attack
            _neighbours(table, own, tell)
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
    over = f"{many} draws, " + ("one network" if table.single else "a network each")
    wanted = ATTACKED if table.relabels else ""
    rows: list[tuple[str, str, dict[str, Option]]] = [(name, title + wanted, {}) for name, title in NAMES.items()]
    if table.relabels:
        rows.append(("real", f"random real of the attacked class alone{wanted}", {"victims": 1}))
    for name, title, extra in rows:
        tell(f"baseline: {title}")
        # averages and centroids hardly depend on the draw: a few sets are enough, shared by the networks
        sets = table.sets(name, many if name == "real" else TUNING_NETWORKS, **extra)
        stream = "/".join((name, *extra))
        rates = table.tuned(stream, sets)
        spread = [sets[n % len(sets)] for n in range(many)]
        values = table.measures("train_network", stream, many, spread, split="test", **rates)
        note = f"lr {rates['lr']:g}, momentum {rates['momentum']:g} by validation"
        table.row(
            title,
            "baseline",
            values,
            over if name == "real" else over.replace(f"{many} draws", f"{len(sets)} draws"),
            note,
        )
        if name == "real" and not extra:
            _optimised(table, rates, tell)


def _neighbours(table: Assessment, own: Handle, tell: Callable[[str], None]) -> None:
    """Nearest neighbours among as many real images, and among the distilled ones."""
    many = table.spec.assess.networks
    random = table.sets("real", many)
    neighbours = [k for k in (1, 3) if k <= table.budget]  # two sentences have no third neighbour
    for k, norm in itertools.product(neighbours, (1, 2)):
        tell(f"baseline: {k}-NN, l{norm}")
        real = table.accuracies("nearest", "nn/real", many, random, k=k, norm=norm, split="test")
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
    values = table.measures("train_network", "optimised", len(spread), spread, split="test", **rates)
    wanted = ATTACKED if table.relabels else ""
    table.row(f"optimised real{wanted}", "baseline", values, f"best {len(best)} of {len(sets)} sets, by validation",
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
        merged = [
            executor.put({**executor.server.fetch(s), **executor.server.fetch(f.arrays)}) for s, f in zip(random, full)
        ]
        random = [r.arrays for r in table.items("label", "label", ROUNDS, merged)]
    rates = table.tuned("robust", random)
    for name, kind in dd_ranking.TRAININGS.items():
        if kind.data == "full":
            continue
        distilled = kind.data == "distilled"
        extra: dict[str, Option] = {"augment": int(kind.augment == "always"), "hard": int(kind.labels == "hard")}
        accuracies[name] = table.accuracies("train_network", f"robust/{name}", ROUNDS, own if distilled else random,
                                            split="test", **extra, **({} if distilled else rates))  # fmt: skip
    rounds = [{k: v[r] for k, v in accuracies.items()} for r in range(ROUNDS)]

    def score(function: Callable[..., float], *names: str) -> list[float]:
        return [function(**{n: values[n] for n in names}) for values in rounds]

    label = score(dd_ranking.label_robust_score, "full_hard", "syn_hard", "syn_any", "random_any")
    augmentation = score(
        dd_ranking.augmentation_robust_score, "syn_augmented", "random_augmented", "syn_plain", "random_plain"
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
    write_whole(path, json.dumps(found, indent=1).encode())
    return path
