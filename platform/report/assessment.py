"""The section of a page that compares the distilled data with baselines on test data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from raystill.platform.data.modality import Modality
from raystill.platform.report.page import Row, heading, joined, paragraph, section, small, table, verdict
from raystill.platform.report.run_folder import Assessment, Measurement
from raystill.platform.report.verdict import against_baselines, margin, percent
from raystill.platform.report.words import plural

NONE = Markup(
    "Not assessed on test data yet: <code>assessment.json</code> is missing. <code>raystill assess</code> makes it."
)
SPREAD_NOTE = "“Ahead” and “behind” mean by more than both spreads together."
UNKNOWN = "–"
Column = tuple[str, str, Callable[[Measurement], str]]
"""Heading, CSS class, and measurement -> cell."""


def assessment(results: Assessment | None, modality: Modality) -> Markup:
    """The section.

    Args:
        results: all measurements; None before the assessment.
        modality: of the distilled examples.
    """
    title = "How good it is"
    if results is None:
        return section("assessment", title, paragraph(NONE, "missing"))
    word, sentence = against_baselines(results)
    size = f", {modality.count(results.test_images)}" if results.test_images else ""
    lead = paragraph(f"All accuracies on the {results.split} split{size}; nothing was tuned on it.")
    return section("assessment", title, verdict(word, sentence), lead, *_tables(results, modality))


def _tables(results: Assessment, modality: Modality) -> list[Markup]:
    """The tables that have rows; the first compares with baselines."""
    ours, rivals = results.of("distilled"), results.of("baseline")
    fair, unfair = [m for m in rivals if m.same_budget], [m for m in rivals if not m.same_budget]
    compare = bool(fair) and bool(ours)
    tables = [
        ("Against baselines of the same budget", "Same number of images and inner steps, same network.",
         _best_first(ours + fair), results.distilled if compare else None),
        ("Other networks on the same images", "Trained on data that was distilled for another network.",
         _best_first(results.of("architecture")), None),
        ("Robustness", "The distilled data under other labels and augmentations than its own.",
         results.of("robustness"), None),
        ("For reference", "With more data or another method; not at the same budget.",
         _best_first(unfair + results.of("reference")), None),
    ]  # fmt: skip
    return [
        joined(
            [heading(title), paragraph(words), _table(title, rows, modality.plural, best),
             paragraph(SPREAD_NOTE, "small") if best else ""], "\n",
        )
        for title, words, rows, best in tables if rows
    ]  # fmt: skip


def _best_first(rows: list[Measurement]) -> list[Measurement]:
    return sorted(rows, key=lambda row: -row.accuracy_mean)


def _table(title: str, rows: Sequence[Measurement], examples: str, best: Measurement | None) -> Markup:
    """Measurements, one a row; where `best` is given, each baseline is compared with it."""
    measure = "score of 100" if rows[0].kind == "robustness" else "accuracy"
    columns: list[Column] = [
        ("name", "", lambda m: m.name + small(m.note) if m.note else m.name),
        (measure, "number accuracy", lambda m: Markup("<b>{}</b>{}").format(percent(m), _whisker(m))),
        ("± is the spread over", "over", lambda m: m.spread_over or str(m.n)),
    ]
    for name in dict.fromkeys(name for row in rows for name in row.measures):
        columns.append((name.replace("_", " "), "number", lambda m, name=name: _measure(m, name)))  # type: ignore[misc]
    if any(row.distillation_seeds for row in rows):
        columns.append(("over distillation seeds", "number", _over_seeds))
    if best is not None:
        columns.append(("distilled is", "", lambda m: _against(best, m)))
    columns += [
        (examples, "number", lambda m: _count(m.images)),
        ("inner steps", "number", lambda m: _count(m.inner_steps)),
        ("network", "", lambda m: m.learner or UNKNOWN),
    ]
    cells = (Row([cell(row) for _, _, cell in columns], row.kind) for row in rows)
    return table(title, [(heading, style) for heading, style, _ in columns], cells)


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _measure(row: Measurement, name: str) -> str:
    spread = row.measures.get(name)
    if spread is None:
        return UNKNOWN
    return f"{spread.mean:.1f} ± {spread.std:.1f} %" if row.n > 1 else f"{spread.mean:.1f} %"


def _over_seeds(row: Measurement) -> str:
    seeds = row.distillation_seeds
    return UNKNOWN if seeds is None else f"{seeds.mean:.1f} ± {seeds.std:.1f} %" + small(plural(seeds.n, "seed"))


def _against(best: Measurement, row: Measurement) -> str:
    """How far the distilled data is ahead of a baseline, as a word and in points."""
    if row.kind != "baseline":
        return UNKNOWN
    points, _, word = margin(best, row)
    words = "within the spreads" if word == "within" else word
    return Markup('<span class="tag {}">{}</span> {:+.1f}').format(word, words, round(points, 1) + 0.0)


def _whisker(row: Measurement) -> Markup:
    """A bar from 0 to 100 % with the spread as a line across its end."""
    mean, std = max(0.0, min(100.0, row.accuracy_mean)), row.accuracy_std
    low, high = max(0.0, mean - std), min(100.0, mean + std)
    return Markup(
        '<svg class="whisker" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="10"/><rect class="{row.kind}" width="{mean:.2f}" height="10"/>'
        f'<rect class="spread" x="{low:.2f}" y="4" width="{high - low:.2f}" height="2"/></svg>'
    )
