"""The page of an architecture search: the picked network, how scores went, the retrained candidates."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from raystill.platform.architectures import parse
from raystill.platform.report import page
from raystill.platform.report.curves import Line, chart
from raystill.search.nas.ledger import LedgerRow, standings

COLUMNS = [("architecture", ""), *((name, "number") for name in (
    "score", "steps", "validation %", "test %", "parameters", "FLOPs"))]  # fmt: skip


def write(folder: Path, result: Mapping[str, Any], rows: Sequence[LedgerRow], rankers: Sequence[str]) -> Path:
    """Write `report.html` of a search.

    Args:
        folder: the run folder.
        result: what `result.json` holds.
        rows: of the ledger.
        rankers: the ledger's rankers, the one that trains first.

    Returns:
        The file's path.
    """
    return page.write_page(folder, render(folder.name, result, rows, rankers))


def render(name: str, result: Mapping[str, Any], rows: Sequence[LedgerRow], rankers: Sequence[str]) -> str:
    """The page; the same search gives the same bytes.

    Args:
        result: what `result.json` holds.
        rows: of the ledger.
        rankers: its rankers, the one that trains first.
    """
    pick = result["pick"]
    lead = (
        f"Test accuracy {pick['test']:.2f} %, validation {pick['validation']:.2f} %, of one network; "
        f"{result['candidates']} candidates by {result['searcher']} in the space {result['space']}, seed "
        f"{result['seed']}, ranked by {result['ranker']}."
    )
    retrained = f"Trained on real data: {result['protocol']}. The pick has the best validation accuracy."
    return page.page(name, pick["architecture"], lead, [
        page.section("network", "The network", _picture(pick["architecture"])),
        page.section("search", "The search", _scores(rows, rankers)),
        page.section(
            "retrained", "Retrained candidates", page.paragraph(retrained),
            page.table("Retrained candidates", COLUMNS, map(_row, result["retrained"])),
        ),
    ])  # fmt: skip


def _scores(rows: Sequence[LedgerRow], rankers: Sequence[str]) -> Markup:
    score = standings(rows, rankers)
    index = np.arange(len(score), dtype=float)
    lines = [Line(index, score, style="faint"), Line(index, np.maximum.accumulate(score))]
    words = f"The strong line is the best so far; {len(score)} architectures."
    if len(rankers) > 1:
        words += " A score is the mean of two ranks among all of them: the first ranker's, and the others' together."
    return page.figure(Markup(chart(lines, "Score", "architecture", words, zero=False)), words)


def _row(network: Mapping[str, Any]) -> page.Row:
    test = "stopped" if network["test"] is None else f"{network['test']:.2f}"
    return page.Row((
        Markup("<code>{}</code>").format(network["architecture"]), f"{network['score']:.4g}", f"{network['steps']:,}",
        f"{network['validation']:.2f}", test, f"{network['parameters']:,}", f"{network['flops']:,}",
    ))  # fmt: skip


def _picture(text: str) -> Markup:
    stream = io.StringIO()
    parse(text).draw().savefig(stream, format="svg", metadata={"Date": None})
    return Markup("".join(stream.getvalue().partition("<svg")[1:]))
