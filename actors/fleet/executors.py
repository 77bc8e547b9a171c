"""Where items are computed: in this process, or by evaluators on a Ray cluster; one interface.

An executor computes and reports; it decides nothing. Retries, copies, order and the commit log belong to the crew,
which owns the items.
"""

from __future__ import annotations

import os
from collections import deque
from typing import Any, NamedTuple, Protocol

from raystill.actors.faults import Schedule, inject
from raystill.actors.fleet.evaluator import compute
from raystill.actors.messages import Arrays, Outcome, WorkItem
from raystill.actors.server.backends import InProcessBackend
from raystill.actors.server.shards import Handle, Shards, join, split
from raystill.platform import registry
from raystill.platform.data import DataSet
from raystill.platform.spec import DistillSpec
from raystill.platform.work.workbench import Workbench


class Straggler(NamedTuple):
    """An item that is being computed while an evaluator has nothing to do."""

    item: WorkItem
    evaluator: int
    seconds: float


class Executor(Protocol):
    """What the crew needs of a place to compute, and the parameter server that is there.

    Attributes:
        server: all its shards.
    """

    server: Shards

    def put(self, arrays: Arrays) -> Handle:
        """Arrays as a handle that items can take as input."""

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item; `avoid` names an evaluator that should not have it, where there is another."""

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """The next outcome with its arrays, or None after `timeout` seconds."""

    def stragglers(self) -> list[Straggler]:
        """Items in flight, where the queue is empty and an evaluator idle; else none."""

    def quarantine(self, number: int) -> None:
        """An evaluator that computed what others did not: its process is not used again."""

    def forget(self) -> None:
        """Drop what is queued; answers of what is in flight are to be ignored."""

    @property
    def capacity(self) -> int:
        """Items that can be in flight together."""

    def status(self) -> list[dict[str, Any]]:
        """One row per evaluator: number, node, device, state, items in flight."""

    def close(self) -> None:
        """Give back what was started."""


class InProcessExecutor:
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
        self.server = Shards(InProcessBackend(spec.outer, groups), spec.outer.shards)
        self._queue: deque[tuple[WorkItem, Handle]] = deque()
        self._faults = faults or Schedule()

    def put(self, arrays: Arrays) -> Handle:
        """The arrays themselves."""
        return Handle((arrays,))

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item; there is no other process to give it to."""
        self._queue.append((item, inputs))

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """Compute the oldest item, now."""
        if not self._queue:
            return None
        item, inputs = self._queue.popleft()
        fault = self._faults.take("evaluator", item.version, -1)
        outcome, arrays = inject(fault, lambda: compute(self._bench, -1, item, join(inputs.cut, inputs.parts)))
        return outcome, Handle(split(inputs.cut, arrays), inputs.cut)

    def stragglers(self) -> list[Straggler]:
        """None: there is no second evaluator."""
        return []

    def quarantine(self, number: int) -> None:
        """There is no other process."""

    def forget(self) -> None:
        """Drop what is queued."""
        self._queue.clear()

    @property
    def capacity(self) -> int:
        """One computes; one more waits, as at an evaluator."""
        return 2

    def status(self) -> list[dict[str, Any]]:
        """This process."""
        return [{"evaluator": -1, "node": "here", "device": self._bench.device.type, "state": "computing",
                 "pid": os.getpid(), "in_flight": len(self._queue)}]  # fmt: skip

    def close(self) -> None:
        """Nothing was started."""
