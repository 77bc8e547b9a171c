"""The page of a rank card: a table, and for each ranker a scatter of accuracy against the rank of its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from scipy.stats import rankdata

from raystill.platform.report import page
from raystill.search.ranking.ground_truth import GroundTruth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, EDGE = 220, 26
HEADS = ("ranker", "rho", "95 %", "tau", "top half", "precision 10 %", "regret 1", "3", "5", "CPU s",
         "gtn minus it, 95 %")  # fmt: skip
EXPLANATION = (
    "Regret in points of test accuracy among the best 1, 3 and 5 picks; intervals by the paired bootstrap over "
    "architectures, those of the last column of the difference of rho: one that leaves out 0 tells two rankers apart."
)


def write(folder: Path, card: Mapping[str, Any], scores: Mapping[str, np.ndarray] | None, truth: GroundTruth) -> Path:
    """Write `report.html` of a card.

    Args:
        folder: the run folder.
        card: what `card.json` holds.
        scores: by ranker [N], larger is better; None where the card does not speak.

    Returns:
        The file's path.
    """
    return page.write_page(folder, render(card, scores, truth))


def render(card: Mapping[str, Any], scores: Mapping[str, np.ndarray] | None, truth: GroundTruth) -> str:
    """The page; the same card gives the same bytes.

    Args:
        card: what `card.json` holds.
        scores: by ranker [N], larger is better; None where the card does not speak.
    """
    lead = (
        f"{card['architectures']} architectures, {card['seeds']} seeds: test accuracy {card['test_lowest']:.1f} to "
        f"{card['test_highest']:.1f} %, noise ceiling {_number(card['noise_ceiling'])}, rho(validation, test) "
        f"{_number(card['rho_val_test'])}"
    )
    if card["speaks"]:
        columns = [(head, "number" if n else "") for n, head in enumerate(HEADS)]
        body = [page.table("Rankers", columns, _rows(card)), page.paragraph(EXPLANATION)]
    else:
        body = [page.verdict("behind", f"This card does not speak: {card['why']}.")]
    plots = [page.figure(scatter(v, truth.mean, name), "", name) for name, v in (scores or {}).items()]
    sections = [page.section("rankers", "Rankers", *body)]
    if plots:
        sections.append(page.section("scatters", "Scores and accuracies", page.figures(*plots, style="plots")))
    name = str(card.get("level", ""))
    return page.page(f"card {name}".strip(), f"Rank card {name}".strip(), lead, sections)


def _rows(card: Mapping[str, Any]) -> list[page.Row]:
    return [
        page.Row((
            name, _number(row["rho"]), _interval(row["rho_interval"]), _number(row["tau"]), _number(row["top_half"]),
            _number(row["precision_10"]), *(f"{row['regret'][k]:.2f}" for k in ("1", "3", "5")),
            f"{row['cpu_seconds']:.1f}", _interval(card.get("gtn_minus", {}).get(name)),
        ))
        for name, row in sorted(card["rankers"].items(), key=lambda pair: -(pair[1]["rho"] or -2))
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _interval(ends: Sequence[float | None] | None) -> str:
    return "–" if ends is None else " … ".join(map(_number, ends))


def scatter(scores: np.ndarray, accuracy: np.ndarray, title: str) -> Markup:
    """Accuracy [N] against the rank of the score [N], as SVG that takes its colour from the page."""
    x = (rankdata(scores) - 1) / max(1, len(scores) - 1)
    y = (accuracy - accuracy.min()) / max(np.ptp(accuracy), 1e-9)
    inner = SIDE - 2 * EDGE
    dots = "".join(
        f'<circle cx="{EDGE + a * inner:.1f}" cy="{SIDE - EDGE - b * inner:.1f}" r="2.6"/>' for a, b in zip(x, y)
    )
    axes = (
        f'<line x1="{EDGE}" y1="{SIDE - EDGE}" x2="{SIDE - EDGE}" y2="{SIDE - EDGE}"/>'
        f'<line x1="{EDGE}" y1="{EDGE}" x2="{EDGE}" y2="{SIDE - EDGE}"/>'
    )
    words = (
        f'<text x="{SIDE / 2}" y="{SIDE - 8}" text-anchor="middle">rank of the score</text>'
        f'<text x="4" y="{EDGE - 8}">test {accuracy.max():.1f} %</text>'
        f'<text x="4" y="{SIDE - 14}">{accuracy.min():.1f}</text>'
    )
    frame = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return frame.format(SIDE, SIDE, title, Markup(axes + dots + words))


def figure(card: Mapping[str, Any], scores: Mapping[str, np.ndarray], truth: GroundTruth, columns: int = 4) -> Figure:
    """The same scatters as one picture, the best rho first; a ranker that gives all the same score has none.

    Args:
        card: what `card.json` holds.
        scores: by ranker [N], larger is better.
        truth: of the same architectures.
        columns: scatters side by side.
    """
    from matplotlib.figure import Figure

    rho = {name: row["rho"] for name, row in card["rankers"].items() if row["rho"] is not None}
    names = sorted(rho, key=lambda name: -rho[name])
    rows = -(-len(names) // columns)
    picture = Figure(figsize=(2.2 * columns, 2.1 * rows + 0.3), layout="constrained", facecolor="white")
    for n, name in enumerate(names):
        ax = picture.add_subplot(rows, columns, n + 1)
        ax.scatter(rankdata(scores[name]), truth.mean, s=6, color="#1f6fb4", alpha=0.7, linewidths=0)
        low, high = card["rankers"][name]["rho_interval"]
        ax.set_title(f"{name}\n{rho[name]:.2f} [{low:.2f}, {high:.2f}]", fontsize=7)
        ax.tick_params(labelsize=6)
    picture.supxlabel("rank by score", fontsize=7)
    picture.supylabel("test accuracy of the ground truth, %", fontsize=7)
    return picture
