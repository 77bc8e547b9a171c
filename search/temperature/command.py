"""`raystill search temperature`, and what other commands do with the run of a temperature search."""

from __future__ import annotations

import time
from pathlib import Path


def command(argv: list[str]) -> int:
    """Search for T and alpha."""
    from raystill.platform import runs
    from raystill.platform.command_line import options
    from raystill.search.temperature.run import carry_out, prepare
    from raystill.search.temperature.spec import TemperatureSpec

    text = (
        "Search for the temperature and the mixing of a distillation. Without --recipe or --config: the recipe "
        "`temperature-digits`, which needs no data and no network."
    )
    spec, _ = options.load(TemperatureSpec, "search temperature", text, argv, default="temperature-digits")
    began = time.monotonic()
    spec, plan = prepare(spec)
    folder = runs.create(spec, "search temperature", "temperature")
    _close(folder, carry_out(spec, plan, folder), time.monotonic() - began)
    return 0


def resume(folder: Path, workers: int | str | None = None) -> int:
    """Finish a search that was stopped or killed."""
    from raystill.search.temperature.run import resume as finish

    began = time.monotonic()
    _close(folder, finish(folder, workers), time.monotonic() - began)
    return 0


def write_report(folder: Path) -> Path:
    """Write the page of a search again; what is missing of the search is done first."""
    from raystill.search.temperature.run import resume as finish

    finish(folder, None)
    return folder / "report.html"


def _close(folder: Path, result: dict[str, object], seconds: float) -> None:
    from raystill.search.temperature.page import table

    print("\n".join(table(result)))
    print(f"done in {seconds:.0f} s\n  recipe  {folder}/recipe*.yaml\n  report  {folder / 'report.html'}")
