"""The state of a driver's distillation loop, and the scores of snapshots that the loop waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from raystill.actors.drive.crew import Crew
from raystill.actors.faults import Schedule
from raystill.actors.items import validation_items
from raystill.actors.messages import WorkItem
from raystill.actors.record.commit_log import CommitLog
from raystill.actors.server.shards import Handle
from raystill.platform.data import DataSet
from raystill.platform.evaluation.summary import summary
from raystill.platform.files.storage import Storage
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import Synthesizer
from raystill.platform.tracking import Tracker


@dataclass
class Loop:
    """The parts that the loop works with, and its state after `step` outer steps."""

    spec: DistillSpec
    data: DataSet
    synthesizer: Synthesizer
    folder: Path
    crew: Crew
    log: CommitLog
    tracker: Tracker
    store: Storage  # of checkpoints
    faults: Schedule = field(default_factory=Schedule)
    step: int = 0
    attempt: int = 0
    asked: int = 0  # items of an asynchronous run that were handed out
    saved: int = -1
    saves: int = -1  # the highest number of a checkpoint, whole or not
    saved_at: float = field(default_factory=time.monotonic)
    began: float = field(default_factory=time.monotonic)
    unscored: dict[int, list[WorkItem]] = field(default_factory=dict)
    accuracy: float = float("nan")
    servers: int = 1
    settled: bool = False  # whether the server holds a state, and this loop knows all of it
    on_step: Callable[[int], None] | None = None
    on_save: Callable[[], None] = lambda: None  # before a checkpoint is written
    on_saved: Callable[[float], None] = lambda _: None  # after, with the seconds that it took
    figures: dict[str, float] = field(default_factory=dict)  # of the step applied last
    seconds: float = 0.0  # wall time of the step applied last
    show: Callable[..., None] = lambda *_, **__: None


def ask_for_scores(loop: Loop) -> None:
    """Have the current data scored."""
    score(loop, loop.step, loop.crew.executor.server.snapshot())


def score(loop: Loop, version: int, snapshot: Handle) -> None:
    """Hand out the validation items of a snapshot."""
    loop.unscored[version] = [
        loop.crew.add(item, snapshot) for item in validation_items(loop.spec, version, loop.attempt)
    ]


def take_scores(loop: Loop, wait: bool) -> None:
    """Hand in the scores of snapshots whose every network is in; all of them if `wait`."""
    for version, items in list(loop.unscored.items()):
        if not wait and len(loop.crew.ready(items)) < len(items):
            continue
        results = loop.crew.wait(items)
        accuracy = summary([100 * r.outcome.numbers["accuracy"] for r in results])
        loop.accuracy = accuracy.mean
        loop.crew.executor.server.score(version, accuracy.mean, accuracy.spread)
        del loop.unscored[version]
        loop.tracker.log(version, {"validation_accuracy": loop.accuracy}, max(r.time_ms for r in results))
