"""Pictures of a search: the response surface of each width, and the T curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raystill.platform.evaluation.summary import Summary
from raystill.search.temperature.settings import Setting, StudentScore, summaries

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1f6feb", "#bf5700", "#116329", "#8250df", "#a40e26", "#57606a")
INK, FAINT = "#1b1f24", "#59636e"


def _figure(columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure  # an evaluator needs none

    figure = Figure(figsize=(width * columns, height), layout="constrained", facecolor="white")
    return figure, [figure.add_subplot(1, columns, i + 1) for i in range(columns)]


def _titled(ax: Axes, width: int) -> None:
    ax.set_title(f"student of width {width}" if width else "student", fontsize=10, color=INK)
    ax.set_xlabel("temperature T", color=FAINT)


def _every(rows: Sequence[StudentScore], setting: Setting) -> float:
    """Mean accuracy at the longest training that a setting had."""
    own = [row for row in rows if row.setting == setting]
    last = max(row.steps for row in own)
    return 100 * float(np.mean([row.accuracy for row in own if row.steps == last]))


def surface(rows: Sequence[StudentScore], best: dict[int, Setting]) -> Figure:
    """Mean validation accuracy over T and alpha, one panel a width, the choice ringed.

    Where T and alpha form a grid it is a map with numbers, else points. Settings that were stopped early show the
    accuracy that they had.
    """
    figure, axes = _figure(len(best), 5.6, 3.9)
    for ax, (width, chosen) in zip(axes, best.items()):
        here = list(dict.fromkeys(row.setting for row in rows if row.width == width))
        values = {s: _every(rows, s) for s in here}
        ts, alphas = (sorted({s[i] for s in here}) for i in (1, 2))
        _titled(ax, width)
        ax.set_ylabel("alpha, the teacher's share", color=FAINT)
        if len(here) == len(ts) * len(alphas):
            z = np.array([[values[Setting(width, t, a)] for t in ts] for a in alphas])
            low = max(float(np.quantile(z, 0.1)), float(z.max()) - 25)  # a diverged one takes no colours
            image: Any = ax.imshow(z, origin="lower", aspect="auto", cmap="cividis", vmin=low, vmax=z.max() + 1e-9)
            ax.set_xticks(range(len(ts)), [f"{t:g}" for t in ts])
            ax.set_yticks(range(len(alphas)), [f"{a:g}" for a in alphas])
            for (i, j), value in np.ndenumerate(z):
                dark = value < (low + float(z.max())) / 2
                ax.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
            at: tuple[float, float] = (ts.index(chosen.temperature), alphas.index(chosen.alpha))
        else:
            ax.set_xscale("log")
            x, y, z = (np.array(v) for v in ([s[1] for s in here], [s[2] for s in here], [values[s] for s in here]))
            image = ax.scatter(x, y, c=z, cmap="cividis", s=60)
            at = (chosen.temperature, chosen.alpha)
        ax.plot(*at, "o", ms=22, mfc="none", mec="#d1242f", mew=2)
        figure.colorbar(image, ax=ax, label="validation accuracy, %")
    return figure


def curve(means: dict[Setting, Summary], width: int) -> list[tuple[float, Summary]]:
    """At each T the best alpha's mean and spread, for one width: (T, summary), by T."""
    best: dict[float, Summary] = {}
    for setting, cell in means.items():
        if setting.width == width and cell.mean > best.get(setting.temperature, Summary(-1.0, 0.0, 0)).mean:
            best[setting.temperature] = cell
    return sorted(best.items())


def curves(rows: Sequence[StudentScore], widths: Sequence[int]) -> Figure:
    """Validation accuracy over T at the best alpha of each T, a line a width, with the standard error over seeds."""
    figure, (ax,) = _figure(1, 6.2, 3.9)
    steps = max(row.steps for row in rows)
    means = summaries(rows, steps)
    for width, colour in zip(widths, COLOURS * (1 + len(widths) // len(COLOURS))):
        points = curve(means, width)
        t, mean = np.array([p[0] for p in points]), np.array([100 * p[1].mean for p in points])
        error = np.array([100 * np.nan_to_num(p[1].std) / np.sqrt(p[1].n) for p in points])
        ax.plot(t, mean, "o-", color=colour, ms=4, label=f"width {width}" if width else "student")
        ax.fill_between(t, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
        ax.plot(t[mean.argmax()], mean.max(), "o", ms=12, mfc="none", mec=colour, mew=1.6)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlabel("temperature T", color=FAINT)
    ax.set_ylabel("validation accuracy, %, at the best alpha", color=FAINT)
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """A PNG whose bytes depend on the picture alone."""
    figure.savefig(path, dpi=130, metadata={"Software": None})
