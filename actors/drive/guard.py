"""Three guards keep a run to one driver: a lock (`runs.locked`), a named Ray actor, an epoch in the run's storage.

The lock and the actor die with their process, so a killed driver leaves nothing behind that a resume has to break.
The epoch is for drivers that share only the storage, after a network split, say: the highest wins, and the other stops
at its next checkpoint. It is best effort, since object stores differ in whether they compare before they write.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from typing import Any

from raystill.platform.files.storage import Storage

EPOCH = "epoch.json"
NAMESPACE = "raystill"
_PATIENCE = 15.0  # seconds in which a cluster notices that a killed driver's actor is gone


class Superseded(ValueError):
    """Another driver has taken this run over."""


class Epoch:
    """This driver's number among those that worked on a run."""

    def __init__(self, storage: Storage) -> None:
        """Take the next number."""
        self._storage = storage
        self.number = self._read() + 1
        storage.write(
            EPOCH, json.dumps({"epoch": self.number, "host": os.uname().nodename, "pid": os.getpid()}).encode()
        )

    def _read(self) -> int:
        try:
            return int(json.loads(self._storage.read(EPOCH, 10_000))["epoch"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def check(self) -> None:
        """Raises Superseded if a later driver has begun."""
        if (newest := self._read()) > self.number:
            raise Superseded(
                f"another driver took this run over (its epoch {newest}, ours {self.number}); this one stops"
            )


class Board:
    """Ray actor that a run's driver owns: its name keeps a second driver away, its status is what `attach` shows."""

    def __init__(self) -> None:
        self._status: dict[str, Any] = {}

    def post(self, status: dict[str, Any]) -> None:
        """The newest status."""
        self._status = status

    def status(self) -> dict[str, Any]:
        """The status posted last."""
        return self._status


def board_name(root: str) -> str:
    """Name of the board of the run at a storage root."""
    return f"run-{hashlib.sha256(root.split('?')[0].encode()).hexdigest()[:24]}"


def find_board(root: str) -> Any | None:
    """The board of a run that is being worked on in the connected cluster, or None."""
    import ray

    with suppress(ValueError):
        return ray.get_actor(board_name(root), namespace=NAMESPACE)
    return None


def claim_board(root: str) -> Any:
    """Make the run's board.

    Raises:
        ValueError: a driver in this cluster has one, and lives.
    """
    import ray

    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return ray.remote(Board).options(name=board_name(root), namespace=NAMESPACE, num_cpus=0).remote()
        except ValueError:  # the name is taken; a killed driver's actor goes after a moment
            other = find_board(root)
            if other is not None:
                with suppress(ray.exceptions.RayError):
                    ray.get(other.status.remote(), timeout=5)
                    if time.monotonic() > end:
                        raise ValueError(
                            "another driver in this cluster is working on this run; follow it with `raystill attach`"
                        ) from None
            if time.monotonic() > end + _PATIENCE:
                raise ValueError("the cluster still holds the board of an earlier driver of this run") from None
            time.sleep(0.5)


def drop_board(board: Any) -> None:
    """End a run's board: who resumes it in the same process must not wait for a traceback to let go of it."""
    import ray

    if ray.is_initialized():  # else Ray would start a cluster only to end an actor that is gone
        with suppress(ray.exceptions.RayError):
            ray.kill(board)
