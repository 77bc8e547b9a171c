"""The scores of a card: every ranking of the same architectures, with the CPU seconds that it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from raystill.platform.architectures import Arch
from raystill.search.card import rankings
from raystill.search.card.inputs import Curricula
from raystill.search.card.spec import CardSpec
from raystill.search.ranking import levels
from raystill.search.ranking.scoring import Ranking, Scorer


def score(
    scorer: Scorer, spec: CardSpec, archs: Sequence[Arch], curricula: Curricula, tell: Callable[[str], None]
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, Any]]:
    """Score the architectures by every ranking of a card.

    Args:
        archs: those of the ground truth [N].
        tell: takes lines of progress.

    Returns:
        By ranker the scores [N], and the CPU seconds that they took together; and steps, batch and rates of real data.
    """
    keys, space = frozenset(arch.key for arch in archs), levels.level(spec.level).space
    steps, batch = rankings.size(curricula.compared)
    short, long = (rankings.tuned_rate(scorer, space, keys, n * steps, batch) for n in (1, rankings.LONGER))
    tell(f"real data's rates by {rankings.SPARE} spare architectures: {short:g}, and {long:g} for more steps")
    scores, seconds = dict[str, np.ndarray](), dict[str, float]()

    def add(ranking: Ranking) -> None:
        own = scorer.scores(ranking, archs)
        scores[ranking.name], seconds[ranking.name] = own.values, float(own.cpu.sum())
        tell(f"{ranking.name}: {own.cpu.sum():.1f} CPU s")

    for ranking in rankings.rankings(*curricula, (short, long), spec.networks):
        add(ranking)
    facts: dict[str, Any] = {"lr_real": short, "lr_real_longer": long, "steps": steps, "batch": batch}
    if spec.equal_seconds and "gtn" in scores:
        budget = seconds["gtn"] + (spec.meta_seconds or 0.0)
        many = rankings.affordable(budget, seconds, steps, len(archs))
        rate = rankings.tuned_rate(scorer, space, keys, many, batch)
        facts |= {"steps_at_equal_seconds": many, "lr_at_equal_seconds": rate}
        add(rankings.real(rankings.EQUAL, many, batch, rate))
    scores[rankings.HALVED], seconds[rankings.HALVED] = rankings.halved(scorer, archs, batch, long)
    tell(f"{rankings.HALVED}: {seconds[rankings.HALVED]:.1f} CPU s")
    return scores, seconds, facts
