"""The rankings of a card: curricula, proxies, real data for as many steps or seconds, halving, and combinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from raystill.platform.architectures import Arch
from raystill.platform.artifacts import Distilled
from raystill.search.ranking import statistics
from raystill.search.ranking.levels import Protocol, sample
from raystill.search.ranking.rankers import CHEAP, RankerOptions
from raystill.search.ranking.scoring import Ranking, Scorer

RATES = (0.01, 0.05, 0.1)
"""Not 0.2: on CIFAR-10 it has the best mean accuracy after 16 and 64 steps, and ranks by .25 where 0.1 ranks by .42."""
SPARE = 8
STEPS, IMAGES = 32, 64
RUNGS, KEPT = (32, 128, 512), 4
"""Minibatches of each round of successive halving on real data; one in `KEPT` architectures goes on to the next."""
LONGER = 4
"""A generator is also asked for a curriculum so many times its own length, and real data for as many steps."""
HALVED, EQUAL = "real halving", "real equal seconds"
VOICES = ("gtn", "gtn longer", "real equal steps", "real longer")
"""Rankers that are also combined with the cheap proxies."""
OTHERS = frozenset({HALVED, EQUAL, "cheap rank sum", *(f"{name} + cheap" for name in VOICES)})
"""Rows that are made of several rankings."""


def size(curricula: Sequence[Distilled]) -> tuple[int, int]:
    """Steps, and images of a step, of the rankers that train: those of the first curriculum."""
    return (len(curricula[0].order), curricula[0].images.shape[1]) if curricula else (STEPS, IMAGES)


def real(name: str, steps: int, batch: int, lr: float) -> Ranking:
    """A ranking by `steps` minibatches of real data.

    Args:
        name: of the row in the card's table.
        steps: minibatches that each network is trained for.
        batch: images of a minibatch.
        lr: the highest learning rate of the schedule.
    """
    return Ranking(name, "real", RankerOptions(protocol=Protocol(steps, batch, lr)))


def rankings(
    curricula: Sequence[Distilled], untrained: Distilled | None, also: Mapping[str, Distilled],
    rates: tuple[float, float], networks: int,
) -> list[Ranking]:  # fmt: skip
    """The rankers of a card.

    Args:
        also: more distilled data to score by, by the name of the row.
        rates: of the baselines on real data, for as many steps as the curriculum has and for more.
        networks: of the averaged curriculum.
    """
    (steps, batch), (short, long) = size(curricula), rates
    usual = RankerOptions()
    curriculum = [Ranking(f"gtn seed {n}" if n else "gtn", "curriculum", usual, c) for n, c in enumerate(curricula)]
    if curricula:
        curriculum.append(Ranking(f"gtn x{networks}", "curriculum", RankerOptions(networks), curricula[0]))
    if curricula and curricula[0].generator:
        curriculum.append(Ranking("gtn longer", "curriculum", usual, curricula[0].longer(LONGER * steps)))
    if untrained is not None:
        curriculum.append(Ranking("untrained", "curriculum", usual, untrained))
    equal = real("real equal steps", steps, batch, short)
    return [
        *curriculum,
        *(Ranking(name, "curriculum", usual, data) for name, data in also.items()),
        equal,
        real("real longer", LONGER * steps, batch, long),
        Ranking("real 10 per class", "real", replace(equal.options, per_class=10)),
        *(Ranking(name, name) for name in ("parameters", "flops", "synflow", "naswot", "grad_norm", "snip")),
    ]


def affordable(budget: float, seconds: Mapping[str, float], steps: int, many: int) -> int:
    """Minibatches of real data that CPU seconds allow for each of `many` architectures, validation included.

    The costs of a minibatch and of validation follow from the two rows of real data.

    Args:
        budget: CPU seconds of all architectures.
        seconds: CPU seconds of each row.
        steps: minibatches of the shorter row.
    """
    short, long = seconds["real equal steps"] / many, seconds["real longer"] / many
    step = max((long - short) / ((LONGER - 1) * steps), 1e-6)
    validation = max(0.0, short - steps * step)
    return max(steps, round((budget / many - validation) / step))


def tuned_rate(scorer: Scorer, space: str, without: frozenset[str], steps: int, batch: int) -> float:
    """The learning rate of real data with the best mean validation accuracy over spare architectures.

    A curriculum has learned rates; real data gets a tuned one.

    Args:
        without: hashes of the card's architectures, which are not among the spare ones.
    """
    spare = sample(space, SPARE, "rank/spare", without)
    means = {}
    for lr in RATES:
        means[lr] = float(scorer.scores(real(f"rate {lr} of {steps}", steps, batch, lr), spare).values.mean())
    return max(means, key=lambda lr: means[lr])


def halved(
    scorer: Scorer, archs: Sequence[Arch], batch: int, lr: float, rungs: Sequence[int] = RUNGS
) -> tuple[np.ndarray, float]:
    """Successive halving on real data (1603.06560).

    Each round trains the remaining architectures from the start, for longer, and keeps the best one in `KEPT`. A score
    is the number of rounds that an architecture passed, plus its accuracy in the last one.

    Args:
        batch: images of a minibatch.
        lr: the highest learning rate of the schedule, the same in all rounds.
        rungs: minibatches of each round, rising.

    Returns:
        The scores [N], and the CPU seconds of all rounds together.
    """
    left, seconds, values = np.arange(len(archs)), 0.0, np.zeros(len(archs))
    for done, steps in enumerate(rungs):
        scores = scorer.scores(real(f"rung {steps}", steps, batch, lr), [archs[n] for n in left.tolist()])
        values[left] = done + scores.values
        seconds += float(scores.cpu.sum())
        left = left[statistics.picks(scores.values, max(1, len(left) // KEPT))]
    return values, seconds


def combine(scores: dict[str, np.ndarray], seconds: dict[str, float]) -> None:
    """Add the rank sums: of the cheap proxies, and of these with the first curriculum, or with real data.

    The proxies together count as much as the other ranker.
    """
    cheap = [scores[name] for name in CHEAP]
    scores["cheap rank sum"] = statistics.rank_sum(*cheap)
    seconds["cheap rank sum"] = sum(seconds[name] for name in CHEAP)
    for name in VOICES:
        if name in scores:
            together = f"{name} + cheap"
            scores[together] = statistics.two_voices(scores[name], cheap)
            seconds[together] = seconds[name] + seconds["cheap rank sum"]
