"""`raystill search WHAT`: a table of searches as dotted names, so that one is imported without the others."""

from __future__ import annotations

from raystill.platform import registry
from raystill.platform.cli import Parser, resolved

SEARCHES: dict[str, tuple[str, str]] = {
    "temperature": (
        "raystill.search.temperature.command:command",
        "T and alpha of a distillation, by validation: a surface, a curve for each student width, a recipe",
    ),
    "nas": ("raystill.search.nas.command:command", "an architecture, from a space and data to a trained network"),
    "tune": ("raystill.search.tune.command:command", "hyperparameters of a recipe, by Ray Tune"),
    "card": ("raystill.search.card.command:command", "compare rankers of architectures with a ground truth"),
}


def search(argv: list[str]) -> int:
    """Dispatch to one of SEARCHES."""
    if not argv or argv[0].startswith("-"):
        parser = Parser(
            prog="raystill search", description="Search, and compare the rankers that a search may score with."
        )
        parts = parser.add_subparsers(metavar="WHAT")
        for name, (_, text) in SEARCHES.items():
            parts.add_parser(name, help=text, add_help=False)
        parser.parse_args(argv)
        parser.print_help()
        return 0
    if argv[0] not in SEARCHES:
        raise ValueError(f"unknown search {argv[0]!r}; {registry.nearest(argv[0], SEARCHES)}")
    return resolved(SEARCHES[argv[0]][0])(argv[1:]) or 0
