"""`raystill cluster check`: check a cluster file offline, before it costs anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from raystill.actors.launch.cluster_file import guards, rules, schema
from raystill.actors.launch.cluster_file.document import Finding, read
from raystill.platform.cli import Parser


def check(path: Path, max_nodes: int = rules.LARGEST_CAP) -> tuple[list[Finding], list[Finding]]:
    """Check a cluster file; nothing is started, asked or written.

    Args:
        max_nodes: the largest `max_workers` to accept.

    Returns:
        What is wrong with the file, in the order of its lines; and, where nothing is, what must still be done here
        before `ray up`.

    Raises:
        ValueError: the file can not be read.
    """
    file, findings = read(path)
    if file is None or findings:  # YAML may read such a file otherwise than it looks
        return sorted(set(findings)), []
    for rule in (schema.of_ray, schema.below, *rules.RULES, *guards.GUARDS):
        findings += rule(file)
    findings += rules.cost(file, max_nodes)
    if not findings:
        findings += schema.of_launcher(file)
    return sorted(set(findings)), [] if findings else sorted(rules.to_do(file))


def cluster(argv: list[str]) -> int:
    """`raystill cluster check FILE`: exit code 0 if the file is accepted, else 2 and a line for each finding."""
    parser = Parser(prog="raystill cluster", description="Work on a cluster file of Ray's launcher.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    text = (
        "Check a cluster file offline, by Ray's own schema and by rules that Ray lacks. "
        "Prints a line for each finding, and exits with 2 if there is one."
    )
    checker = commands.add_parser("check", help="check a cluster file offline", description=text)
    checker.add_argument("file", type=Path, metavar="FILE", help="such as cluster.yaml")
    checker.add_argument(
        "--max-nodes", type=int, default=rules.LARGEST_CAP, metavar="N",
        help="the largest max_workers to accept (default: %(default)s)",
    )  # fmt: skip
    args: argparse.Namespace = parser.parse_args(argv)
    findings, to_do = check(args.file, args.max_nodes)
    for line, wrong, fix in findings:
        print(f"{args.file}:{line}: {wrong}; {fix}")
    if findings:
        return 2
    file, _ = read(args.file)
    cap = file.get("max_workers") if file else None
    print(f"{args.file}: accepted{f', {cap} nodes beside the head at most' if cap else ''}")
    for line, missing, fix in to_do:
        print(f"{args.file}:{line}: before `ray up`: {missing}; {fix}")
    return 0
