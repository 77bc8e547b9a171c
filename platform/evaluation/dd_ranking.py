"""DD-Ranking's scores: what a distilled set is worth once labels and augmentation are taken out of the comparison.

Definitions: Li et al. 2025, "DD-Ranking: Rethinking the Evaluation of Dataset Distillation" (2505.13300), and the
introduction of the documentation of its package `ddranking` (0.2). Nothing here trains: the functions take test
accuracies in percent (0 to 100), and `TRAININGS` says how each is produced.

A score belongs to one round of evaluation: one fresh network for each training, and a fresh random set. Give the
accuracies of a round, then summarise the scores of the rounds; the normalisation is convex, so that a score of mean
accuracies is another, lower number.

The package tunes each learning rate (all but that of a method's own training) and picks epochs by test accuracy. Here
test data is looked at once, so what is tuned is tuned by validation, and scores may lie a little below the package's.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple


class Training(NamedTuple):
    """How one accuracy comes about: a fresh network trained so, then tested on all real test images.

    Attributes:
        data: all of the real training split; the distilled images; or as many random real images per class.
        labels: hard, the class of each image (of a soft-labelled distilled image: its row's largest entry); or own,
            those of the method. A method with hard labels has own = hard. Learned soft labels belong to their images,
            so under such a method random images get the softmax of a teacher trained on the full split.
        augment: none; own, whatever the method itself uses when its data is used (possibly none); or always, one
            augmentation of the field (DSA, CutMix, MixUp), the same for both sets.
    """

    data: Literal["full", "distilled", "random"]
    labels: Literal["hard", "own"]
    augment: Literal["none", "own", "always"]


TRAININGS: dict[str, Training] = {
    "full_hard": Training("full", "hard", "none"),
    "syn_hard": Training("distilled", "hard", "none"),
    "syn_any": Training("distilled", "own", "own"),
    "random_any": Training("random", "own", "own"),
    "syn_augmented": Training("distilled", "own", "always"),
    "random_augmented": Training("random", "own", "always"),
    "syn_plain": Training("distilled", "own", "none"),
    "random_plain": Training("random", "own", "none"),
}
"""The accuracies that the functions below take, by argument name. Equal trainings need to be run once only: of a
method without augmentation, `any` is `plain`."""


def _checked(**accuracies: float) -> None:
    for name, value in accuracies.items():
        if not 0.0 <= value <= 100.0:
            raise ValueError(f"{name} is {value}; accuracies are percentages, 0 to 100")


def _normalised(points: float) -> float:
    """100 (e^a - e^-1) / (e - e^-1) for a = points / 100: -100 gives 0, 0 gives 26.9, 100 gives 100."""
    return 100.0 * (math.exp(points / 100.0) - math.exp(-1.0)) / (math.e - math.exp(-1.0))


def _weighted(weight: float, first: float, second: float) -> float:
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight is {weight}; it must lie between 0 and 1")
    return weight * first + (1.0 - weight) * second


def hard_label_recovery(full_hard: float, syn_hard: float) -> float:
    """HLR = acc(full, hard labels) - acc(distilled, hard labels), in percentage points; lower is better."""
    _checked(full_hard=full_hard, syn_hard=syn_hard)
    return full_hard - syn_hard


def improvement_over_random(syn_any: float, random_any: float) -> float:
    """IOR = acc(distilled) - acc(random real), both used as the method uses its data; points, higher is better."""
    _checked(syn_any=syn_any, random_any=random_any)
    return syn_any - random_any


def label_robust_score(
    full_hard: float, syn_hard: float, syn_any: float, random_any: float, weight: float = 0.5
) -> float:
    """LRS: a = w IOR - (1 - w) HLR, with differences of accuracies as fractions, normalised to 0..100 percent.

    A set no better than random (IOR 0) that recovers all of the real data (HLR 0) scores 26.9.

    Args:
        full_hard, syn_hard, syn_any, random_any: accuracies of one round, percent, from the `TRAININGS` of that name.
        weight: w of IOR; the leaderboard's is 0.5.

    Raises:
        ValueError: an accuracy outside 0..100 or not a number, or a weight outside 0..1.
    """
    recovery = hard_label_recovery(full_hard, syn_hard)
    return _normalised(_weighted(weight, improvement_over_random(syn_any, random_any), -recovery))


def augmentation_robust_score(
    syn_augmented: float, random_augmented: float, syn_plain: float, random_plain: float, weight: float = 0.5
) -> float:
    """ARS: b = w (improvement over random with augmentation) + (1 - w) (without), normalised as LRS is.

    A set no better than random, with and without augmentation, scores 26.9.

    Args:
        syn_augmented, random_augmented, syn_plain, random_plain: accuracies of one round, percent, from the
            `TRAININGS` of that name; the same augmentation for both sets.
        weight: gamma of the paper, the share of the augmented difference; 0.5 there.

    Raises:
        ValueError: an accuracy outside 0..100 or not a number, or a weight outside 0..1.
    """
    _checked(syn_augmented=syn_augmented, random_augmented=random_augmented)
    _checked(syn_plain=syn_plain, random_plain=random_plain)
    return _normalised(_weighted(weight, syn_augmented - random_augmented, syn_plain - random_plain))
