"""`report.html` of a run of students: what they reach beside the same student without the method."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, ValidationError

from raystill.platform.files.redaction import redacted
from raystill.platform.report.curves import Line, chart
from raystill.platform.report.verdict import plural

HERE = Path(__file__).parent
PAGE, SPEC, RESULTS = "report.html", "spec.yaml", "results.json"
MOST_TEXT = 16 * 2**20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Row(_Part):
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
    """All stages, and what they were measured on."""

    split: str
    test_images: int
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]

    def of(self, kind: str) -> Row:
        """The row of a kind."""
        return next(row for row in self.rows if row.kind == kind)


@dataclass(frozen=True)
class Gain:
    """The student against its baseline: mean and spread of the differences of each seed, and a word on them."""

    points: float
    spread: float
    word: str


def gain(results: Results) -> Gain:
    """Ahead or behind only by more than the spread of the differences; one seed can say neither."""
    pairs = np.subtract(results.of("student").test, results.of("baseline").test)
    spread = float(pairs.std(ddof=1)) if len(pairs) > 1 else float("inf")
    mean = float(pairs.mean())
    return Gain(mean, spread, "within" if abs(mean) <= spread else "ahead" if mean > 0 else "behind")


def verdict(results: Results) -> str:
    """What the numbers say, in one sentence."""
    found, student, other = gain(results), results.of("student"), results.of("baseline")
    both = f"{student.test_mean:.2f} % against {other.test_mean:.2f} %"
    if len(results.seeds) == 1:
        return f"One seed can not tell them apart: {both} for the same student without the method."
    said = {"ahead": "is ahead of", "behind": "is behind", "within": "can not be told apart from"}[found.word]
    return (
        f"The student {said} the same student without the method: {both}, {found.points:+.2f} points; over "
        f"{plural(len(results.seeds), 'seed')} the differences spread by {found.spread:.2f}."
    )


def write_report(run: Path) -> Path:
    """Writes `report.html` into a run folder, in place of an older one.

    Raises:
        ValueError: a file is missing or malformed, or the folder can not be written.
    """
    page = render(run)
    temporary = run / f".{PAGE}.tmp"
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, run / PAGE)
    except OSError as error:
        raise ValueError(f"{run / PAGE}: can not be written: {error.strerror or error}") from error
    return run / PAGE


def render(run: Path) -> str:
    """The page; the same run gives the same bytes."""
    text = _text(run / SPEC)
    spec = yaml.safe_load(text)
    try:
        results = Results.model_validate_json(_text(run / RESULTS))
    except ValidationError as error:
        raise ValueError(f"{run / RESULTS}: malformed: {error.errors()[0]['msg']}") from error
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = str(spec.get("data", {}).get("source", "a data set"))
    return environment.get_template("students.html").render(
        title=f"{spec.get('recipe') or 'A student'} on {source}",
        run_name=run.resolve().name,
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        verdict=gain(results).word,
        sentence=verdict(results),
        results=results,
        charts=[(title, Markup(svg), words) for title, svg, words in _charts(run, results)],
        plural=plural,
        spec_text=redacted(text),
    )


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_TEXT:
            raise ValueError(f"{file}: more than {MOST_TEXT} bytes")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: can not be read: {error}") from error


def _charts(run: Path, results: Results) -> list[tuple[str, str, str]]:
    """(title, svg, caption) of the loss of each stage, mean over seeds with their spread."""
    found = []
    first = run / "networks" / str(results.seeds[0])
    for file in sorted(first.glob("*.json")):
        histories = [_history(run / "networks" / str(seed) / file.name) for seed in results.seeds]
        steps = np.array([row["step"] for row in histories[0]], float)
        losses = np.array([[row["loss"] for row in h] for h in histories if len(h) == len(steps)])
        if not len(steps) or not np.isfinite(losses).all():
            continue
        mean, spread = losses.mean(0), losses.std(0)
        words = f"From {mean[0]:.3g} to {mean[-1]:.3g}; the band is the spread over {plural(len(losses), 'seed')}."
        title = f"Loss of {file.stem}"
        line = Line(steps, mean, spread if len(losses) > 1 else None, dots=len(steps) < 3)
        found.append((title, chart([line], title, "step", words), words))
    return found


def _history(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(_text(file))["history"]
    return rows
