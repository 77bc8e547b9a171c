"""`raystill attach` and `pull`: to follow a run from a second terminal, and to bring one home."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raystill.actors import cluster
from raystill.actors.drive import guard, mirror
from raystill.actors.drive.session import STATUS
from raystill.platform.cli import Parser
from raystill.platform.files.storage import Storage, is_remote, plain

_SILENT = 30.0
"""Seconds without news after which a run is said to be silent."""


def _source(run: str, address: str | None) -> Callable[[], dict[str, Any]]:
    """A function that reads a run's newest status, from its folder or from its driver's board in a cluster.

    Raises:
        ValueError: neither is there.
    """
    file = Path(run) / STATUS
    if not is_remote(run) and address is None:
        if not file.is_file():
            raise ValueError(
                f"{run} is no run that tells a status: {file} is not there; elsewhere in a cluster: --address"
            )
        return lambda: dict(json.loads(file.read_text()))
    cluster.connect(address, None)
    root = Storage(run).root if is_remote(run) else str(Path(run).absolute())
    board = guard.find_board(root)
    if board is None:
        raise ValueError(f"no driver in this cluster is working on {run.split('?')[0]}")
    import ray

    return lambda: dict(ray.get(board.status.remote(), timeout=10))


def lines(status: dict[str, Any]) -> Iterator[str]:
    """A status as text: one line for the run, one for each evaluator."""
    parts = [f"{status['run']}  {status.get('state', '-')}  step {status.get('step', 0)}/{status.get('steps', '-')}"]
    if status.get("validation") is not None:
        parts.append(f"validation {status['validation']:.1f} %")
    parts += [f"{n} {why}" for why, n in sorted(status.get("retries", {}).items())]
    parts += [f"copies {status['copies']}"] if status.get("copies") else []
    yield "  ".join(parts)
    for row in status["evaluators"]:
        rate = f"{row['members_per_second']:.1f} members/s" if row.get("members_per_second") else ""
        lost = f"lost {row['losses']} times" if row.get("losses") else ""
        parts = [f"  evaluator {row['evaluator']}", f"{row['node']} {row['device']}", row["state"], rate, lost]
        yield "  ".join(part for part in parts if part)


def attach(argv: list[str]) -> int:
    """Follow a run until it ends or is stopped."""
    parser = Parser(prog="raystill attach", description="Follow a run from a second terminal; Ctrl-C leaves it alone.")
    parser.add_argument("run", metavar="RUN", help="the run's folder, or its URI in a storage")
    parser.add_argument("--address", help="Ray cluster in which the run's driver is; none reads the folder")
    parser.add_argument("--once", action="store_true", help="print the status once and stop")
    args = parser.parse_args(argv)
    read, shown = _source(args.run, args.address), 0.0
    while True:
        status = read()
        if status and status["time"] > shown:
            shown = status["time"]
            print("\n".join(lines(status)), flush=True)
        if args.once or (status and status.get("state") in ("done", "stopped")):
            return 0
        if shown and time.time() - shown > _SILENT:
            print(
                f"no news for {time.time() - shown:.0f} s: its driver is busy with one long step, or dead", flush=True
            )
            return 1
        time.sleep(2.0)


def pull(argv: list[str]) -> int:
    """Bring a run home from its storage."""
    parser = Parser(prog="raystill pull", description="Bring a run from its storage into a folder here.")
    parser.add_argument("run", metavar="RUN", help="the run's name, or its whole URI")
    parser.add_argument("--storage", metavar="URI", help="storage that the run was given (run.storage)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder that run folders lie in (default: runs)")
    args = parser.parse_args(argv)
    if not args.storage and not is_remote(args.run):
        raise ValueError(f"{args.run} is a name: say where with --storage URI, or give the run's whole URI")
    storage = Storage(args.storage).under(args.run) if args.storage else Storage(args.run)
    name = plain(args.run if args.storage else args.run.partition("?")[0].rstrip("/").rpartition("/")[2])
    written = mirror.pull(storage, args.out / name)
    print(f"{args.out / name}: {len(written)} files")
    return 0
