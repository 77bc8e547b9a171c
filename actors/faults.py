"""Injected faults, with which the promises of a run are tested (`run.faults`).

A fault is one line, `TARGET at step N: KIND`:

    evaluator 1 at step 3: kill | exception | hang | slow | nan | full
    server at step 9: kill      driver at step 5: kill
    checkpoint at step 4: full | torn      tracking at step 2: gone

The driver owns the schedule. Each fault strikes once in a run, resumed or not: it is recorded in the run folder before
it strikes. It strikes the evaluator's first item from its step on that was not lost before, so injected faults alone
never add up to the number of losses of one item that ends a run.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from raystill.actors.messages import Arrays, Outcome
from raystill.platform.files.storage import Storage

FAULTS: dict[str, tuple[str, ...]] = {
    "evaluator": ("kill", "exception", "hang", "slow", "nan", "full"),
    "server": ("kill",),
    "driver": ("kill",),
    "checkpoint": ("full", "torn"),
    "tracking": ("gone",),
}
SLOWDOWN = 10
"""Times the seconds of the work that a slow item takes."""
_LINE = re.compile(r"(evaluator) (\d+) at step (\d+): (\w+)|(server|driver|checkpoint|tracking) at step (\d+): (\w+)")


@dataclass(frozen=True)
class Fault:
    """One fault: its target, the outer step from which on it strikes, its kind; `number` is an evaluator's."""

    target: str
    step: int
    kind: str
    number: int = -1

    def __str__(self) -> str:
        who = f"{self.target} {self.number}" if self.target == "evaluator" else self.target
        return f"{who} at step {self.step}: {self.kind}"


def parse(line: str) -> Fault:
    """Parse the line of a fault.

    Raises:
        ValueError: it is not a fault.
    """
    match = _LINE.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"run.faults: {line!r} is not a fault; write one as `evaluator 1 at step 3: kill`")
    target = match[1] or match[5]
    kind = match[4] or match[7]
    if kind not in FAULTS[target]:
        raise ValueError(f"run.faults: {line!r}: a fault of {target} is one of {', '.join(FAULTS[target])}")
    return Fault(target, int(match[3] or match[6]), kind, int(match[2] or -1))


class Schedule:
    """The faults that have not struck yet."""

    def __init__(self, lines: Iterable[str] = (), struck: Path | None = None) -> None:
        """Parse a schedule.

        Args:
            lines: in the form that the module describes.
            struck: file in which faults are recorded when they strike.

        Raises:
            ValueError: a line is not a fault.
        """
        self._record = struck
        past = set(struck.read_text().splitlines()) if struck is not None and struck.exists() else set()
        self._waiting = [fault for fault in map(parse, lines) if str(fault) not in past]
        self.on_strike: Callable[[Fault], None] = lambda fault: None

    def take(self, target: str, step: int, number: int = -1) -> str | None:
        """The kind of a fault that strikes this target at this step, which leaves the schedule; None if none does."""
        for fault in self._waiting:
            if fault.target == target and fault.number in (-1, number) and fault.step <= step:
                self._waiting.remove(fault)
                if self._record is not None:
                    with self._record.open("a") as stream:
                        stream.write(f"{fault}\n")
                        stream.flush()
                        os.fsync(stream.fileno())
                self.on_strike(fault)
                return fault.kind
        return None


def inject(kind: str | None, work: Callable[[], tuple[Outcome, Arrays]]) -> tuple[Outcome, Arrays]:
    """Do the work of an item under a fault of this kind; None is no fault."""
    if kind is None:
        return work()
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(10**6)
    began = time.perf_counter()
    outcome, arrays = work()
    if kind == "slow":
        time.sleep((SLOWDOWN - 1) * (time.perf_counter() - began))
    if kind == "exception":
        return replace(outcome, status="failed", numbers={}, error="an injected exception"), {}
    if kind == "full":
        return replace(outcome, status="failed", numbers={}, error="an injected full object store"), {}
    if kind == "nan":
        numbers = dict.fromkeys(outcome.numbers, float("nan"))
        return replace(outcome, status="not finite", numbers=numbers), {k: a * np.nan for k, a in arrays.items()}
    return outcome, arrays


def before_checkpoint(kind: str | None) -> None:
    """Raise OSError for a full disk, where the fault is `full`."""
    if kind == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def after_checkpoint(kind: str | None, storage: Storage, file: str) -> None:
    """Cut a checkpoint's file in half, where the fault is `torn`."""
    if kind == "torn":
        data = storage.read(file)
        storage.write(file, data[: len(data) // 2])
