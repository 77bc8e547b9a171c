"""The crew owns work items until their result is committed: retries, second opinions and the log; it knows no kinds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from raystill.actors.commit_log import CommitLog
from raystill.actors.executors import Executor, Handle
from raystill.actors.messages import Outcome, WorkItem

LOSSES = 3
"""Evaluators that one item may take down before it is named and the run stops."""


class Result(NamedTuple):
    """A committed item: its outcome and the handle of its arrays."""

    outcome: Outcome
    arrays: Handle


class WorkFailed(ValueError):
    """An item that fails wherever it is computed; the message is a reproducer."""


class Crew:
    """Items in, committed results out, in whatever order they arrive."""

    def __init__(self, executor: Executor, log: CommitLog, deadline: float) -> None:
        self.executor, self._log, self._deadline = executor, log, deadline
        self._owned: dict[WorkItem, Handle] = {}
        self._lost: dict[WorkItem, int] = {}
        self._doubted: dict[WorkItem, Outcome] = {}
        self._done: dict[WorkItem, Result] = {}
        self.cpu_seconds = self.seconds = 0.0  # of the work alone, over all evaluators
        self.retries: dict[str, int] = {}

    def add(self, item: WorkItem, inputs: Handle) -> WorkItem:
        """Take an item on."""
        self._owned[item] = inputs
        self.executor.submit(item, inputs)
        return item

    def wait(self, items: Iterable[WorkItem]) -> list[Result]:
        """The results of these items, in their order.

        Raises:
            WorkFailed: an item failed twice, on two evaluators where there are two, or took three of them down.
            TimeoutError: nothing came for longer than the deadline; says what was waited for.
        """
        items = list(items)
        heard = time.monotonic()
        while missing := [item for item in items if item not in self._done]:
            answer = self.executor.next(min(self._deadline, 5.0))
            if answer is not None:
                self._receive(*answer)
                heard = time.monotonic()
            elif time.monotonic() - heard > 3 * self._deadline:
                raise TimeoutError(
                    f"no answer in {3 * self._deadline:.0f} s; waiting for {missing[0]} and {len(missing) - 1} more"
                )
        return [self._done.pop(item) for item in items]

    def ready(self, items: Iterable[WorkItem]) -> list[WorkItem]:
        """Those of these items whose results are in."""
        return [item for item in items if item in self._done]

    def _receive(self, outcome: Outcome, arrays: Handle) -> None:
        item = outcome.item
        self._log.item(outcome)
        self.cpu_seconds += outcome.cpu_seconds
        self.seconds += outcome.seconds
        if item not in self._owned:  # a second copy's answer, after the first was taken
            return
        if outcome.status == "ok":
            self._doubted.pop(item, None)
            del self._owned[item]
            self._done[item] = Result(outcome, arrays)
            return
        self.retries[outcome.status] = self.retries.get(outcome.status, 0) + 1
        if outcome.status == "lost":
            self._lost[item] = self._lost.get(item, 0) + 1
            if self._lost[item] >= LOSSES:
                raise WorkFailed(f"{item} took {LOSSES} evaluators down; the last said: {outcome.error}")
        elif item in self._doubted:
            raise WorkFailed(f"{item} is {outcome.status} on two tries. {outcome.error.partition(chr(10))[0]}".strip())
        else:
            self._doubted[item] = outcome
        avoid = outcome.evaluator if outcome.status != "lost" else None
        self.executor.submit(item, self._owned[item], avoid)
