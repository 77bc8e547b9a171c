"""A search's report: how the scores went, and the retrained candidates."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from raystill.platform import report
from raystill.platform.architectures import parse
from raystill.platform.files.storage import write_whole
from raystill.platform.report.curves import Line, chart
from raystill.search.nas.ledger import standings


def write(folder: Path, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Path:
    """`report.html` of a search."""
    path = folder / "report.html"
    write_whole(path, render(folder.name, result, rows).encode())
    return path


def render(name: str, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """One self-contained page."""
    css = (Path(report.__file__).parent / "page.css").read_text(encoding="utf-8")
    pick, text = result["pick"], escape(result["pick"]["architecture"])
    score = standings(rows)
    index = np.arange(len(score), dtype=float)
    lines = [Line(index, score, style="faint"), Line(index, np.maximum.accumulate(score))]
    words = f"The strong line is the best so far; {len(score)} architectures."
    if " + " in result["ranker"]:
        words += " A score is the mean of two ranks among all of them: the first ranker's, and the others' together."
    curve = chart(lines, "Score", "architecture", words, zero=False)
    cells = "".join(
        f"<tr><th scope=row><code>{escape(f['architecture'])}</code></th><td class=number>{f['score']:.4g}</td>"
        f"<td class=number>{f['steps']:,}</td><td class=number>{f['validation']:.2f}</td>"
        f"<td class=number>{'stopped' if f['test'] is None else format(f['test'], '.2f')}</td>"
        f"<td class=number>{f['parameters']:,}</td><td class=number>{f['flops']:,}</td></tr>"
        for f in result["retrained"]
    )
    heads = "".join(f"<th scope=col>{h}</th>" for h in
                    ("network", "score", "steps", "validation %", "test %", "parameters", "FLOPs"))  # fmt: skip
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><title>{escape(name)}</title><style>{css}</style></head><body><header>'
        f"<p class=kicker>raystill · {escape(name)}</p><h1>{text}</h1>"
        f"<p class=lead>Test accuracy {pick['test']:.2f} %, "
        f"validation {pick['validation']:.2f} %, of one network; {result['candidates']} candidates by "
        f"{escape(result['searcher'])} in the space {escape(result['space'])}, seed {result['seed']}, "
        f"ranked by {escape(result['ranker'])}.</p></header>"
        f"<main>"
        f"<section><h2>The network</h2>{_picture(pick['architecture'])}</section>"
        f"<section><h2>The search</h2><figure>{curve}<figcaption>{words}</figcaption></figure></section>"
        f"<section><h2>Retrained candidates</h2><p class=words>Trained on real data: {escape(result['protocol'])}. "
        f"The pick has the best validation accuracy.</p><div class=scroll><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{cells}</tbody></table></div></section></main></body></html>\n"
    )


def _picture(text: str) -> str:
    stream = io.StringIO()
    parse(text).draw().savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue().partition("<svg")[1] + stream.getvalue().partition("<svg")[2]
