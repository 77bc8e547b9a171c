"""The rank card: how well rankers order architectures whose truth is known, with intervals and costs.

The protocol is that of docs/search.md. A card whose ground truth is noise, or disagrees with its own validation
accuracy, says so and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raystill.actors.messages import Option
from raystill.platform.artifacts import Distilled
from raystill.search import ranks
from raystill.search.scoring import Ranking, Scorer
from raystill.search.space import Arch
from raystill.search.truth import Truth, sample

RATES = (0.01, 0.05, 0.1)
SPARE = 8
CHEAP = ("parameters", "synflow", "naswot")
STEPS, IMAGES = 32, 64
REGRETS = (1, 3, 5)
RUNGS, KEPT = (32, 128, 512), 4
"""Minibatches of the rounds of successive halving on real data, and the share of each, one in so many, that goes on."""
LONGER = 4
"""How many times its own length a generator's curriculum is also made, beside as many steps of real data."""
COMPARED = {
    "gtn": "gtn_minus", "gtn longer": "longer_minus", "gtn + cheap": "combined_minus",
    "gtn longer + cheap": "combined_longer_minus",
}  # fmt: skip
"""Rankers whose difference to every other has an interval, and its key in the card."""


def size(curricula: Sequence[Distilled]) -> tuple[int, int]:
    """Steps, and images of a step, that rankers which train have: the first curriculum's."""
    return (len(curricula[0].order), curricula[0].images.shape[1]) if curricula else (STEPS, IMAGES)


def rankings(
    curricula: Sequence[Distilled], untrained: Distilled | None, also: Mapping[str, Distilled], lr: float,
    networks: int, factor: float | None,
) -> list[Ranking]:  # fmt: skip
    """The rankers of a card.

    Args:
        also: more distilled data to score by, by the name of the row.
        lr: of the baselines on real data.
        networks: of the averaged curriculum.
        factor: how many times the steps real data has at equal CPU seconds, meta-training counted; None leaves it out.
    """
    steps, batch = size(curricula)
    real: dict[str, Option] = {"steps": steps, "batch": batch, "lr": lr, "momentum": 0.9}
    found = [Ranking(f"gtn seed {n}" if n else "gtn", "curriculum", {}, c) for n, c in enumerate(curricula)]
    if curricula:
        found.append(Ranking(f"gtn x{networks}", "curriculum", {"networks": networks}, curricula[0]))
    if curricula and curricula[0].generator:
        found.append(Ranking("gtn longer", "curriculum", {}, curricula[0].longer(LONGER * steps)))
        found.append(Ranking("real longer", "real", {**real, "steps": LONGER * steps}))
    if untrained is not None:
        found.append(Ranking("untrained", "curriculum", {}, untrained))
    found += [
        *(Ranking(name, "curriculum", {}, data) for name, data in also.items()),
        Ranking("real equal steps", "real", real),
        Ranking("real 10 per class", "real", {**real, "per_class": 10}),
        *(Ranking(name, name) for name in ("parameters", "flops", "synflow", "naswot", "grad_norm", "snip")),
    ]
    if factor is not None:
        found.append(Ranking("real equal seconds", "real", {**real, "steps": round(steps * factor)}))
    return found


def tuned_rate(scorer: Scorer, space: str, without: frozenset[str], steps: int, batch: int) -> float:
    """Real data's rate with the best mean validation accuracy over spare architectures: a GTN has learned ones."""
    spare = sample(space, SPARE, "rank/spare", without)
    means = {}
    for lr in RATES:
        options = {"steps": steps, "batch": batch, "lr": lr, "momentum": 0.9}
        means[lr] = float(scorer.scores(Ranking(f"rate {lr}", "real", dict(options)), spare).values.mean())
    return max(means, key=lambda lr: means[lr])


def halved(
    scorer: Scorer, archs: Sequence[Arch], batch: int, lr: float, rungs: Sequence[int] = RUNGS
) -> tuple[np.ndarray, float]:
    """Successive halving on real data (1603.06560 has it): scores [N], and CPU seconds.

    Each round trains what is left afresh, for longer, and keeps the best one in `KEPT`. A score is the number of rounds
    that an architecture came through, and its accuracy in the last one.
    """
    left, seconds, found = np.arange(len(archs)), 0.0, np.zeros(len(archs))
    for done, steps in enumerate(rungs):
        real: dict[str, Option] = {"steps": steps, "batch": batch, "lr": lr, "momentum": 0.9}
        scores = scorer.scores(Ranking(f"rung {steps}", "real", real), [archs[n] for n in left])
        found[left] = done + scores.values
        seconds += float(scores.cpu.sum())
        left = left[ranks.picks(scores.values, max(1, len(left) // KEPT))]
    return found, seconds


def combined(scores: dict[str, np.ndarray], seconds: dict[str, float]) -> None:
    """Add the rank sums: of the cheap proxies, and of these with the first curriculum, or with real data.

    The proxies count as one voice beside the other.
    """
    cheap = [scores[name] for name in CHEAP]
    scores["cheap rank sum"] = ranks.rank_sum(*cheap)
    seconds["cheap rank sum"] = sum(seconds[name] for name in CHEAP)
    for name in ("gtn", "gtn longer", "real equal steps", "real longer"):
        if name in scores:
            together = f"{name} + cheap"
            scores[together] = ranks.two_voices(scores[name], cheap)
            seconds[together] = seconds[name] + seconds["cheap rank sum"]


def card(
    truth: Truth, scores: Mapping[str, np.ndarray], seconds: Mapping[str, float], meta_seconds: float = 0.0,
    resamples: int = ranks.RESAMPLES,
) -> dict[str, Any]:  # fmt: skip
    """The card of a ground truth, as JSON has it.

    Args:
        scores: name of a ranker -> its scores [N].
        seconds: -> CPU seconds that they took, all architectures together.
        meta_seconds: of the curriculum's training.
    """
    ceiling, agreement = ranks.noise_ceiling(truth.test), ranks.agreement(truth.validation, truth.test)
    whole = truth.test[ranks.shared(truth.test)]
    found: dict[str, Any] = {
        "architectures": len(truth.archs), "seeds": truth.test.shape[1],
        "networks": int(np.isfinite(truth.test).sum()), "architectures_with_all_seeds": len(whole),
        "noise_ceiling": _plain(ceiling), "rho_val_test": _plain(agreement), "test_lowest": float(truth.mean.min()),
        "test_highest": float(truth.mean.max()), "test_median": float(np.median(truth.mean)),
        "seed_std": _plain(whole.std(1, ddof=1).mean()) if truth.test.shape[1] > 1 else None,
    }  # fmt: skip
    if not (ceiling >= ranks.LEAST and agreement >= ranks.LEAST):
        why = f"noise ceiling {ceiling:.2f}, rho(validation, test) {agreement:.2f}; both must be {ranks.LEAST} or more"
        return {**found, "speaks": False, "why": why}
    names, target = list(scores), truth.mean
    drawn = ranks.bootstrap([scores[n] for n in names], target, resamples=resamples)
    train = np.nanmean(truth.seconds, 1)
    found["time_to_best_random"] = ranks.time_to_best(None, target, 0.0, train)
    found["rankers"] = {
        name: {
            "rho": _plain(ranks.spearman(scores[name], target)),
            "rho_interval": [_plain(v) for v in ranks.interval(drawn[:, i].tolist())],
            "tau": _plain(ranks.kendall(scores[name], target)),
            "top_half": _plain(ranks.top_half(scores[name], target)),
            "precision_10": ranks.precision(scores[name], target),
            "regret": {str(k): ranks.regret(scores[name], target, k) for k in REGRETS},
            "cpu_seconds": seconds[name],
            "scores": [float(f"{v:.6g}") for v in scores[name]],
            "time_to_best": ranks.time_to_best(scores[name], target, seconds[name], train),
        }
        for i, name in enumerate(names)
    }
    for name, key in COMPARED.items():
        if name in scores:
            found[key] = _minus(drawn, names, name)
    if "gtn" in scores:
        best = found["rankers"]["gtn"]["time_to_best"]
        found["time_to_best_gtn"] = {
            "without_meta": best, "with_meta": best + meta_seconds, "amortised_over_10": best + meta_seconds / 10,
        }  # fmt: skip
        if "untrained" in names:
            found["gtn_minus_untrained_low"] = found["gtn_minus"]["untrained"][0]
    return {**found, "speaks": True}


def _minus(drawn: np.ndarray, names: Sequence[str], name: str) -> dict[str, list[float | None]]:
    """The interval of the difference of rho between one ranker and each other, on the same resamples."""
    mine = drawn[:, names.index(name)]
    return {
        other: [_plain(v) for v in ranks.interval((mine - drawn[:, i]).tolist())]
        for i, other in enumerate(names) if other != name
    }  # fmt: skip


def _plain(value: float) -> float | None:
    """JSON has no nan."""
    return float(value) if np.isfinite(value) else None


def break_even(meta_seconds: float, gtn_seconds: float, real_seconds: float) -> float | None:
    """Architectures from which meta-training pays: N (c_real - c_gtn) > C_meta; None where it never does."""
    return meta_seconds / (real_seconds - gtn_seconds) if real_seconds > gtn_seconds else None
