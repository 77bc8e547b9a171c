"""The table of an assessment: its rows, and the items that they are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from raystill.platform.evaluation.protocol import (
    MOMENTA,
    RATES,
    TUNING_NETWORKS,
    Answer,
    Evaluators,
    Handle,
    Rates,
    RealSetOptions,
    TrainNetworkOptions,
)
from raystill.platform.evaluation.summary import Summary, summary
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec


class Table:
    """Collects rows; every number in them names its split, its spread and what it is spread over.

    Attributes:
        budget: images in the distilled set, over all steps.
        single: whether the run's learner has one fixed start.
        rows: as they are written to `assessment.json`.
        cpu_seconds: of all items together.
    """

    def __init__(self, spec: DistillSpec, classes: int, evaluators: Evaluators) -> None:
        self.spec, self.evaluators = spec, evaluators
        self.single = spec.initialisation.single
        part = spec.synthesizer
        self.budget = part.steps * (part.images or part.per_class * classes)
        self.rows: list[dict[str, Any]] = []
        self.cpu_seconds = 0.0
        self._nothing = evaluators.put({"none": np.zeros(1, np.float32)})

    def items(self, kind: str, options: Any, stream: str, count: int, inputs: Handle | list[Handle]) -> list[Answer]:
        """`count` items whose addresses differ in the member alone, and their answers in order.

        Networks are drawn from the stream `assess` for every row, so rows are compared on the same networks.

        Args:
            stream: name of the items, that tells rows apart.
            inputs: of all items, or of each; None for kinds that need none.
        """
        handles = inputs if isinstance(inputs, list) else [self._nothing if inputs is None else inputs] * count
        base = Address(self.spec.assess.seed, stream="assess")
        answers = self.evaluators.run(kind, options, stream, [(base.at(member=n), h) for n, h in enumerate(handles)])
        self.cpu_seconds += sum(answer.cpu_seconds for answer in answers)
        return answers

    def measures(self, kind: str, options: Any, stream: str, count: int, inputs: Any) -> list[dict[str, float]]:
        """Compute `count` items, and take their numbers as percentages.

        Args:
            kind: of the items, a name in `work.kinds.KINDS`.
            options: settings of that kind.
            stream, count, inputs: as for `items`.

        Returns:
            For each item `accuracy`, and what an attack is measured by beside it, in percent.
        """
        answers = self.items(kind, options, stream, count, inputs)
        return [{k: 100 * v for k, v in answer.numbers.items()} for answer in answers]

    def accuracies(self, kind: str, options: Any, stream: str, count: int, inputs: Any) -> list[float]:
        """Compute `count` items, and take their accuracies.

        Args:
            kind, options, stream, count, inputs: as for `measures`.

        Returns:
            The accuracy of each item, in percent.
        """
        return [numbers["accuracy"] for numbers in self.measures(kind, options, stream, count, inputs)]

    def sets(self, options: RealSetOptions, count: int) -> list[Handle]:
        """`count` draws of a baseline's set; k-means and averages are drawn by other seeds."""
        stream = f"set/{options.name}" + "/victims" * options.victims
        return [answer.arrays for answer in self.items("real_set", options, stream, count, None)]

    def tuned(self, stream: str, sets: list[Handle]) -> Rates:
        """The constant rates with the best mean validation accuracy over a few sets and networks."""
        sets = sets[:TUNING_NETWORKS]
        scores = {}
        for rates in itertools.starmap(Rates, itertools.product(RATES, MOMENTA)):
            options = TrainNetworkOptions("validation", self.spec.validation.images, rates)
            values = self.accuracies("train_network", options, f"tune/{stream}", len(sets), sets)
            scores[rates] = float(np.mean(values))
        return max(scores, key=lambda rates: scores[rates])

    def row(self, name: str, kind: str, values: Sequence[float] | Sequence[dict[str, float]], over: str,
            note: str = "", same_budget: bool = True, images: int | None = None, learner: str | None = None,
            inner_steps: int | None = None) -> Summary:  # fmt: skip
        """Add a row; returns its mean and spread.

        Args:
            kind: `distilled`, `baseline`, `reference`, `architecture` or `robustness`.
            values: percentages, or what `measures` gives.
            over: what the spread is over, in words.
            same_budget: whether it has as many images as the distilled set.
            images, learner, inner_steps: None takes the distilled set's.
        """
        measures = [v if isinstance(v, dict) else {"accuracy": v} for v in values]
        accuracies = [numbers["accuracy"] for numbers in measures]
        accuracy = summary(accuracies)
        others = {k: summary([numbers[k] for numbers in measures]) for k in measures[0] if k != "accuracy"}
        self.rows.append({
            "name": name, "kind": kind, "same_budget": same_budget,
            "images": self.budget if images is None else images,
            "inner_steps": self.spec.unroll if inner_steps is None else inner_steps,
            "accuracy_mean": accuracy.mean, "accuracy_std": accuracy.spread, "n": accuracy.n, "spread_over": over,
            "note": note, "learner": self.spec.learner.name if learner is None else learner,
            "values": [round(v, 4) for v in accuracies],
            "measures": {k: {"mean": s.mean, "std": s.spread} for k, s in others.items()},
        })  # fmt: skip
        return accuracy

    def networks(self, count: int) -> str:
        """What a spread over networks is over, in words."""
        if self.single:
            return "one network: the artefact's own theta0"
        if self.spec.initialisation.path is not None:
            return f"{count} held-out pre-trained networks"
        return f"{count} fresh networks"
