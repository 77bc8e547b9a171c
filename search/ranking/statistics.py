"""How well scores rank architectures: correlations, precision, regret, and intervals by the paired bootstrap.

Scores and truth are [N], larger is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from raystill.platform.seeds import Address, numpy_rng

Statistic = Callable[[np.ndarray, np.ndarray], float]
RESAMPLES = 2000
LEAST = 0.9
"""Below this correlation a ground truth is too noisy to compare rankers with."""


def spearman(scores: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's rho; nan where all scores, or all truths, are the same."""
    if np.ptp(scores) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(stats.spearmanr(scores, truth).statistic)


def kendall(scores: np.ndarray, truth: np.ndarray) -> float:
    """Kendall's tau-b; nan where all scores, or all truths, are the same."""
    return float(stats.kendalltau(scores, truth).statistic)


def top_half(scores: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's rho among the better half by truth: hopeless architectures raise rho over all."""
    best = np.argsort(-truth, kind="stable")[: max(2, len(truth) // 2)]
    return spearman(scores[best], truth[best])


def picks(scores: np.ndarray, many: int) -> np.ndarray:
    """Positions of the `many` best by score; ties in a random order, which does not depend on the truth."""
    order = numpy_rng(Address(0, stream="rank/ties")).permutation(len(scores))
    return np.lexsort((order, -np.asarray(scores, float)))[:many]


def precision(scores: np.ndarray, truth: np.ndarray, share: float = 0.1) -> float:
    """Share of the picks, a tenth of all, that are in the best tenth by truth."""
    many = max(1, round(share * len(truth)))
    best = set(np.argsort(-truth, kind="stable")[:many].tolist())
    return len(best & set(picks(scores, many).tolist())) / many


def regret(scores: np.ndarray, truth: np.ndarray, many: int = 1) -> float:
    """Best truth of all less the best truth among the first `many` picks, in the truth's unit."""
    return float(truth.max() - truth[picks(scores, many)].max())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of resampled values; nan where there are none."""
    known = np.asarray([v for v in values if np.isfinite(v)])
    return tuple(np.percentile(known, [2.5, 97.5]).tolist()) if len(known) else (float("nan"), float("nan"))


def bootstrap(
    scores: Sequence[np.ndarray], truth: np.ndarray, statistic: Statistic = spearman, resamples: int = RESAMPLES
) -> np.ndarray:
    """A statistic of several rankers [R] on the same resamples of architectures: [resamples, R].

    Columns are paired: the interval of a difference is the interval of the columns' differences.

    Args:
        scores: of each ranker [N].
        truth: of the same architectures [N].
        statistic: takes the scores and the truth of one resample.
    """
    rng = numpy_rng(Address(0, stream="rank/bootstrap"))
    values = np.empty((resamples, len(scores)))
    for n in range(resamples):
        rows = rng.integers(0, len(truth), len(truth))
        values[n] = [statistic(s[rows], truth[rows]) for s in scores]
    return values


def shared(*tables: np.ndarray) -> np.ndarray:
    """Whether each row of tables [N, S] has all of its networks, [N] of bool."""
    return np.asarray(np.all([np.isfinite(table).all(1) for table in tables], 0))


def noise_ceiling(test: np.ndarray) -> float:
    """Mean over seeds of rho(one seed, mean of the others); nan where there is one seed.

    Args:
        test: accuracies [N, S]; architectures that lack a seed (nan) are left out.
    """
    test = test[shared(test)]
    seeds = test.shape[1]
    if seeds < 2 or not len(test):
        return float("nan")
    others = [np.delete(test, s, 1).mean(1) for s in range(seeds)]
    return float(np.mean([spearman(test[:, s], others[s]) for s in range(seeds)]))


def agreement(validation: np.ndarray, test: np.ndarray) -> float:
    """Mean over seeds of rho(validation, test) of the same networks [N, S], each seed over the networks that it has."""
    known = [np.isfinite(test[:, s]) for s in range(test.shape[1])]
    return float(np.mean([spearman(validation[k, s], test[k, s]) for s, k in enumerate(known)]))


def rank_sum(*columns: np.ndarray) -> np.ndarray:
    """The sum of the ranks that several rankers give."""
    return np.asarray(sum(map(stats.rankdata, columns)))


def two_voices(first: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """The rank sum [N] of one ranker and of several others, which together count as one."""
    return rank_sum(first, rank_sum(*others))


def time_to_best(
    scores: np.ndarray | None, truth: np.ndarray, score_seconds: float, train_seconds: np.ndarray, within: float = 1.0,
    before: float = 0.0, orders: int = 500,
) -> float:  # fmt: skip
    """CPU seconds until a trained network's truth is within `within` points of the best.

    Args:
        scores: architectures are trained from the best score down, once all are scored; None takes the mean over
            `orders` random orders.
        score_seconds: of scoring all of them.
        train_seconds: of the full training of each [N].
        before: CPU seconds before the search, such as those of meta-training.
    """
    good = truth >= truth.max() - within
    if scores is not None:
        order = picks(scores, len(scores))
        last = int(np.flatnonzero(good[order])[0])
        return before + score_seconds + float(train_seconds[order[: last + 1]].sum())
    rng, total = numpy_rng(Address(0, stream="rank/orders")), 0.0
    for _ in range(orders):
        order = rng.permutation(len(truth))
        total += float(train_seconds[order[: int(np.flatnonzero(good[order])[0]) + 1]].sum())
    return before + total / orders
