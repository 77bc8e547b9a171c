"""A session holds a driver's executor, crew, log and storage while it works on a run, and posts the run's status."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raystill.actors.drive import guard
from raystill.actors.drive.crew import Crew
from raystill.actors.drive.plan import Plan
from raystill.actors.faults import Fault, Schedule
from raystill.actors.fleet.executors import Executor, InProcessExecutor
from raystill.actors.fleet.metrics import Metrics
from raystill.actors.fleet.ray_executor import RayExecutor
from raystill.actors.record.commit_log import CommitLog
from raystill.actors.record.mirror import Mirror
from raystill.actors.signals import stopping
from raystill.platform import runs
from raystill.platform.files.storage import Storage
from raystill.platform.seeds import Address

STATUS = "status.json"
EVERY = 2.0
"""Seconds between two looks at the status."""


@dataclass
class Session:
    """One driver's work on one run, and what the driver needs for it."""

    plan: Plan
    folder: Path
    executor: Executor
    crew: Crew
    log: CommitLog
    faults: Schedule
    home: Storage  # the run's root: its folder, or its place in the storage
    mirror: Mirror
    epoch: guard.Epoch
    metrics: Metrics
    board: Any | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    _posted: float = 0.0

    @property
    def store(self) -> Storage:
        """Where checkpoints lie."""
        return self.home.under("checkpoints")

    def saving(self) -> None:
        """Before a checkpoint: is this still our run, and what is new goes to the storage.

        Raises:
            guard.Superseded: another driver has taken over.
        """
        self.epoch.check()
        if trouble := self.mirror.push():
            print(f"warning: {trouble}", flush=True)

    def release(self) -> None:
        """End the evaluators before the session ends: what follows needs their places."""
        self.executor.close()

    def tell(self, now: bool = False, **facts: Any) -> None:
        """Post the status, at most every EVERY seconds."""
        self.facts.update(facts)
        if not now and time.monotonic() - self._posted < EVERY:
            return
        self._posted = time.monotonic()
        rows = self.executor.status()
        status = {
            "run": self.folder.name, "time": time.time(), "every": EVERY, "evaluators": rows,
            "retries": self.crew.retries, "copies": self.crew.copies, "outstanding": self.crew.outstanding,
            **self.facts,
        }  # fmt: skip
        self.metrics.observe("in_flight", self.crew.outstanding)
        self.metrics.observe("evaluators", len(rows))
        self.metrics.total("copies", self.crew.copies)
        for reason, count in self.crew.retries.items():
            self.metrics.total("retries", count, reason)
        with suppress(OSError):  # a status that can not be posted is no reason to stop
            temporary = self.folder / f".{STATUS}"
            temporary.write_text(json.dumps(status))
            temporary.replace(self.folder / STATUS)
        if self.board is not None:
            self.board.post.remote(status)


@contextmanager
def open_session(plan: Plan, folder: Path) -> Iterator[Session]:
    """Hold a run: its lock, its evaluators and its log.

    Raises:
        ValueError: another driver works on it, or a fault of the spec is none.
    """
    spec = plan.spec
    with ExitStack() as stack:
        stack.enter_context(runs.locked(folder))
        home = Storage(spec.run.storage).under(folder.name) if spec.run.storage else Storage(folder)
        board = guard.claim_board(home.root) if plan.workers[1] else None
        if board is not None:
            stack.callback(guard.drop_board, board)
        epoch = guard.Epoch(home)
        faults = Schedule(spec.run.faults, folder / "faults.txt")
        groups = dict(plan.synthesizer.groups)
        executor: Executor = (
            RayExecutor(spec, groups, plan.plugins, plan.workers, plan.data.fingerprint, faults)
            if plan.workers[1]
            else InProcessExecutor(spec, groups, plan.plugins, plan.data, faults)
        )
        stack.callback(executor.close)
        log = CommitLog(folder / "commits")
        stack.callback(log.close)

        def strike(fault: Fault) -> None:
            log.event("fault", Address(spec.run.seed, step=fault.step), str(fault), fault.number)

        faults.on_strike = strike
        crew = Crew(executor, log, spec.run.deadline, str(folder))
        mirror = Mirror(folder, home if spec.run.storage else None)
        session = Session(
            plan, folder, executor, crew, log, faults, home, mirror, epoch, Metrics(bool(plan.workers[1])), board
        )
        crew.on_idle = session.tell
        stack.enter_context(stopping())
        session.tell(now=True, state="computing", steps=spec.outer.steps)
        try:
            yield session
        except BaseException:
            session.tell(now=True, state="stopped")
            raise
        session.tell(now=True, state="done")
        if trouble := mirror.push():
            print(f"warning: {trouble}; `raystill resume {folder}` tries again", flush=True)
