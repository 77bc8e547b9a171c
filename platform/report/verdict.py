"""The result of a distillation in words, and the rule for ahead and behind."""

from __future__ import annotations

from typing import NamedTuple

from raystill.platform.report.run_folder import Assessment, Measurement, Run
from raystill.platform.report.words import plural


class Margin(NamedTuple):
    """How the distilled data stands against one row: points ahead, the two spreads together, and a word on it."""

    points: float
    spread: float
    word: str


def percent(row: Measurement) -> str:
    """`94.2 ± 0.3 %`; one network has no spread, and a robustness score no unit."""
    spread = f" ± {row.accuracy_std:.1f}" if row.n > 1 else ""
    return f"{row.accuracy_mean:.1f}{spread}{'' if row.kind == 'robustness' else ' %'}"


def margin(distilled: Measurement, other: Measurement) -> Margin:
    """The distilled data against another row; ahead or behind only by more than both spreads together."""
    points, spread = distilled.accuracy_mean - other.accuracy_mean, distilled.accuracy_std + other.accuracy_std
    return Margin(points, spread, "within" if abs(points) <= spread else "ahead" if points > 0 else "behind")


def against_baselines(assessment: Assessment) -> tuple[str, str]:
    """A word (`ahead`, `within`, `behind`, `none`) and a sentence on the same-budget baselines."""
    distilled = assessment.distilled
    rivals = [row for row in assessment.of("baseline") if row.same_budget]
    if distilled is None or not rivals:
        return "none", "No baseline of the same budget was measured."
    margins = [(margin(distilled, row), row) for row in rivals]
    # the closest baseline is the one whose margin exceeds the spreads by the least
    closest, row = min(margins, key=lambda pair: pair[0].points - pair[0].spread)
    count = "the one baseline" if len(rivals) == 1 else f"all {len(rivals)} baselines"
    spreads = f"{closest.spread:.1f} points"
    if closest.word == "ahead":
        return "ahead", (
            f"The distilled data is ahead of {count} of the same budget by more than the spreads. The closest is "
            f"{row.name} at {percent(row)}, {closest.points:.1f} points behind; the two spreads add up to {spreads}."
        )
    if closest.word == "behind":
        return "behind", (
            f"The distilled data is behind {row.name}, a baseline of the same budget: {percent(distilled)} against "
            f"{percent(row)}, {-closest.points:.1f} points apart; the two spreads add up to {spreads}."
        )
    return "within", (
        f"The distilled data can not be told apart from {row.name}, a baseline of the same budget: "
        f"{percent(distilled)} against {percent(row)}, where the two spreads add up to {spreads}."
    )


def headline(run: Run) -> str:
    """The result in one sentence."""
    s, m = run.distilled.images.shape[:2]
    learner = run.distilled.manifest.get("learner", {}).get("name", "network")
    modality = run.distilled.modality
    images = f"{modality.count(s * m, 'distilled')}, used in {plural(len(run.distilled.order), 'inner step')},"
    best = run.assessment.distilled if run.assessment else None
    verb = "trains" if s * m == 1 else "train"
    if run.assessment is None or best is None:
        return f"{images} {verb} a network ({learner}); how well was not measured on test data yet."
    fixed = run.distilled.theta0 is not None
    pool = run.distilled.manifest.get("initialisation", {}).get("kind") == "pool"
    start = (
        "its fixed starting weights" if fixed else "held-out pre-trained weights" if pool else "fresh random weights"
    )
    count = (
        modality.count(run.assessment.test_images, run.assessment.split) if run.assessment.test_images else "test data"
    )
    return f"{images} {verb} a network ({learner}) from {start} to {percent(best)} on {count}."
