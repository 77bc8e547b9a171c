"""`raystill search WHAT`: a table of searches as dotted names, so that none of them is imported for another."""

from __future__ import annotations

from raystill.platform import registry
from raystill.platform.cli import Parser, resolved

SEARCHES: dict[str, tuple[str, str]] = {
    "temperature": (
        "raystill.search.temperature.command:command",
        "T and alpha of a distillation, by validation: a surface, a curve for each student width, a recipe",
    ),
    "nas": ("raystill.search.commands:nas", "an architecture, from a space and data to a trained network"),
    "tune": ("raystill.search.tune.run:command", "hyperparameters of a recipe, by Ray Tune"),
    "card": ("raystill.search.commands:card", "judge rankers of architectures by a ground truth"),
}


def search(argv: list[str]) -> int:
    """Dispatch to one of SEARCHES."""
    if not argv or argv[0].startswith("-"):
        parser = Parser(prog="raystill search", description="Search, and judge what a search goes by.")
        parts = parser.add_subparsers(metavar="WHAT")
        for name, (_, text) in SEARCHES.items():
            parts.add_parser(name, help=text, add_help=False)
        parser.parse_args(argv)
        parser.print_help()
        return 0
    if argv[0] not in SEARCHES:
        raise ValueError(f"unknown search {argv[0]!r}; {registry.nearest(argv[0], SEARCHES)}")
    return resolved(SEARCHES[argv[0]][0])(argv[1:]) or 0


def nas(argv: list[str]) -> int:
    """Search an architecture."""
    from raystill.platform.command_line import options
    from raystill.search.nas.run import nas as run
    from raystill.search.nas.spec import NasSpec

    spec, _ = options.load(NasSpec, "search nas", "Search an architecture: score many, train the best.", argv)
    run(spec)
    return 0


def card(argv: list[str]) -> int:
    """Write a rank card: JSON, and a page with scatter plots."""
    from raystill.platform.command_line import options
    from raystill.search.card import run as command
    from raystill.search.card.spec import CardSpec

    text = "Judge rankers of architectures by a ground truth that was trained here once."
    spec, _ = options.load(CardSpec, "search card", text, argv)
    found, _, folder = command.rank_card(spec)
    if not found["speaks"]:
        raise ValueError(f"the card does not speak: {found['why']}; {folder / command.CARD}")
    for name, row in sorted(found["rankers"].items(), key=lambda pair: -(pair[1]["rho"] or -2)):
        low, high = (float("nan") if v is None else v for v in row["rho_interval"])
        rho, tau, half = (float("nan") if row[k] is None else row[k] for k in ("rho", "tau", "top_half"))
        print(f"{name:24s} rho {rho:5.2f} [{low:5.2f}, {high:5.2f}] tau {tau:5.2f} top half {half:5.2f} "
              f"regret {row['regret']['1']:5.2f}")  # fmt: skip
    print(f"  card    {folder / command.CARD}\n  report  {folder / command.PAGE}")
    return 0
