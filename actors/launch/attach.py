"""`raystill attach` follows a run from a second terminal; `raystill pull` copies a run out of its storage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raystill.actors import cluster
from raystill.actors.drive import guard
from raystill.actors.drive.session import STATUS
from raystill.actors.record import mirror
from raystill.platform.cli import Parser
from raystill.platform.files.storage import Storage, is_remote, plain

SILENT_SECONDS = 30.0
"""Seconds without a new status after which `attach` gives up."""


def _source(run: str, address: str | None) -> Callable[[], dict[str, Any]]:
    """A function that reads a run's newest status, from its folder or from its driver's board in a Ray cluster.

    Raises:
        ValueError: there is neither.
    """
    file = Path(run) / STATUS
    if not is_remote(run) and address is None:
        if not file.is_file():
            raise ValueError(f"{run} has no {STATUS}; if its driver runs in a Ray cluster, name that with --address")
        return lambda: dict(json.loads(file.read_text()))
    cluster.connect(address, None)
    root = Storage(run).root if is_remote(run) else str(Path(run).absolute())
    board = guard.find_board(root)
    if board is None:
        raise ValueError(f"no driver in this cluster is working on {run.split('?')[0]}")
    import ray

    return lambda: dict(ray.get(board.status.remote(), timeout=10))


def lines(status: dict[str, Any]) -> Iterator[str]:
    """A status as text: a line for the run, then one for each evaluator."""
    parts = [f"{status['run']}  {status.get('state', '-')}  step {status.get('step', 0)}/{status.get('steps', '-')}"]
    if status.get("validation") is not None:
        parts.append(f"validation {status['validation']:.1f} %")
    parts += [f"{count} {reason}" for reason, count in sorted(status.get("retries", {}).items())]
    parts += [f"copies {status['copies']}"] if status.get("copies") else []
    yield "  ".join(parts)
    for row in status["evaluators"]:
        rate = f"{row['members_per_second']:.1f} members/s" if row.get("members_per_second") else ""
        lost = f"lost {row['losses']} times" if row.get("losses") else ""
        parts = [f"  evaluator {row['evaluator']}", f"{row['node']} {row['device']}", row["state"], rate, lost]
        yield "  ".join(part for part in parts if part)


def attach(argv: list[str]) -> int:
    """Follow a run until it ends or is stopped."""
    parser = Parser(
        prog="raystill attach",
        description="Follow a run from a second terminal. Ctrl-C stops the following, not the run.",
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder, or its URI in a storage")
    parser.add_argument("--address", help="the Ray cluster of the run's driver; default: read the run's folder")
    parser.add_argument("--once", action="store_true", help="print the status once and stop")
    args = parser.parse_args(argv)
    read, printed = _source(args.run, args.address), 0.0
    while True:
        status = read()
        if status and status["time"] > printed:
            printed = status["time"]
            print("\n".join(lines(status)), flush=True)
        if args.once or (status and status.get("state") in ("done", "stopped")):
            return 0
        if printed and time.time() - printed > SILENT_SECONDS:
            print(
                f"no status for {time.time() - printed:.0f} s: the driver is dead, or busy with one long step",
                flush=True,
            )
            return 1
        time.sleep(2.0)


def pull(argv: list[str]) -> int:
    """Copy a run from its storage into a folder here."""
    parser = Parser(prog="raystill pull", description="Copy a run from its storage into a folder here.")
    parser.add_argument("run", metavar="RUN", help="the run's name, or its whole URI")
    parser.add_argument("--storage", metavar="URI", help="the run's storage (run.storage)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="parent of the new folder (default: runs)")
    args = parser.parse_args(argv)
    if not args.storage and not is_remote(args.run):
        raise ValueError(f"{args.run} is a name without a storage; add --storage URI, or give the run's whole URI")
    storage = Storage(args.storage).under(args.run) if args.storage else Storage(args.run)
    name = plain(args.run if args.storage else args.run.partition("?")[0].rstrip("/").rpartition("/")[2])
    written = mirror.pull(storage, args.out / name)
    print(f"{args.out / name}: {len(written)} files")
    return 0
