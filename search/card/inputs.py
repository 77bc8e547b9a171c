"""What a card is made from: the ground truth's file, curricula, and which architectures these were trained with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from raystill.platform.architectures import base, parse
from raystill.platform.artifacts import Distilled
from raystill.search.card import rankings
from raystill.search.card.spec import CardSpec
from raystill.search.ranking import evaluators, ground_truth

TABLES = Path(__file__).resolve().parents[2] / "benchmarks" / "data"
"""Ground truths of a checkout; an installed wheel has none, and needs `truth`."""


class Curricula(NamedTuple):
    """Distilled data to score by.

    Attributes:
        compared: the first is compared with every other row.
        untrained: of the untrained generator.
        also: more, by the names of their rows.
    """

    compared: list[Distilled]
    untrained: Distilled | None
    also: dict[str, Distilled]

    @property
    def first(self) -> Distilled | None:
        """The one that evaluators are planned for."""
        return (*self.compared, self.untrained)[0]

    def trained(self) -> dict[str, Distilled]:
        """Those that were meta-trained, by the names of their rows."""
        return {**{f"gtn seed {n}" if n else "gtn": data for n, data in enumerate(self.compared)}, **self.also}


def load_truth(spec: CardSpec) -> ground_truth.GroundTruth:
    """The ground truth of a card.

    Raises:
        ValueError: no such file, or it is incomplete.
    """
    path = spec.truth or TABLES / f"truth-{spec.level}.parquet"
    if not path.is_file():
        raise ValueError(f"truth: no file {path}; give --truth FILE, or make it: benchmarks/ground_truth.py")
    return ground_truth.load(path)


def load_curricula(spec: CardSpec) -> Curricula:
    """The curricula that a card names.

    Raises:
        ValueError: one is not there, or a name is no name for a row.
    """
    compared = [evaluators.curriculum(c) for c in spec.curriculum]
    untrained = evaluators.curriculum(spec.untrained) if spec.untrained else None
    also = {name: evaluators.curriculum(where) for name, where in named(spec.also).items()}
    rows = {row.name for row in rankings.rankings(compared, untrained, {}, (1.0, 1.0), spec.networks)}
    if taken := (rows | rankings.OTHERS) & set(also):
        raise ValueError(f"also: {', '.join(sorted(taken))}: a row of every card; give yours a name of its own")
    return Curricula(compared, untrained, also)


def named(pairs: Sequence[str]) -> dict[str, str]:
    """NAME=RUN, by name.

    Raises:
        ValueError: one has another form, or a name is there twice.
    """
    runs: dict[str, str] = {}
    for pair in pairs:
        name, equals, where = pair.partition("=")
        if not (name and equals and where):
            raise ValueError(f"also: {pair!r} is not NAME=RUN, as in one-network=runs/gtn-mnist-14-2")
        if name in runs:
            raise ValueError(f"also: {name!r} is given twice; rows need names of their own")
        runs[name] = where
    return runs


def held_out(data: Distilled, keys: set[str], space: str) -> bool | None:
    """Whether meta-training left a card's architectures out; None where the manifest does not say.

    Args:
        keys: hashes of the architectures.
        space: theirs, without its scale.
    """
    learner = data.manifest.get("spec", {}).get("learner")
    if learner is None:
        return None
    if base(learner.get("draw", "none")) == space:
        return keys <= set(learner.get("exclude", ()))
    try:
        return parse(learner["name"]).key not in keys
    except (KeyError, ValueError):  # a network of no space
        return True
