"""Curves as SVG in the colours of the page's style (light, dark, print), and the section that shows a run's curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

from raystill.platform.report.page import figure, figures, paragraph, section
from raystill.platform.report.run_folder import Run
from raystill.platform.report.words import plural

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 42
MOST_POINTS = 600  # of one line; more can not be told apart at this width
RATES = {"lr": "Learned learning rate", "momentum": "Learned momentum"}
NO_HISTORY = Markup("This run has no history: <code>history.parquet</code> is missing.")


@dataclass(frozen=True)
class Line:
    """One line of a chart: x [N], y [N], perhaps a spread [N] around it; `style` is a class of the style sheet."""

    x: np.ndarray
    y: np.ndarray
    spread: np.ndarray | None = None
    style: str = "main"
    dots: bool = False


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Means of consecutive runs of points, at most `most` of them."""
    if len(x) <= most:
        return x, y
    cuts = np.linspace(0, len(x), most + 1).astype(int)
    return tuple(np.add.reduceat(v, cuts[:-1]) / np.diff(cuts) for v in (x, y))  # type: ignore[return-value]


def smoothed(y: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Centred running mean over a share of the points; the ends average what there is."""
    half = max(1, int(len(y) * share / 2))
    total = np.concatenate([[0.0], np.cumsum(y)])
    low, high = np.maximum(np.arange(len(y)) - half, 0), np.minimum(np.arange(len(y)) + half + 1, len(y))
    return (total[high] - total[low]) / (high - low)


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> np.ndarray:
    """Round numbers for an axis, 1, 2 or 5 times a power of ten apart.

    Args:
        low, high: the axis's range, which all of them lie in.
        count: about how many.
        whole: whether they must be whole numbers.
    """
    raw = max((high - low) / count, 1.0 if whole else 0.0)
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(f for f in (1, 2, 5, 10) if f * power >= raw * 0.999)
    return np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1) * step + 0.0  # no -0


def chart(lines: Sequence[Line], title: str, x_label: str, words: str, zero: bool = True) -> str:
    """A chart as the text of an SVG.

    Args:
        lines: in the order of drawing, with at least one finite point; x are whole numbers.
        title: short, the quantity of the vertical axis and its unit.
        x_label: the quantity of the horizontal axis.
        words: a description for screen readers.
        zero: whether the vertical axis starts at zero.
    """
    x_low, x_high = _limits(np.concatenate([line.x for line in lines]))
    ends = [line.y + sign * (0 if line.spread is None else line.spread) for line in lines for sign in (-1, 1)]
    y_low, y_high = _limits(np.concatenate([[0.0] if zero else [], *ends]))
    y_low, y_high = y_low - (0.0 if zero else 0.04 * (y_high - y_low)), y_high + 0.04 * (y_high - y_low)

    def px(x: np.ndarray) -> np.ndarray:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y: np.ndarray) -> np.ndarray:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}. {words}")}">',
        f"<title>{escape(title)}</title>",
    ]
    for value in ticks(y_low, y_high):
        y = py(value)
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{value:.10g}</text>')
    for value in ticks(x_low, x_high, whole=True):
        parts.append(f'<text x="{px(value):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{value:.10g}</text>')
    for line in lines:
        if line.spread is not None:
            xs = np.concatenate([line.x, line.x[::-1]])
            ys = np.concatenate([line.y + line.spread, (line.y - line.spread)[::-1]])
            parts.append(f'<path class="band" d="{_path(px(xs), py(ys))}Z"/>')
    for line in lines:
        parts.append(f'<path class="line {line.style}" d="{_path(px(line.x), py(line.y))}"/>')
        if line.dots:
            circles = zip(px(line.x), py(line.y))
            parts += [f'<circle class="{line.style}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in circles]
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def curve(title: str, lines: list[Line], x_label: str, caption: str, zero: bool = True) -> Markup:
    """A chart as a figure.

    Args:
        title, lines, x_label, zero: as in `chart`.
        caption: below the chart, and its description for screen readers.
    """
    return figure(Markup(chart(lines, title, x_label, caption, zero)), caption, title)


def history(run: Run) -> Markup:
    """The section on how a distillation went: its losses, accuracies and learned rates."""
    missing = Markup() if run.history is not None else paragraph(NO_HISTORY, "missing")
    return section("curves", "How it got there", missing, figures(*_losses(run), *_accuracies(run), *_rates(run)))


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


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = 0.0 if high > low else max(abs(high), 1.0) * 0.1  # one point, or all the same
    return low - room, high + room


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y))
