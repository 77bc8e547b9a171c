"""`raystill search card`, and what other commands do with the run of a rank card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def command(argv: list[str]) -> int:
    """Write a rank card: JSON, and a page with scatter plots."""
    from raystill.platform.command_line import options
    from raystill.search.card.run import CARD, rank_card
    from raystill.search.card.spec import CardSpec

    text = "Compare rankers of architectures with a ground truth of fully trained networks."
    spec, _ = options.load(CardSpec, "search card", text, argv)
    card, _, folder = rank_card(spec)
    if not card["speaks"]:
        raise ValueError(f"the card does not speak: {card['why']}; {folder / CARD}")
    for name, row in sorted(card["rankers"].items(), key=lambda pair: -(pair[1]["rho"] or -2)):
        print(_line(name, row))
    print(f"  card    {folder / CARD}\n  report  {folder / 'report.html'}")
    return 0


def _line(name: str, row: Mapping[str, Any]) -> str:
    low, high = (float("nan") if v is None else v for v in row["rho_interval"])
    rho, tau, half = (float("nan") if row[k] is None else row[k] for k in ("rho", "tau", "top_half"))
    regret = row["regret"]["1"]
    return (
        f"{name:24s} rho {rho:5.2f} [{low:5.2f}, {high:5.2f}] tau {tau:5.2f} top half {half:5.2f} regret {regret:5.2f}"
    )


def resume(folder: Path, workers: int | str | None = None) -> None:
    """Finish a card that was stopped or killed."""
    from raystill.search.card.run import resume as finish

    finish(folder, workers)


def write_report(folder: Path) -> Path:
    """Write the page of a card again; what is missing of the card is done first."""
    resume(folder)
    return folder / "report.html"
