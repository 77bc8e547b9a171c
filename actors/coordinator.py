"""The distillation loop: addresses items, commits their results, and reads top to bottom."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors import checkpoints
from raystill.actors.commit_log import CommitLog
from raystill.actors.crew import Crew
from raystill.actors.executors import Handle
from raystill.actors.messages import WorkItem
from raystill.platform.data import DataSet
from raystill.platform.progress import progress
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import Synthesizer
from raystill.platform.tracking import Tracker


@dataclass
class Loop:
    """What the loop works with, and what it has found so far; `step` outer steps are applied."""

    spec: DistillSpec
    data: DataSet
    synthesizer: Synthesizer
    folder: Path
    crew: Crew
    log: CommitLog
    tracker: Tracker
    step: int = 0
    attempt: int = 0
    saved: int = -1
    unscored: dict[int, list[WorkItem]] = field(default_factory=dict)
    accuracy: float = float("nan")
    settled: bool = False  # whether everything that the server has applied is on record here: a moment to save at
    on_step: Callable[[int], None] | None = None


def gradient_items(spec: DistillSpec, attempt: int, step: int) -> list[WorkItem]:
    """A step's members, cut into chunks whose size the spec fixes, whoever computes them.

    They work on the meta-parameters of `outer.delay` steps before, so that evaluators need not wait for an update that
    others are still at; the delay is the spec's and not the cluster's, so the result does not depend on who is slow.
    """
    outer, version = spec.outer, max(0, step - spec.outer.delay)
    return [
        WorkItem(
            "meta_gradient", Address(spec.run.seed, attempt, step, first), version, "meta", (("members", outer.chunk),)
        )
        for first in range(0, outer.members, outer.chunk)
    ]


def validation_items(spec: DistillSpec, version: int) -> list[WorkItem]:
    """One item per network; a fixed start has one network."""
    networks = 1 if spec.initialisation.kind == "fixed" else spec.validation.networks
    return [
        WorkItem("validate", Address(spec.run.seed, step=version, member=n), version, "snapshot")
        for n in range(networks)
    ]


def distil(loop: Loop) -> dict[str, Any]:
    """Run or go on with the outer loop until its last step; returns the chosen data's score.

    Everything that a killed run needs is in its last checkpoint: the same bits come out, wherever it was cut.
    """
    spec, crew, server = loop.spec, loop.crew, loop.crew.executor
    _start(loop)
    ahead = deque(_ask_for_gradients(loop, loop.step + k, _version(loop, k)) for k in range(spec.outer.delay + 1))
    with progress("distil", spec.outer.steps, loop.step) as show:
        began = time.monotonic()
        while items := ahead.popleft():
            loop.settled = True
            results = crew.wait(items)
            loop.settled = False
            applied, meta = server.later(
                "apply", loop.attempt, loop.step, spec.outer.members, *[r.arrays for r in results]
            )
            # evaluators go on while the rest of this step is put on record
            ahead.append(_ask_for_gradients(loop, loop.step + 1 + spec.outer.delay, meta))
            loss = sum(r.outcome.numbers["loss"] for r in results) / spec.outer.members
            began, seconds = time.monotonic(), time.monotonic() - began
            figures = {"meta_loss": loss, "members_per_second": spec.outer.members / seconds, **applied()}
            loop.log.step(spec.run.seed, loop.attempt, loop.step, seconds, figures)
            loop.step += 1
            loop.tracker.log(loop.step, figures, int(time.time() * 1000))
            if loop.step % spec.validation.every == 0 or loop.step == spec.outer.steps:
                _ask_for_scores(loop)
            _take_scores(loop, wait=False)
            if loop.step % spec.run.checkpoint_every == 0:
                save(loop)
            accuracy = "-" if math.isnan(loop.accuracy) else f"{loop.accuracy:.1f} %"
            show(loop.step, meta_loss=f"{loss:.3f}", validation=accuracy,
                 members_per_s=f"{figures['members_per_second']:.1f}")  # fmt: skip
            if loop.on_step:
                loop.on_step(loop.step)
    if loop.step not in loop.unscored and loop.step % spec.validation.every:
        _ask_for_scores(loop)
    _take_scores(loop, wait=True)
    save(loop)
    return dict(server.call("score_of_best"))


def _ask_for_gradients(loop: Loop, step: int, meta: Handle) -> list[WorkItem]:
    """A step's items, handed out; none after the last step or where the budget is spent."""
    if step >= loop.spec.outer.steps or _spent(loop):
        return []
    return [loop.crew.add(item, meta) for item in gradient_items(loop.spec, loop.attempt, step)]


def _spent(loop: Loop) -> bool:
    budget = loop.spec.run.cpu_seconds
    return budget is not None and loop.crew.cpu_seconds >= budget


def _version(loop: Loop, ahead: int) -> Handle:
    """The meta-parameters for the step that is this many ahead, as far as the server has them already."""
    return loop.crew.executor.arrays("version", max(0, loop.step + ahead - loop.spec.outer.delay))[1]


def _start(loop: Loop) -> None:
    """The server's first state, or that of the newest good checkpoint with the scores that it still owes."""
    server = loop.crew.executor
    newest = checkpoints.newest(loop.folder / "checkpoints")
    if newest is None:
        first = loop.synthesizer.start(loop.data, Address(loop.spec.run.seed, stream="start"))
        server.arrays("begin", first)
        return
    facts = server.call("restore", str(newest.resolve()))
    loop.step, loop.attempt, loop.saved = facts["step"], facts["attempt"], facts["step"]
    loop.crew.cpu_seconds = facts["cpu_seconds"]
    for version in facts["unscored"]:
        _score(loop, version, server.arrays("kept", version)[1])


def _ask_for_scores(loop: Loop) -> None:
    _score(loop, loop.step, loop.crew.executor.arrays("snapshot")[1])


def _score(loop: Loop, version: int, snapshot: Handle) -> None:
    loop.unscored[version] = [loop.crew.add(item, snapshot) for item in validation_items(loop.spec, version)]


def _take_scores(loop: Loop, wait: bool) -> None:
    """Hand in the scores of snapshots whose every network is in; all of them if `wait`."""
    for version, items in list(loop.unscored.items()):
        if not wait and len(loop.crew.ready(items)) < len(items):
            continue
        values = 100 * np.array([r.outcome.numbers["accuracy"] for r in loop.crew.wait(items)])
        loop.accuracy = float(values.mean())
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        loop.crew.executor.call("score", version, loop.accuracy, spread)
        del loop.unscored[version]
        loop.tracker.log(version, {"validation_accuracy": loop.accuracy}, int(time.time() * 1000))


def save(loop: Loop) -> None:
    """A checkpoint of everything that the rest of the run depends on."""
    if loop.saved == loop.step and not loop.unscored:
        return
    loop.log.flush()
    loop.tracker.flush()
    extra = {"cpu_seconds": loop.crew.cpu_seconds, "tracking": loop.tracker.run_id}
    loop.crew.executor.call("save", str((loop.folder / "checkpoints").resolve()), extra)
    loop.saved = loop.step
