"""`raystill search nas`, and what other commands do with the run of an architecture search."""

from __future__ import annotations

from pathlib import Path


def command(argv: list[str]) -> int:
    """Search an architecture."""
    from raystill.platform.command_line import options
    from raystill.search.nas.run import search_architecture
    from raystill.search.nas.spec import NasSpec

    spec, _ = options.load(NasSpec, "search nas", "Search an architecture: score many, train the best.", argv)
    search_architecture(spec)
    return 0


def resume(folder: Path, workers: int | str | None = None) -> None:
    """Finish a search that was stopped or killed."""
    from raystill.search.nas.run import resume as finish

    finish(folder, workers)


def write_report(folder: Path) -> Path:
    """Write the page of a search again; what is missing of the search is done first."""
    resume(folder)
    return folder / "report.html"


def replay(folder: Path) -> int:
    """Compute a finished search's scores and networks again; 0 where none differs."""
    from raystill.search.nas.replay import replay as compute_again

    return compute_again(folder)
