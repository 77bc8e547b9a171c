"""The section of a page that shows how a distillation went: its losses, accuracies and learned rates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from raystill.platform.report.curves import Line, chart, smoothed, thinned
from raystill.platform.report.page import figure, figures, paragraph, section
from raystill.platform.report.run_folder import Run
from raystill.platform.report.words import plural

RATES = {"lr": "Learned learning rate", "momentum": "Learned momentum"}
LOST = Markup("No history was kept with this run: <code>history.parquet</code> is missing.")


def history(run: Run) -> Markup:
    """The section."""
    lost = Markup() if run.history is not None else paragraph(LOST, "missing")
    return section("curves", "How it got there", lost, figures(*_losses(run), *_accuracies(run), *_rates(run)))


def curve(title: str, lines: list[Line], x_label: str, caption: str, zero: bool = True) -> Markup:
    """A chart as a figure."""
    return figure(Markup(chart(lines, title, x_label, caption, zero)), caption, title)


def _losses(run: Run) -> Iterator[Markup]:
    if run.history is None:
        return
    step, loss = run.history["step"], run.history["meta_loss"]
    finite = np.isfinite(loss)
    if finite.any():
        x, y = step[finite], loss[finite]
        lines = [Line(*thinned(x, y), style="faint"), Line(*thinned(x, smoothed(y)))]
        caption = f"From {y[0]:.3g} to {smoothed(y)[-1]:.3g}; the strong line is a running mean."
        yield curve("Meta-loss on real training data", lines, "outer step", caption)


def _accuracies(run: Run) -> Iterator[Markup]:
    if run.history is None:
        return
    step = run.history["step"]
    accuracy, spread = run.history["validation_accuracy"], run.history["validation_std"]
    known = np.isfinite(accuracy)
    if known.any():
        x, y, band = step[known], accuracy[known], np.nan_to_num(spread[known])
        top = int(y.argmax())
        caption = f"Best {y[top]:.1f} ± {band[top]:.1f} % at step {x[top]:.0f}; the band is the spread over networks."
        line = Line(x, y, band if band.any() else None, dots=len(x) <= 40)
        yield curve("Accuracy on validation data, %", [line], "outer step", caption, zero=False)


def _rates(run: Run) -> Iterator[Markup]:
    for name, rate in run.distilled.rates.items():
        x, y = np.arange(1, len(rate) + 1, dtype=float), rate.astype(float)
        caption = f"From {y.min():.3g} to {y.max():.3g}, one for each of {plural(len(y), 'inner step')}."
        if np.ptp(y) == 0:
            caption = f"{y[0]:.3g} at each of {plural(len(y), 'inner step')}."
        yield curve(RATES.get(name, name), [Line(*thinned(x, y), dots=len(x) <= 60)], "inner step", caption)
