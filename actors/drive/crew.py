"""The crew owns work items until their results are committed: it retries, copies, checks twice and logs them.

It treats items of all kinds alike.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from raystill.actors.fleet.executors import Executor
from raystill.actors.messages import Outcome, WorkItem
from raystill.actors.record.commit_log import CommitLog
from raystill.actors.server.shards import Handle

LOSSES = 3
"""Evaluators that one item may take down before it is named and the run stops."""

PATIENCE = 3.0
"""Times the median of its kind that an item may take before a copy of it is started at an idle evaluator."""

LEAST_PATIENCE = 1.0
"""Seconds below which no copy is worth its work."""


class Result(NamedTuple):
    """A committed item: its outcome, the handle of its arrays, and the time at which it went on record."""

    outcome: Outcome
    arrays: Handle
    time_ms: int


class WorkFailed(ValueError):
    """An item that fails wherever it is computed; the message is a reproducer."""


class Diverged(WorkFailed):
    """A result is not finite, or the meta-loss exceeds `outer.diverged`; a rollback may help."""


class Crew:
    """Takes work items, has evaluators compute them, and returns committed results, in whatever order they arrive."""

    def __init__(self, executor: Executor, log: CommitLog, deadline: float, folder: str = "RUN") -> None:
        self.executor, self._log, self._deadline, self._folder = executor, log, deadline, folder
        self._owned: dict[WorkItem, Handle] = {}
        self._lost: dict[WorkItem, int] = {}
        self._doubted: dict[WorkItem, Outcome] = {}
        self._copied: set[WorkItem] = set()
        self._done: dict[WorkItem, Result] = {}
        self._took: dict[str, deque[float]] = {}
        self.cpu_seconds = self.seconds = 0.0  # of the work alone, over all evaluators
        self.retries: dict[str, int] = {}
        self.copies = 0
        self.on_idle: Callable[[], None] = lambda: None

    def add(self, item: WorkItem, inputs: Handle) -> WorkItem:
        """Submit an item, and own it until its result is committed."""
        self._owned[item] = inputs
        self.executor.submit(item, inputs)
        return item

    @property
    def outstanding(self) -> int:
        """Number of items submitted and not committed."""
        return len(self._owned)

    def wait(self, items: Iterable[WorkItem]) -> list[Result]:
        """The results of these items, in their order.

        Raises:
            WorkFailed: an item failed twice, on two evaluators where there are two, or took three of them down;
                Diverged where it was not finite.
            TimeoutError: nothing came for longer than the deadline; says what was waited for.
        """
        items = list(items)
        self._until(lambda: all(item in self._done for item in items), items)
        return [self._done.pop(item) for item in items]

    def first(self, items: Iterable[WorkItem]) -> Result:
        """The result of whichever of these items is committed first; raises as `wait`."""
        items = list(items)
        self._until(lambda: any(item in self._done for item in items), items)
        return self._done.pop(next(item for item in self._done if item in items))

    def _until(self, enough: Callable[[], bool], items: list[WorkItem]) -> None:
        heard = time.monotonic()
        while not enough():
            answer = self.executor.next(min(self._deadline, 1.0))
            if answer is not None:
                self._receive(*answer)
                heard = time.monotonic()
            elif time.monotonic() - heard > 3 * self._deadline:
                raise TimeoutError(
                    f"no answer in {3 * self._deadline:.0f} s; waiting for {items[0]} and {len(items) - 1} more"
                )
            self._copy_late()
            self.on_idle()

    def ready(self, items: Iterable[WorkItem]) -> list[WorkItem]:
        """Those of these items whose results are in."""
        return [item for item in items if item in self._done]

    def forget(self) -> None:
        """Give up everything that is not committed; late answers are ignored."""
        self.executor.forget()
        for records in (self._owned, self._lost, self._doubted, self._copied, self._done):
            records.clear()

    def _copy_late(self) -> None:
        """Start copies of items that take long, where someone is idle; the first answer wins, both the same bits."""
        for late in self.executor.stragglers():
            took = self._took.get(late.item.kind)
            if late.item in self._copied or late.item not in self._owned or not took:
                continue
            if late.seconds > max(PATIENCE * statistics.median(took), LEAST_PATIENCE):
                self._copied.add(late.item)
                self.copies += 1
                self.executor.submit(late.item, self._owned[late.item], late.evaluator)

    def _receive(self, outcome: Outcome, arrays: Handle) -> None:
        item = outcome.item
        time_ms = self._log.item(outcome)
        self.cpu_seconds += outcome.cpu_seconds
        self.seconds += outcome.seconds
        if item not in self._owned:  # a second copy's answer, after the first was taken
            return
        if outcome.status == "ok":
            self._took.setdefault(item.kind, deque(maxlen=50)).append(outcome.seconds)
            doubted = self._doubted.pop(item, None)
            if doubted is not None:
                self.executor.quarantine(doubted.evaluator)
            del self._owned[item]
            self._copied.discard(item)
            self._done[item] = Result(outcome, arrays, time_ms)
            return
        self.retries[outcome.status] = self.retries.get(outcome.status, 0) + 1
        if outcome.status == "lost":
            self._lost[item] = self._lost.get(item, 0) + 1
            if self._lost[item] >= LOSSES:
                raise WorkFailed(
                    f"{item} took {LOSSES} evaluators down; the last said: {outcome.error}; {self._reproducer(item)}"
                )
        elif outcome.status != "returned":
            if item in self._doubted:
                why = outcome.error.partition("\n")[0]
                failure = f"{item} is {outcome.status} on two tries" + (f". {why}" if why else "")
                kind = Diverged if outcome.status == "not finite" else WorkFailed
                raise kind(f"{failure}; {self._reproducer(item)}")
            self._doubted[item] = outcome
        avoid = outcome.evaluator if outcome.status not in ("lost", "returned") else None
        self.executor.submit(item, self._owned[item], avoid)

    def _reproducer(self, item: WorkItem) -> str:
        return f"see it happen alone, in one process: {item.reproducer(self._folder)}"
