"""The rank card as a page: a table, and the scatter of scores' ranks against truth for each ranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raystill.platform import report
from raystill.search.ranking.ground_truth import GroundTruth
from raystill.search.ranking.statistics import ranked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, EDGE = 220, 26
STYLE = """.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:1rem}
.plots svg{width:100%;height:auto}.plots circle{fill:currentColor;opacity:.55}
.plots line{stroke:currentColor;opacity:.4}
.plots text{font-size:10px;fill:currentColor}td.number,th.number{text-align:right;padding:0 .6rem}"""


def scatter(scores: np.ndarray, truth: np.ndarray, title: str) -> str:
    """GroundTruth against the rank of the score, as SVG that takes its colour from the page."""
    x = (ranked(scores) - 1) / max(1, len(scores) - 1)
    y = (truth - truth.min()) / max(np.ptp(truth), 1e-9)
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
        f'<text x="4" y="{EDGE - 8}">test {truth.max():.1f} %</text>'
        f'<text x="4" y="{SIDE - 14}">{truth.min():.1f}</text>'
    )
    return f'<svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{escape(title)}">{axes}{dots}{words}</svg>'


def figure(card: Mapping[str, Any], scores: Mapping[str, np.ndarray], truth: GroundTruth, columns: int = 4) -> Figure:
    """The same scatters as one picture, the best rho first; a ranker that gives all the same score has none."""
    from matplotlib.figure import Figure

    told = {name: row["rho"] for name, row in card["rankers"].items() if row["rho"] is not None}
    names = sorted(told, key=lambda name: -told[name])
    rows = -(-len(names) // columns)
    found = Figure(figsize=(2.2 * columns, 2.1 * rows + 0.3), layout="constrained", facecolor="white")
    for n, name in enumerate(names):
        ax = found.add_subplot(rows, columns, n + 1)
        ax.scatter(ranked(scores[name]), truth.mean, s=6, color="#1f6fb4", alpha=0.7, linewidths=0)
        low, high = card["rankers"][name]["rho_interval"]
        ax.set_title(f"{name}\n{told[name]:.2f} [{low:.2f}, {high:.2f}]", fontsize=7)
        ax.tick_params(labelsize=6)
    found.supxlabel("rank by score", fontsize=7)
    found.supylabel("test accuracy of the ground truth, %", fontsize=7)
    return found


def page(card: Mapping[str, Any], scores: Mapping[str, np.ndarray] | None, truth: GroundTruth) -> str:
    """One self-contained page."""
    css = (Path(report.__file__).parent / "page.css").read_text(encoding="utf-8") + STYLE
    lead = (
        f"{card['architectures']} architectures, {card['seeds']} seeds: test accuracy {card['test_lowest']:.1f} to "
        f"{card['test_highest']:.1f} %, noise ceiling {_two(card['noise_ceiling'])}, rho(validation, test) "
        f"{_two(card['rho_val_test'])}"
    )
    body = _table(card) if card["speaks"] else f"<p class='verdict behind'>This card does not speak: {card['why']}.</p>"
    plots = "".join(
        f"<figure><h3>{escape(name)}</h3>{scatter(values, truth.mean, name)}</figure>"
        for name, values in (scores or {}).items()
    )
    name = escape(str(card.get("level", "")))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>Rank card {name}</title><style>{css}</style></head><body><header>'
        f"<p class='kicker'>raystill</p><h1>Rank card {name}</h1><p class='lead'>{lead}</p></header><main>{body}"
        f"<div class='plots'>{plots}</div></main></body></html>\n"
    )


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _both(interval: Sequence[float | None] | None) -> str:
    return "–" if interval is None else " … ".join(map(_two, interval))


def _table(card: Mapping[str, Any]) -> str:
    heads = ("rho", "95 %", "tau", "top half", "precision 10 %", "regret 1", "3", "5", "CPU s", "gtn minus it, 95 %")
    rows = []
    for name, row in sorted(card["rankers"].items(), key=lambda pair: -(pair[1]["rho"] or -2)):
        cells = [
            _two(row["rho"]), _both(row["rho_interval"]), _two(row["tau"]), _two(row["top_half"]),
            _two(row["precision_10"]), *(f"{row['regret'][k]:.2f}" for k in ("1", "3", "5")),
            f"{row['cpu_seconds']:.1f}", _both(card.get("gtn_minus", {}).get(name)),
        ]  # fmt: skip
        rows.append(f"<tr><th scope=row>{escape(name)}</th>" + "".join(f"<td class=number>{c}</td>" for c in cells))
    head = "".join(f"<th scope=col class=number>{h}</th>" for h in heads)
    return (
        f"<div class=scroll><table><thead><tr><th scope=col>ranker</th>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div><p class=words>Regret in points of test accuracy among the best "
        "1, 3 and 5 picks; intervals by the paired bootstrap over architectures, those of the last "
        "column of the difference of rho: one that leaves out 0 tells two rankers apart.</p>"
    )
