"""A level's card from nothing but its ground truth and curricula: what `raystill search card` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.session import session
from raystill.platform import runs
from raystill.platform.artifacts import Distilled
from raystill.platform.spec import TrackingSpec
from raystill.search import card as cards
from raystill.search import place, truth
from raystill.search.scoring import Scorer, fitting
from raystill.search.space import Arch
from raystill.search.spec import CardSpec

HALVED = "real halving"
HERE = Path(__file__).parents[1] / "benchmarks" / "data"


def rank_card(spec: CardSpec, tell: Callable[[str], None] = print) -> tuple[dict[str, Any], Any, Path]:
    """The card, the scores by ranker (None where the card does not speak), and the run's folder.

    Raises:
        ValueError: unknown level, no ground truth, other data than its own, or a curriculum that does not fit.
    """
    level = truth.level(spec.level)
    table = truth.truth(spec.truth or HERE / f"truth-{spec.level}.parquet")
    silent = cards.card(table, {}, {}, resamples=100)
    curricula = [place.curriculum(c) for c in spec.curriculum]
    untrained = place.curriculum(spec.untrained) if spec.untrained else None
    also = {name: place.curriculum(where) for name, where in _named(spec.also).items()}
    made = place.planned(
        level.data, spec.run, TrackingSpec(enabled=False), curricula[0] if curricula else untrained,
        spec.curriculum[0] if curricula else str(spec.untrained),
    )  # fmt: skip
    rows = {row.name for row in cards.rankings(curricula, untrained, {}, 1.0, spec.networks, 1.0)} | {HALVED}
    if taken := rows & set(also):
        raise ValueError(f"also: {', '.join(sorted(taken))}: a row of every card; give yours a name of its own")
    for other, where in (*zip(curricula[1:], spec.curriculum[1:]), *zip(also.values(), spec.also)):
        fitting(other, made.data, where)
    if untrained is not None:
        fitting(untrained, made.data, str(spec.untrained))
    if made.data.fingerprint != table.fingerprint:
        raise ValueError(
            f"search.truth: was made from data {table.fingerprint[:12]}, these are {made.data.fingerprint[:12]}"
        )
    folder = runs.create(made.spec, f"card-{spec.level}")
    if not silent["speaks"]:
        return silent, None, folder
    steps, batch = cards.size(curricula)
    began = time.monotonic()
    with session(made, folder) as held:
        scores, seconds, lr = scored(Scorer(held, spec.seed), spec, table.archs, (curricula, untrained, also), tell)
    cards.combined(scores, seconds)
    done = cards.card(table, scores, seconds, spec.meta_seconds or 0.0, spec.resamples)
    done |= {
        "level": spec.level, "lr_real": lr, "steps": steps, "batch": batch, "seed": spec.seed,
        "meta_seconds": spec.meta_seconds, "wall_seconds": time.monotonic() - began,
    }  # fmt: skip
    if "gtn" in seconds and spec.meta_seconds:
        each, truths = seconds["gtn"] / len(table.archs), float(np.nanmean(table.seconds))
        done["break_even_against_full_training"] = cards.break_even(spec.meta_seconds, each, truths)
    return done, scores, folder


def _named(given: Sequence[str]) -> dict[str, str]:
    """NAME=RUN, by name.

    Raises:
        ValueError: one is not of that form, or a name is there twice.
    """
    found: dict[str, str] = {}
    for pair in given:
        name, equals, where = pair.partition("=")
        if not (name and equals and where):
            raise ValueError(f"also: {pair!r} is not NAME=RUN, as in one-network=runs/gtn-mnist-14-2")
        if name in found:
            raise ValueError(f"also: {name!r} is given twice; rows need names of their own")
        found[name] = where
    return found


def scored(
    scorer: Scorer, spec: CardSpec, archs: Sequence[Arch],
    data: tuple[Sequence[Distilled], Distilled | None, Mapping[str, Distilled]], tell: Callable[[str], None],
) -> tuple[dict[str, np.ndarray], dict[str, float], float]:  # fmt: skip
    """By ranker the scores [N] and the CPU seconds that they took together; and real data's rate.

    Args:
        data: curricula, the untrained generator's, and more by their names.
    """
    curricula = data[0]
    keys = frozenset(arch.key for arch in archs)
    lr = cards.tuned_rate(scorer, truth.level(spec.level).space, keys, *cards.size(curricula))
    tell(f"real data's rate by {cards.SPARE} spare architectures: {lr:g}")
    factor, scores, seconds = None, dict[str, np.ndarray](), dict[str, float]()
    for again in (False, True):  # what equal seconds are is known once the curriculum has scored
        for ranking in cards.rankings(*data, lr, spec.networks, factor):
            if ranking.name in scores:
                continue
            found = scorer.scores(ranking, archs)
            scores[ranking.name], seconds[ranking.name] = found.values, float(found.cpu.sum())
            tell(f"{ranking.name}: {found.cpu.sum():.1f} CPU s")
        if again or not spec.equal_seconds or "gtn" not in scores:
            break
        factor = 1 + (spec.meta_seconds or 0.0) / seconds["gtn"]
    scores[HALVED], seconds[HALVED] = cards.halved(scorer, archs, cards.size(curricula)[1], lr)
    tell(f"{HALVED}: {seconds[HALVED]:.1f} CPU s")
    return scores, seconds, lr
