"""Where items are computed: in this process, or by evaluators on a Ray cluster; one interface.

An executor computes and reports; it decides nothing. Retries, copies, order and the commit log belong to the crew,
which owns the items. A *handle* stands for arrays: the arrays themselves in this process, a reference into the object
store on Ray.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from raystill.actors.evaluator import compute
from raystill.actors.faults import Schedule, around
from raystill.actors.messages import Arrays, Outcome, WorkItem
from raystill.actors.parameter_server import Facts, ParameterServer
from raystill.platform import registry
from raystill.platform.data import DataSet
from raystill.platform.spec import DistillSpec
from raystill.platform.workbench import Workbench

Handle = Any


class ServerLost(RuntimeError):
    """The parameter server, or arrays that only it could make again, are gone; the newest checkpoint is the way on."""


class Late(NamedTuple):
    """An item that is being computed while an evaluator has nothing to do."""

    item: WorkItem
    evaluator: int
    seconds: float


class Executor(Protocol):
    """What the crew needs of a place to compute."""

    def put(self, arrays: Arrays) -> Handle:
        """Arrays as a handle that items can take as input."""

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item; `avoid` names an evaluator that should not have it, where there is another."""

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """The next outcome with its arrays, or None after `timeout` seconds."""

    def late(self) -> list[Late]:
        """Items in flight, where the queue is empty and an evaluator idle; else none."""

    def quarantine(self, number: int) -> None:
        """An evaluator that computed what others did not: its process is not used again."""

    def forget(self) -> None:
        """Drop what is queued; answers of what is in flight are to be ignored."""

    def restart_server(self) -> None:
        """A new parameter server in place of a lost one; it has no state."""

    @property
    def capacity(self) -> int:
        """Items that can be in flight together."""

    def kill_server(self) -> None:
        """End the server as a crash would: for fault injection."""

    def call(self, method: str, *args: Any) -> Any:
        """A parameter server's method that returns no arrays.

        Raises:
            ServerLost: it is gone.
        """

    def arrays(self, method: str, *args: Any) -> tuple[Facts, Handle]:
        """A parameter server's method that returns (facts, arrays); handles among `args` are resolved there."""

    def later(self, method: str, *args: Any) -> tuple[Callable[[], Facts], Handle]:
        """As `arrays`, without waiting: the facts are a function that waits, the handle can be used at once."""

    def fetch(self, handle: Handle) -> Arrays:
        """The arrays behind a handle, here."""

    def status(self) -> list[dict[str, Any]]:
        """One row per evaluator: number, node, device, state, items in flight."""

    def close(self) -> None:
        """Give back what was started."""


class InProcess:
    """Computes in this process, in the order of submission: for tests, debugging, and GPUs without Ray."""

    def __init__(
        self,
        spec: DistillSpec,
        groups: dict[str, str],
        plugins: registry.Plugins | None,
        data: DataSet,
        faults: Schedule | None = None,
    ) -> None:
        self._bench = Workbench(spec, plugins, data)
        self._make_server = lambda: ParameterServer(spec.outer.model_dump(), groups)
        self._server, self._dead = self._make_server(), False
        self._queue: deque[tuple[WorkItem, Handle]] = deque()
        self._faults = faults or Schedule()

    def put(self, arrays: Arrays) -> Handle:
        """The arrays themselves."""
        return arrays

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item; there is no other process to give it to."""
        self._queue.append((item, inputs))

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """Compute the oldest item, now."""
        if not self._queue:
            return None
        item, inputs = self._queue.popleft()
        fault = self._faults.take("evaluator", item.version, -1)
        return around(fault, lambda: compute(self._bench, -1, item, inputs))

    def late(self) -> list[Late]:
        """None: there is no second evaluator."""
        return []

    def quarantine(self, number: int) -> None:
        """There is no other process."""

    def forget(self) -> None:
        """Drop what is queued."""
        self._queue.clear()

    def restart_server(self) -> None:
        """A server without a state."""
        self._server, self._dead = self._make_server(), False

    @property
    def capacity(self) -> int:
        """One computes; one more waits, as at an evaluator."""
        return 2

    def kill_server(self) -> None:
        """Lose the server's state."""
        self._dead = True

    def call(self, method: str, *args: Any) -> Any:
        """A method of the server."""
        if self._dead:
            raise ServerLost(f"the parameter server is gone at {method}")
        return getattr(self._server, method)(*args)

    def arrays(self, method: str, *args: Any) -> tuple[Facts, Handle]:
        """A method of the server that returns (facts, arrays)."""
        facts, arrays = self.call(method, *args)
        return facts, arrays

    def later(self, method: str, *args: Any) -> tuple[Callable[[], Facts], Handle]:
        """As `arrays`: there is no one to wait for."""
        facts, arrays = self.arrays(method, *args)
        return (lambda: facts), arrays

    def fetch(self, handle: Handle) -> Arrays:
        """The arrays themselves."""
        arrays: Arrays = handle
        return arrays

    def status(self) -> list[dict[str, Any]]:
        """This process."""
        return [{"evaluator": -1, "node": "here", "device": self._bench.device.type, "state": "computing",
                 "pid": os.getpid(), "in_flight": len(self._queue)}]  # fmt: skip

    def close(self) -> None:
        """Nothing was started."""
