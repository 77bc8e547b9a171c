"""The rank card: how well rankers order architectures whose ground truth is known, with intervals and costs.

The protocol is that of docs/guides/search.md. A card whose ground truth is noise, or disagrees with its own validation
accuracy, says so and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from raystill.search.ranking import statistics
from raystill.search.ranking.ground_truth import GroundTruth

REGRETS = (1, 3, 5)
STATISTICS: dict[str, statistics.Statistic] = {
    "tau": statistics.kendall, "top_half": statistics.top_half, "precision_10": statistics.precision,
    **{f"regret_{k}": partial(statistics.regret, many=k) for k in REGRETS},
}  # fmt: skip
"""Other statistics that have an interval by the same resamples."""
COMPARED = {
    "gtn": "gtn_minus", "gtn longer": "longer_minus", "gtn + cheap": "combined_minus",
    "gtn longer + cheap": "combined_longer_minus",
}  # fmt: skip
"""Rankers whose difference of rho to every other has an interval, and its key in the card."""


def compare(
    truth: GroundTruth, scores: Mapping[str, np.ndarray], seconds: Mapping[str, float],
    meta_seconds: float | None = None, resamples: int = statistics.RESAMPLES,
) -> dict[str, Any]:  # fmt: skip
    """The card of a ground truth, JSON-able.

    Args:
        scores: name of a ranker -> its scores [N], larger is better.
        seconds: name of a ranker -> CPU seconds of all scores together.
        meta_seconds: CPU seconds of the curriculum's training; where None, the costs that need them are None too.
        resamples: of the bootstrap.
    """
    ceiling, agreement = statistics.noise_ceiling(truth.test), statistics.agreement(truth.validation, truth.test)
    whole = truth.test[statistics.shared(truth.test)]
    card: dict[str, Any] = {
        "architectures": len(truth.archs), "seeds": truth.test.shape[1],
        "networks": int(np.isfinite(truth.test).sum()), "architectures_with_all_seeds": len(whole),
        "noise_ceiling": _plain(ceiling), "rho_val_test": _plain(agreement), "test_lowest": float(truth.mean.min()),
        "test_highest": float(truth.mean.max()), "test_median": float(np.median(truth.mean)),
        "seed_std": _plain(whole.std(1, ddof=1).mean()) if truth.test.shape[1] > 1 else None,
    }  # fmt: skip
    if not (ceiling >= statistics.LEAST and agreement >= statistics.LEAST):
        why = f"noise ceiling {ceiling:.2f}, rho(validation, test) {agreement:.2f}; both must be {statistics.LEAST}+"
        return {**card, "speaks": False, "why": why}
    names, target = list(scores), truth.mean
    resampled = statistics.bootstrap([scores[n] for n in names], target, resamples=resamples)
    others = {
        key: statistics.bootstrap([scores[n] for n in names], target, statistic, resamples)
        for key, statistic in STATISTICS.items()
    }
    train = np.nanmean(truth.seconds, 1)
    card["time_to_best_random"] = statistics.time_to_best(None, target, 0.0, train)
    card["rankers"] = {
        name: {
            "rho": _plain(statistics.spearman(scores[name], target)),
            "rho_interval": [_plain(v) for v in statistics.interval(resampled[:, i].tolist())],
            "intervals": {
                key: [_plain(v) for v in statistics.interval(values[:, i].tolist())] for key, values in others.items()
            },
            "tau": _plain(statistics.kendall(scores[name], target)),
            "top_half": _plain(statistics.top_half(scores[name], target)),
            "precision_10": statistics.precision(scores[name], target),
            "regret": {str(k): statistics.regret(scores[name], target, k) for k in REGRETS},
            "cpu_seconds": seconds[name],
            "scores": [float(f"{v:.6g}") for v in scores[name]],
            "time_to_best": statistics.time_to_best(scores[name], target, seconds[name], train),
        }
        for i, name in enumerate(names)
    }
    for name, key in COMPARED.items():
        if name in scores:
            card[key] = _minus(resampled, names, name)
    if "gtn" in scores:
        best = card["rankers"]["gtn"]["time_to_best"]
        card["time_to_best_gtn"] = {
            "without_meta": best,
            "with_meta": None if meta_seconds is None else best + meta_seconds,
            "amortised_over_10": None if meta_seconds is None else best + meta_seconds / 10,
        }  # fmt: skip
        if "untrained" in names:
            card["gtn_minus_untrained_low"] = card["gtn_minus"]["untrained"][0]
    return {**card, "speaks": True}


def _minus(resampled: np.ndarray, names: Sequence[str], name: str) -> dict[str, list[float | None]]:
    """The interval of the difference of rho between one ranker and each other, on the same resamples."""
    mine = resampled[:, names.index(name)]
    return {
        other: [_plain(v) for v in statistics.interval((mine - resampled[:, i]).tolist())]
        for i, other in enumerate(names) if other != name
    }  # fmt: skip


def _plain(value: float) -> float | None:
    """JSON has no nan."""
    return float(value) if np.isfinite(value) else None


def break_even(meta_seconds: float, gtn_seconds: float, real_seconds: float) -> float | None:
    """The number N of scores from which meta-training pays: N (c_real - c_gtn) > C_meta; None where it never does.

    Args:
        meta_seconds: C_meta, CPU seconds of meta-training.
        gtn_seconds: c_gtn, of one score by the curriculum.
        real_seconds: c_real, of one score by real data.
    """
    return meta_seconds / (real_seconds - gtn_seconds) if real_seconds > gtn_seconds else None
