"""`report.html` of a run of students: their accuracies beside the same student without the method."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, ValidationError

from raystill.platform.report import page
from raystill.platform.report.curves import Line, curve
from raystill.platform.report.page import Row, small, write_page
from raystill.platform.report.run_folder import read_text
from raystill.platform.report.words import plural

SPEC, RESULTS = "spec.yaml", "results.json"
MOST_TEXT = 16 * 2**20
COLUMNS = (
    ("stage", ""), ("test accuracy", "number accuracy"), ("± is the spread over", "over"), ("validation", "number"),
    ("of each seed", "number"), ("parameters", "number"),
)  # fmt: skip
ROLES = {
    "student": ("distilled", "the result"),
    "baseline": ("baseline", "without the method"),
    "stage": ("reference", "on the way"),
}
"""A stage's kind -> its CSS class, and its name in words."""
SPREAD_NOTE = (
    "“Ahead” and “behind” mean by more than the spread of the differences of each seed; student and baseline start "
    "alike and see the same batches."
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class StageResult(_Part):
    """One stage: accuracies in percent, one for each seed, on validation and test data."""

    name: str
    kind: str
    parameters: int
    test: tuple[float, ...]
    test_mean: float
    test_std: float
    validation_mean: float | None = None
    validation_std: float | None = None


class Results(_Part):
    """All stages, and the data that they were evaluated on."""

    split: str
    test_images: int
    seeds: tuple[int, ...]
    rows: tuple[StageResult, ...]

    def of(self, kind: str) -> StageResult:
        """The first stage of a kind."""
        return next(row for row in self.rows if row.kind == kind)


@dataclass(frozen=True)
class Gain:
    """The student against its baseline: mean and spread of the differences of each seed, and a word on them."""

    points: float
    spread: float
    word: str


def read_results(run: Path) -> Results:
    """The results of a run folder.

    Raises:
        ValueError: the file is missing or malformed.
    """
    try:
        return Results.model_validate_json(read_text(run / RESULTS, MOST_TEXT))
    except ValidationError as error:
        raise ValueError(f"{run / RESULTS}: malformed: {error.errors()[0]['msg']}") from error


def gain(results: Results) -> Gain:
    """Ahead or behind only by more than the spread of the differences; one seed can say neither."""
    pairs = np.subtract(results.of("student").test, results.of("baseline").test)
    spread = float(pairs.std(ddof=1)) if len(pairs) > 1 else float("inf")
    mean = float(pairs.mean())
    return Gain(mean, spread, "within" if abs(mean) <= spread else "ahead" if mean > 0 else "behind")


def verdict(results: Results) -> str:
    """The comparison of student and baseline in one sentence."""
    difference, student, other = gain(results), results.of("student"), results.of("baseline")
    both = f"{student.test_mean:.2f} % against {other.test_mean:.2f} %"
    if len(results.seeds) == 1:
        return f"One seed can not tell them apart: {both} for the same student without the method."
    relation = {"ahead": "is ahead of", "behind": "is behind", "within": "can not be told apart from"}[difference.word]
    return (
        f"The student {relation} the same student without the method: {both}, {difference.points:+.2f} points; over "
        f"{plural(len(results.seeds), 'seed')} the differences spread by {difference.spread:.2f}."
    )


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, in place of an older one.

    Raises:
        ValueError: a file is missing or malformed, or the folder can not be written.
    """
    return write_page(run, render(run))


def render(run: Path) -> str:
    """The page; the same run gives the same bytes."""
    text = read_text(run / SPEC, MOST_TEXT)
    spec, results = yaml.safe_load(text), read_results(run)
    sentence = verdict(results)
    return page.page(
        run.resolve().name,
        f"{spec.get('recipe') or 'A student'} on {spec.get('data', {}).get('source', 'a data set')}",
        sentence,
        [
            page.section(
                "assessment", "How good it is", page.verdict(gain(results).word, sentence),
                page.paragraph(
                    f"Accuracies on the {results.split} split, {plural(results.test_images, 'image')}, of networks "
                    "after their last step; nothing was tuned on it. "
                    f"Seeds: {', '.join(map(str, results.seeds))}."
                ),
                page.table("Accuracies", COLUMNS, map(_row, results.rows)),
                page.paragraph(SPREAD_NOTE, "small"),
            ),
            page.section("curves", "How it got there", page.figures(*_losses(run, results))),
            page.again("raystill kd --config spec.yaml", text),
        ],
    )  # fmt: skip


def _row(stage: StageResult) -> Row:
    style, note = ROLES[stage.kind]
    spread = f" ± {stage.test_std:.2f}" if len(stage.test) > 1 else ""
    return Row(
        [
            stage.name + small(note),
            Markup("<b>{}</b>").format(f"{stage.test_mean:.2f}{spread} %"),
            plural(len(stage.test), "seed"),
            "–" if stage.validation_mean is None else f"{stage.validation_mean:.2f} %",
            ", ".join(f"{accuracy:.2f}" for accuracy in stage.test),
            f"{stage.parameters:,}",
        ],
        style,
    )


def _losses(run: Path, results: Results) -> Iterator[Markup]:
    """The loss of each stage as a figure, mean over seeds with their spread."""
    first = run / "networks" / str(results.seeds[0])
    for file in sorted(first.glob("*.json")):
        histories = [_history(run / "networks" / str(seed) / file.name) for seed in results.seeds]
        steps = np.array([row["step"] for row in histories[0]], float)
        losses = np.array([[row["loss"] for row in h] for h in histories if len(h) == len(steps)])
        if not len(steps) or not np.isfinite(losses).all():
            continue
        mean, spread = losses.mean(0), losses.std(0)
        caption = f"From {mean[0]:.3g} to {mean[-1]:.3g}; the band is the spread over {plural(len(losses), 'seed')}."
        line = Line(steps, mean, spread if len(losses) > 1 else None, dots=len(steps) < 3)
        yield curve(f"Loss of {file.stem}", [line], "step", caption)


def _history(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(read_text(file, MOST_TEXT))["history"]
    return rows
