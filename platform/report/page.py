"""`report.html`: one self-contained page on a run."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from raystill.platform.artifacts import DATA, Distilled
from raystill.platform.artifacts.sentences import noun
from raystill.platform.files.digests import file_digest
from raystill.platform.files.redaction import redacted
from raystill.platform.files.storage import write_whole
from raystill.platform.report import command
from raystill.platform.report.curves import Line, chart, smoothed, thinned
from raystill.platform.report.gallery import gallery
from raystill.platform.report.run import ARTEFACT, BEFORE, Row, Run, read_run
from raystill.platform.report.verdict import against_baselines, headline, margin, percent, plural

PAGE = "report.html"
HERE = Path(__file__).parent
# said in places of their own
ELSEWHERE = ("spec", "learner", "classes", "normalisation", "text")


def write_report(run: Path) -> Path:
    """Writes `report.html` into a run folder, in place of an older one.

    Args:
        run: the folder, with `spec.yaml` and `artefact/`; `history.parquet` and `assessment.json` where they are.

    Raises:
        ValueError: a file is missing or malformed, or the folder can not be written.
    """
    page = render(read_run(run))
    temporary = run / f".{PAGE}.tmp"
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, run / PAGE)
    except OSError as error:
        raise ValueError(f"{run / PAGE}: can not be written: {error.strerror or error}") from error
    return run / PAGE


def save_before(run: Path, start: Distilled) -> None:
    """Writes the picture of what the images were before the first step into a run folder, for its report."""
    from raystill.platform.artifacts.preview import preview

    stream = io.BytesIO()
    preview(start).save(stream, "PNG", optimize=True)
    write_whole(run / BEFORE, lambda out: out.write(stream.getvalue()))


def render(run: Run) -> str:
    """The page; the same run gives the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(percent=percent, margin=margin, whisker=_whisker, plural=plural)
    source = str(_get(run.spec, "data", "source") or "a data set")
    count = run.distilled.images.shape[0] * run.distilled.images.shape[1]
    word, sentence = against_baselines(run.assessment) if run.assessment else ("none", "")
    return environment.get_template("page.html").render(
        title=f"{plural(count, f'distilled {noun(run.distilled)}')} of {source}",
        headline=headline(run),
        run_name=run.path.resolve().name,
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        numbers=_numbers(run),
        gallery=gallery(run.distilled),
        before=None if run.before is None else "data:image/png;base64," + base64.b64encode(run.before).decode(),
        charts=[(title, Markup(svg), words) for title, svg, words in _charts(run)],
        has_history=run.history is not None,
        assessment=run.assessment,
        verdict=word,
        verdict_sentence=sentence,
        tables=_tables(run),
        best=run.assessment.distilled if run.assessment else None,
        spec_text=redacted(run.spec_text),
        command=command.from_file(),
        recipe_command=command.from_recipe(run.spec),
        needs_data=source != "digits" and not _get(run.spec, "data", "root"),
        about=_about(run),
    )


def _get(tree: Mapping[str, Any], *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None  # type: ignore[assignment]
    return tree


def _numbers(run: Run) -> list[tuple[str, str]]:
    """The few numbers at the top: (value, what it is)."""
    s, m, c, h, w = run.distilled.images.shape
    found = []
    best = run.assessment.distilled if run.assessment else None
    if run.assessment and best:
        over = f", ± over {best.spread_over}" if best.n > 1 and best.spread_over else ""
        found.append((percent(best), f"{run.assessment.split} accuracy{over}"))
    if best and best.distillation_seeds:
        seeds = best.distillation_seeds
        found.append((f"{seeds.mean:.1f} ± {seeds.std:.1f} %", f"± over {plural(seeds.n, 'distillation seed')}"))
    size = f"{c} × {h} × {w}" if noun(run.distilled) == "image" else f"{h} tokens of {w} numbers"
    found.append((f"{s * m:,}", f"{noun(run.distilled)}s of {size}, {plural(s, 'step')} of {m}"))
    found.append((f"{len(run.distilled.order):,}", "inner steps to train a network"))
    if run.history is not None and len(run.history["step"]):
        cpu, wall = (float(np.nansum(run.history[name])) for name in ("cpu_seconds", "seconds"))
        found.append(
            (
                _duration(cpu),
                f"of evaluators' CPU, in {_duration(wall)} and {plural(len(run.history['step']), 'outer step')}",
            )
        )
    return found


def _charts(run: Run) -> list[tuple[str, str, str]]:
    """(title, svg, caption) of each curve that there is something to draw of."""
    charts: list[tuple[str, str, str]] = []

    def add(title: str, lines: list[Line], x_label: str, words: str, zero: bool = True) -> None:
        charts.append((title, chart(lines, title, x_label, words, zero), words))

    if run.history is not None:
        step, loss = run.history["step"], run.history["meta_loss"]
        finite = np.isfinite(loss)
        if finite.any():
            x, y = step[finite], loss[finite]
            lines = [Line(*thinned(x, y), style="faint"), Line(*thinned(x, smoothed(y)))]
            words = f"From {y[0]:.3g} to {smoothed(y)[-1]:.3g}; the strong line is a running mean."
            add("Meta-loss on real training data", lines, "outer step", words)
        accuracy, spread = run.history["validation_accuracy"], run.history["validation_std"]
        known = np.isfinite(accuracy)
        if known.any():
            x, y, band = step[known], accuracy[known], np.nan_to_num(spread[known])
            top = int(y.argmax())
            words = f"Best {y[top]:.1f} ± {band[top]:.1f} % at step {x[top]:.0f}; the band is the spread over networks."
            line = Line(x, y, band if band.any() else None, dots=len(x) <= 40)
            add("Accuracy on validation data, %", [line], "outer step", words, zero=False)
    for name, rate in run.distilled.rates.items():
        what = {"lr": "Learned learning rate", "momentum": "Learned momentum"}.get(name, name)
        x, y = np.arange(1, len(rate) + 1, dtype=float), rate.astype(float)
        words = f"From {y.min():.3g} to {y.max():.3g}, one for each of {plural(len(y), 'inner step')}."
        if np.ptp(y) == 0:
            words = f"{y[0]:.3g} at each of {plural(len(y), 'inner step')}."
        add(what, [Line(*thinned(x, y), dots=len(x) <= 60)], "inner step", words)
    return charts


def _tables(run: Run) -> list[dict[str, Any]]:
    """The tables there is something to say in; the first compares with baselines."""
    assessment = run.assessment
    if assessment is None:
        return []
    ours, rivals = assessment.of("distilled"), assessment.of("baseline")
    fair, unfair = [row for row in rivals if row.same_budget], [row for row in rivals if not row.same_budget]

    def by_accuracy(rows: list[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: -row.accuracy_mean)

    tables = [
        ("Against baselines of the same budget", "Same number of images and inner steps, same network.",
         by_accuracy(ours + fair), True),
        ("Other networks on the same images", "Trained on data that was distilled for another network.",
         by_accuracy(assessment.of("architecture")), False),
        ("Robustness", "The distilled data under other labels and augmentations than its own.",
         assessment.of("robustness"), False),
        ("For reference", "With more data or another method; not at the same budget.",
         by_accuracy(unfair + assessment.of("reference")), False),
    ]  # fmt: skip
    return [
        {"title": title, "words": words, "rows": rows,
         "measure": "score of 100" if rows[0].kind == "robustness" else "accuracy",
         "compare": compare and bool(fair) and bool(ours),
         "seeds": any(row.distillation_seeds for row in rows),
         "measures": list(dict.fromkeys(name for row in rows for name in row.measures))}
        for title, words, rows, compare in tables if rows
    ]  # fmt: skip


def _whisker(row: Row) -> Markup:
    """A bar from 0 to 100 % with the spread as a line across its end."""
    mean, std = max(0.0, min(100.0, row.accuracy_mean)), row.accuracy_std
    low, high = max(0.0, mean - std), min(100.0, mean + std)
    return Markup(
        '<svg class="whisker" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="10"/><rect class="{row.kind}" width="{mean:.2f}" height="10"/>'
        f'<rect class="spread" x="{low:.2f}" y="4" width="{high - low:.2f}" height="2"/></svg>'
    )


def _about(run: Run) -> list[tuple[str, str]]:
    """Everything that a number here depends on: (name, value)."""
    d, spec = run.distilled, run.spec
    digest = file_digest(run.path / ARTEFACT / DATA)
    facts: list[tuple[str, Any]] = [
        ("data", _get(spec, "data", "source")),
        ("validation", _validation(spec)),
        ("learner", d.manifest.get("learner")),
        ("classes", d.manifest.get("classes")),
        ("normalisation", d.manifest.get("normalisation")),
        ("text", {k: v for k, v in d.manifest.get("text", {}).items() if k not in ("nearest", "cosines")}),
    ]
    facts += [(key.replace("_", " "), value) for key, value in d.manifest.items() if key not in ELSEWHERE]
    if run.assessment:
        images, thing = run.assessment.test_images, noun(run.distilled).replace("sentence", "text")
        facts += [
            ("tested on", f"{run.assessment.split} split" + (f", {plural(images, thing)}" if images else "")),
            ("seeds of the assessment", run.assessment.seeds),
            ("assessment took", _duration(run.assessment.seconds) if run.assessment.seconds else None),
        ]
    facts.append((f"sha256 of {DATA}", digest))
    return [(name, redacted(_plain(value))) for name, value in facts if value not in (None, {}, [], "")]


def _validation(spec: Mapping[str, Any]) -> str | None:
    share, seed = _get(spec, "data", "validation"), _get(spec, "data", "split_seed")
    if not isinstance(share, float):
        return None
    return f"{share:.0%} of train held out by split seed {seed}, unless the source has a validation split of its own"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items() if inner is not None)
    if isinstance(value, (list, tuple)):
        words = [_plain(inner) for inner in value]
        return ", ".join(words if len(words) <= 24 else [*words[:20], f"… {len(words) - 20} more"])
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
