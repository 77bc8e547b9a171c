"""How well scores rank architectures: correlations, precision, regret, and intervals by the paired bootstrap.

Scores and truth are [N], larger is better. scipy is the tests' oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from raystill.platform.seeds import Address, numpy_rng

Statistic = Callable[[np.ndarray, np.ndarray], float]
RESAMPLES = 2000
LEAST = 0.9
"""Below this a ground truth says too little to judge rankers by."""


def ranked(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties by their mean."""
    values = np.asarray(values, float)
    order = np.argsort(values, kind="stable")
    _, place, counts = np.unique(values[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = np.empty(len(values))
    ranks[order] = (ends - (counts - 1) / 2)[place]
    return ranks


def spearman(scores: np.ndarray, truth: np.ndarray) -> float:
    """Pearson's correlation of the ranks; nan where all scores, or all truths, are the same."""
    a, b = ranked(scores), ranked(truth)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else float("nan")


def kendall(scores: np.ndarray, truth: np.ndarray) -> float:
    """Kendall's tau-b: (concordant - discordant) / sqrt(pairs untied in one x pairs untied in the other)."""
    i, j = np.triu_indices(len(scores), 1)
    a, b = (np.sign(v[i] - v[j]) for v in (np.asarray(scores, float), np.asarray(truth, float)))
    scale = np.sqrt(np.count_nonzero(a) * float(np.count_nonzero(b)))
    return float(a @ b / scale) if scale > 0 else float("nan")


def top_half(scores: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's rho among the better half by truth: hopeless architectures flatter the whole."""
    best = np.argsort(-truth, kind="stable")[: max(2, len(truth) // 2)]
    return spearman(scores[best], truth[best])


def picks(scores: np.ndarray, many: int) -> np.ndarray:
    """The `many` best by score; ties in an order that knows nothing of the truth."""
    lots = numpy_rng(Address(0, stream="rank/ties")).permutation(len(scores))
    return np.lexsort((lots, -np.asarray(scores, float)))[:many]


def precision(scores: np.ndarray, truth: np.ndarray, share: float = 0.1) -> float:
    """Share of the best tenth by score that is in the best tenth by truth."""
    many = max(1, round(share * len(truth)))
    best = set(np.argsort(-truth, kind="stable")[:many].tolist())
    return len(best & set(picks(scores, many).tolist())) / many


def regret(scores: np.ndarray, truth: np.ndarray, many: int = 1) -> float:
    """What the best of the first `many` picks lacks of the best there is, in the truth's unit."""
    return float(truth.max() - truth[picks(scores, many)].max())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of resampled values."""
    known = np.asarray([v for v in values if np.isfinite(v)])
    return tuple(np.percentile(known, [2.5, 97.5]).tolist()) if len(known) else (float("nan"), float("nan"))


def bootstrap(
    scores: Sequence[np.ndarray], truth: np.ndarray, statistic: Statistic = spearman, resamples: int = RESAMPLES
) -> np.ndarray:
    """A statistic of several rankers [R] on the same resamples of architectures: [resamples, R].

    Columns are paired: the interval of a difference is the interval of the columns' differences.
    """
    rng = numpy_rng(Address(0, stream="rank/bootstrap"))
    found = np.empty((resamples, len(scores)))
    for n in range(resamples):
        rows = rng.integers(0, len(truth), len(truth))
        found[n] = [statistic(s[rows], truth[rows]) for s in scores]
    return found


def shared(*tables: np.ndarray) -> np.ndarray:
    """Rows of tables[N, S] in which no network is missing, [N] of bool."""
    return np.asarray(np.all([np.isfinite(table).all(1) for table in tables], 0))


def noise_ceiling(test: np.ndarray) -> float:
    """How well one seed ranks the mean of the others, test[N, S]: the mean over seeds; nan where there is one seed.

    Architectures that lack a seed (nan) are left out.
    """
    test = test[shared(test)]
    seeds = test.shape[1]
    if seeds < 2 or not len(test):
        return float("nan")
    others = [np.delete(test, s, 1).mean(1) for s in range(seeds)]
    return float(np.mean([spearman(test[:, s], others[s]) for s in range(seeds)]))


def agreement(validation: np.ndarray, test: np.ndarray) -> float:
    """rho(validation, test) of the same networks [N, S], the mean over seeds, each over the networks that it has."""
    known = [np.isfinite(test[:, s]) for s in range(test.shape[1])]
    return float(np.mean([spearman(validation[k, s], test[k, s]) for s, k in enumerate(known)]))


def rank_sum(*columns: np.ndarray) -> np.ndarray:
    """The sum of the ranks that several rankers give."""
    return np.asarray(sum(map(ranked, columns)))


def two_voices(first: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """The rank sum of one ranker and of several others, which have one voice together."""
    return rank_sum(first, rank_sum(*others))


def time_to_best(
    scores: np.ndarray | None, truth: np.ndarray, score_seconds: float, train_seconds: np.ndarray, within: float = 1.0,
    before: float = 0.0, orders: int = 500,
) -> float:  # fmt: skip
    """Mean CPU seconds until a trained network's truth is within `within` points of the best, over random orders.

    Args:
        scores: architectures are trained from the best score down, once all are scored; None trains them as they come.
        score_seconds: of scoring all of them.
        train_seconds: of the full training of each [N].
        before: spent before the search, as meta-training is.
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
