"""Executors compute work items: the interface, and the executor in this process (`ray_executor` has the other one).

An executor decides nothing: retries, copies, order and the commit log belong to the crew, which owns the items.
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
    """An item that is still being computed, for `seconds` so far, while another evaluator is idle."""

    item: WorkItem
    evaluator: int
    seconds: float


class Executor(Protocol):
    """Computes items, beside a parameter server."""

    server: Shards

    def put(self, arrays: Arrays) -> Handle:
        """A handle of arrays, which items can take as input."""

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item; the evaluator `avoid` gets it only if there is no other."""

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """The next outcome and its arrays, or None after `timeout` seconds."""

    def stragglers(self) -> list[Straggler]:
        """The items in flight, where the queue is empty and an evaluator idle; else none."""

    def quarantine(self, number: int) -> None:
        """Stop using the process of an evaluator, which failed at an item that another one computed."""

    def forget(self) -> None:
        """Drop what is queued; the caller ignores the answers of what is in flight."""

    @property
    def capacity(self) -> int:
        """The number of items that can be in flight."""

    def status(self) -> list[dict[str, Any]]:
        """One row for each evaluator: number, node, device, state, items in flight."""

    def close(self) -> None:
        """End what was started."""


class InProcessExecutor:
    """Computes in this process, in the order of submission: for tests, debugging, and a GPU without Ray."""

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
        """Queue an item."""
        self._queue.append((item, inputs))

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """Compute the oldest item."""
        if not self._queue:
            return None
        item, inputs = self._queue.popleft()
        fault = self._faults.take("evaluator", item.version, -1)
        outcome, arrays = inject(fault, lambda: compute(self._bench, -1, item, join(inputs.cut, inputs.parts)))
        return outcome, Handle(split(inputs.cut, arrays), inputs.cut)

    def stragglers(self) -> list[Straggler]:
        """Always empty: there is no second evaluator."""
        return []

    def quarantine(self, number: int) -> None:
        """Nothing: there is no other process."""

    def forget(self) -> None:
        """Drop what is queued."""
        self._queue.clear()

    @property
    def capacity(self) -> int:
        """Two: one item is computed, and one waits."""
        return 2

    def status(self) -> list[dict[str, Any]]:
        """One row, for this process."""
        return [{"evaluator": -1, "node": "here", "device": self._bench.device.type, "state": "computing",
                 "pid": os.getpid(), "in_flight": len(self._queue)}]  # fmt: skip

    def close(self) -> None:
        """Nothing: nothing was started."""
