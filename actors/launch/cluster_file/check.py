"""`raystill cluster check`: a cluster file judged offline, before it costs anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from raystill.actors.launch.cluster_file import guards, rules, schema
from raystill.actors.launch.cluster_file.document import ClusterFile, Finding, read
from raystill.platform.cli import Parser


def check(path: Path, max_nodes: int = rules.LARGEST_CAP) -> tuple[list[Finding], list[Finding]]:
    """Judge a cluster file; nothing is started, asked or written.

    Returns:
        What is wrong with it, in the order of its lines; and, where nothing is, what it still waits for here.

    Raises:
        ValueError: the file can not be read.
    """
    file, found = read(path)
    if file is None or found:  # the rest could be wrong about a file that YAML reads otherwise than it looks
        return sorted(set(found)), []
    found += schema.of_ray(file)
    found += schema.below(file)
    for rule in (*rules.RULES, *guards.GUARDS):
        found += rule(file)
    found += rules.cost(file, max_nodes)
    if not found:
        found += schema.last_word(file)
    return sorted(set(found)), [] if found else sorted(rules.to_do(file))


def _describe(file: ClusterFile | None) -> str:
    """The bound on cost, in one clause."""
    return f"{file.get('max_workers')} nodes beside the head at most" if file and file.get("max_workers") else ""


def cluster(argv: list[str]) -> int:
    """`raystill cluster check FILE`: exit code 0 when the file is accepted, 2 with a line for each finding."""
    parser = Parser(prog="raystill cluster", description="Work on a cluster file of Ray's launcher.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    text = (
        "Judge a cluster file offline: Ray's own schema, and what Ray lets pass. A line for each finding, and exit 2."
    )
    checker = commands.add_parser("check", help="judge a cluster file offline", description=text)
    checker.add_argument("file", type=Path, metavar="FILE", help="such as cluster.yaml")
    checker.add_argument(
        "--max-nodes", type=int, default=rules.LARGEST_CAP, metavar="N",
        help="the largest max_workers to accept (default: %(default)s)",
    )  # fmt: skip
    args: argparse.Namespace = parser.parse_args(argv)
    found, waits = check(args.file, args.max_nodes)
    for line, wrong, fix in found:
        print(f"{args.file}:{line}: {wrong}; {fix}")
    if found:
        return 2
    cap = _describe(read(args.file)[0])
    before = "".join(f"\n{args.file}:{line}: before `ray up`: {what}; {fix}" for line, what, fix in waits)
    print(f"{args.file}: accepted{f', {cap}' if cap else ''}{before}")
    return 0
