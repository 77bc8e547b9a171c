"""The one look at test data: the distilled set, the field's baselines and other architectures.

Whatever is tuned (a baseline's rates, the choice among random sets) is tuned on validation data; test items come last.
The list of baselines is that of "Dataset Distillation" (Wang et al. 2018, 1811.10959, section 4): random real,
optimised real, k-means, average real, and nearest neighbours on the distilled and on real sets.
"""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from raystill.platform.data import DataSet
from raystill.platform.evaluation import dd_ranking
from raystill.platform.evaluation.protocol import (
    FULL_RATE,
    FULL_STEPS,
    ROUNDS,
    TUNING_NETWORKS,
    Evaluators,
    Handle,
    LabelOptions,
    NearestOptions,
    Rates,
    RealSetOptions,
    TrainFullOptions,
    TrainNetworkOptions,
    UntrainedOptions,
)
from raystill.platform.evaluation.summary import best_share
from raystill.platform.evaluation.table import Table
from raystill.platform.spec import DistillSpec, LearnerSpec

BASELINES = {"real": "random real", "average": "class averages", "kmeans": "k-means centroids"}
"""Baselines of `synthesis.selection` that stand in the table, and their titles."""
ATTACKED = ", labelled as the attack wants them"
TEST = TrainNetworkOptions("test")

Tell = Callable[[str], None]


def assess(
    spec: DistillSpec,
    data: DataSet,
    evaluators: Evaluators,
    distilled: Mapping[str, np.ndarray],
    coded: np.ndarray | None,
    attacked: bool,
    tell: Tell,
) -> dict[str, Any]:
    """The assessment of a distilled set, as it is written to `assessment.json`.

    Args:
        spec: what it was distilled with, with the `assess` section that is wanted.
        distilled: `x` [S, M, ...], `y` [S, M] or [S, M, K], `order` [T], and learned rates [T].
        coded: `x` as `assess.bits` bits store it; None leaves that row out.
        attacked: whether the outer objective relabels classes.
        tell: called with a word about each part as it begins.
    """
    began = time.monotonic()
    table = Table(spec, len(data.classes), evaluators)
    own = evaluators.put(distilled)
    networks = 1 if table.single else spec.assess.networks
    over = table.networks(networks)
    tell("distilled set on the test split")
    table.row("distilled", "distilled", table.measures("train_network", TEST, "distilled", networks, own), over)
    if coded is not None:
        tell(f"distilled images in {spec.assess.bits} bits")
        values = table.measures("train_network", TEST, "bits", networks, evaluators.put({**distilled, "x": coded}))
        name = f"distilled, images in {spec.assess.bits} bits"
        table.row(name, "reference", values, over, "as `raystill export` stores them")
    if spec.initialisation.path is not None:
        tell("networks as they start")
        values = table.measures("untrained", UntrainedOptions("test"), "untrained", networks, None)
        table.row("no training", "reference", values, over, "the pre-trained networks as they are", same_budget=False,
                  images=0, inner_steps=0)  # fmt: skip
    if spec.assess.baselines:
        _baselines(table, attacked, tell)
        if not attacked:  # nearest neighbours, or all of the data, say nothing of an attack
            _neighbours(table, own, tell)
            _robustness(table, own, len(data.train), tell)
    for name in spec.assess.architectures:
        tell(f"{name} trained on the distilled set")
        options = replace(TEST, learner=LearnerSpec(name=name))
        count = spec.assess.cross_networks
        accuracies = table.accuracies("train_network", options, f"cross/{name}", count, own)
        note = "other architecture, learned rates"
        table.row(name, "architecture", accuracies, f"{count} fresh networks", note, learner=name)
    return {
        "split": "test", "test_images": len(data.test), "validation_images": len(data.validation), "rows": table.rows,
        "seeds": {"run": spec.run.seed, "assess": spec.assess.seed, "split": spec.data.split_seed},
        "seconds": time.monotonic() - began, "cpu_seconds": table.cpu_seconds,
    }  # fmt: skip


def _baselines(table: Table, attacked: bool, tell: Tell) -> None:
    """Networks trained on real images, or on averages of them, as many as the distilled set has."""
    count, suffix = table.spec.assess.networks, ATTACKED if attacked else ""
    networks = "one network" if table.single else "a network each"
    kinds = [(RealSetOptions(name), title + suffix) for name, title in BASELINES.items()]
    if attacked:
        kinds.append((RealSetOptions("real", victims=True), f"random real of the attacked class alone{suffix}"))
    for options, title in kinds:
        tell(f"baseline: {title}")
        # averages and centroids hardly depend on the draw: a few sets are enough, shared by the networks
        sets = table.sets(options, count if options.name == "real" else TUNING_NETWORKS)
        stream = options.name + "/victims" * options.victims
        rates = table.tuned(stream, sets)
        inputs = [sets[n % len(sets)] for n in range(count)]
        values = table.measures("train_network", replace(TEST, rates=rates), stream, count, inputs)
        table.row(title, "baseline", values, f"{len(sets)} draws, {networks}", f"{rates} by validation")
        if options.name == "real" and not options.victims:
            _optimised(table, rates, suffix, tell)


def _optimised(table: Table, rates: Rates, suffix: str, tell: Tell) -> None:
    """The best 20 % of many random sets, chosen by validation accuracy."""
    spec = table.spec
    tell(f"baseline: best 20 % of {spec.assess.candidates} random sets")
    sets = table.sets(RealSetOptions("real"), spec.assess.candidates)
    options = TrainNetworkOptions("validation", spec.validation.images, rates)
    best = [sets[n] for n in best_share(table.accuracies("train_network", options, "optimise", len(sets), sets))]
    inputs = [best[n % len(best)] for n in range(spec.assess.networks)]
    values = table.measures("train_network", replace(TEST, rates=rates), "optimised", len(inputs), inputs)
    over = f"best {len(best)} of {len(sets)} sets, by validation"
    table.row(f"optimised real{suffix}", "baseline", values, over, f"{rates} by validation")


def _neighbours(table: Table, own: Handle, tell: Tell) -> None:
    """Nearest neighbours among as many real images, and among the distilled ones."""
    count = table.spec.assess.networks
    random = table.sets(RealSetOptions("real"), count)
    norms: tuple[Literal[1, 2], ...] = (1, 2)
    for k, norm in itertools.product([k for k in (1, 3) if k <= table.budget], norms):  # two texts have no third
        tell(f"baseline: {k}-NN, l{norm}")
        options, title = NearestOptions(k, norm, "test"), f"{k}-NN (l{norm})"
        real = table.accuracies("nearest", options, "nn/real", count, random)
        table.row(f"{title} on random real", "baseline", real, f"{count} draws", learner="", inner_steps=0)
        distilled = table.accuracies("nearest", options, "nn/own", 1, own)
        note = "another use of the same images"
        table.row(f"{title} on the distilled images", "reference", distilled, "one set", note, learner="",
                  inner_steps=0)  # fmt: skip


def _robustness(table: Table, own: Handle, images: int, tell: Tell) -> None:
    """DD-Ranking's scores (2505.13300), a few rounds of fresh networks and fresh random sets.

    Args:
        images: in the training split.
    """
    tell("full training data, and DD-Ranking's scores")
    evaluators = table.evaluators
    epochs = max(3, -(-FULL_STEPS * 64 // images))
    full = table.items("train_full", TrainFullOptions(epochs, FULL_RATE, "test"), "full", ROUNDS, None)
    accuracies = {"full_hard": [100 * answer.numbers["accuracy"] for answer in full]}
    table.row(
        "all training data", "reference", accuracies["full_hard"], f"{ROUNDS} networks", f"{epochs} epochs of SGD",
        same_budget=False, images=images, inner_steps=epochs * -(-images // 64),
    )  # fmt: skip
    random = table.sets(RealSetOptions("real"), ROUNDS)
    if table.spec.synthesizer.labels == "soft":
        pairs = zip(random, full)
        merged = [evaluators.put({**evaluators.fetch(s), **evaluators.fetch(f.arrays)}) for s, f in pairs]
        random = [answer.arrays for answer in table.items("label", LabelOptions(), "label", ROUNDS, merged)]
    rates = table.tuned("robust", random)
    for name, kind in dd_ranking.TRAININGS.items():
        if kind.data == "full":
            continue
        options = replace(TEST, augment=kind.augment == "always", hard=kind.labels == "hard")
        if kind.data == "distilled":
            inputs = own
        else:
            inputs, options = random, replace(options, rates=rates)
        accuracies[name] = table.accuracies("train_network", options, f"robust/{name}", ROUNDS, inputs)
    rounds = [{name: values[n] for name, values in accuracies.items()} for n in range(ROUNDS)]
    for title, score, note in (
        ("label-robust score (LRS)", dd_ranking.label_robust_score,
         "26.9: no better than random, and all recovered"),
        ("augmentation-robust score (ARS)", dd_ranking.augmentation_robust_score, "26.9: no better than random"),
    ):  # fmt: skip
        names = [name for name in inspect.signature(score).parameters if name in accuracies]
        values = [score(**{name: one[name] for name in names}) for one in rounds]
        table.row(title, "robustness", values, f"{ROUNDS} rounds", note)
