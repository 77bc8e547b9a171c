"""Runs in a notebook: `load_run`, one line on a run, and its HTML for a cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from raystill.platform import registry, runs
from raystill.platform.artifacts import notebook
from raystill.platform.report import students
from raystill.platform.report.run_folder import Run, read_run
from raystill.platform.report.verdict import headline, percent

MOST_ROWS = 20  # shown in a cell; the report has all


@dataclass(frozen=True, repr=False)
class DistillationRun(Run):
    """A distillation's run folder, which a notebook shows as its result, measurements, curve and first examples."""

    def __repr__(self) -> str:
        return f"Run({self.path}: {headline(self)})"

    def _repr_html_(self) -> str:
        facts = notebook.facts(self.distilled)
        rows = self.assessment.rows if self.assessment else ()
        facts += [(row.name, f"{percent(row)} {row.note}".strip()) for row in rows[:MOST_ROWS]]
        if len(rows) > MOST_ROWS:
            facts.append(("more", f"{len(rows) - MOST_ROWS} more measurements are in .assessment.rows"))
        pictures = [notebook.pictured(self.distilled)]
        if self.history is not None and len(self.history["meta_loss"]):
            losses = self.history["meta_loss"]
            words = f"outer loss on real training data, {len(losses):,} steps: {losses[0]:.3g} to {losses[-1]:.3g}"
            pictures.insert(0, notebook.curve(losses, words))
        return notebook.card(f"Run {self.path.name}", facts, *pictures, lead=headline(self))


@dataclass(frozen=True, repr=False)
class StudentsRun:
    """A run folder of students, which a notebook shows as its verdict and the accuracy of each stage."""

    path: Path
    results: students.Results

    def __repr__(self) -> str:
        return f"Run({self.path}: {students.verdict(self.results)})"

    def _repr_html_(self) -> str:
        rows = self.results.rows[:MOST_ROWS]
        facts = [
            (
                f"{row.name} ({students.ROLES[row.kind][1]})",
                f"{row.test_mean:.2f} ± {row.test_std:.2f} % on test data; {row.parameters:,} parameters",
            )
            for row in rows
        ]
        return notebook.card(f"Run {self.path.name}", facts, lead=students.verdict(self.results))


def _distillation(path: Path) -> DistillationRun:
    return DistillationRun(**vars(read_run(path)))


LOADERS: dict[str, Callable[[Path], DistillationRun | StudentsRun]] = {
    "distill": _distillation,
    "kd": lambda path: StudentsRun(path, students.read_results(path)),
}
"""Command of a run -> function that loads the run's folder."""


def load_run(path: str | Path) -> DistillationRun | StudentsRun:
    """A finished run of `raystill distill` or `raystill kd`, read with bounds and checked.

    Raises:
        ValueError: not a run folder, a malformed file (named), or a run of another command.
    """
    path = Path(path)
    command = runs.made_by(path)
    if command not in LOADERS:
        raise ValueError(f"{path}: a run of {command!r}, which has a report.html; {registry.nearest(command, LOADERS)}")
    return LOADERS[command](path)
