"""The distillation loop: asks for work items by address, applies their results, and records each outer step."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from raystill.actors.drive.crew import Diverged, Result
from raystill.actors.drive.loop import Loop, ask_for_scores, score, take_scores
from raystill.actors.drive.saving import restore, save
from raystill.actors.items import gradient_item, gradient_items
from raystill.actors.messages import WorkItem
from raystill.actors.server.backends import ServerLost
from raystill.actors.server.shards import Handle
from raystill.actors.signals import whole
from raystill.platform.progress import progress
from raystill.platform.seeds import Address

SERVERS = 20
"""Parameter servers that a session may lose before it gives up."""


def distil(loop: Loop) -> dict[str, Any]:
    """Start or resume the outer loop, run it to its last step, and return the chosen data's score.

    Everything that a killed run needs is in its last checkpoint: the same bits come out, wherever it was cut. A lost
    parameter server is replaced by a new one that goes on from there too, without the user.

    Raises:
        ServerLost: more than SERVERS times.
        crew.WorkFailed: a work item fails wherever it is computed.
    """
    with progress("distil", loop.spec.outer.steps, loop.step) as loop.show:
        while True:
            try:
                restore(loop)
                loop.settled = True
                try:
                    _in_order(loop) if loop.spec.outer.staleness is None else _as_they_come(loop)
                except (Diverged, FloatingPointError) as why:  # raised by an evaluator or by the server
                    _roll_back(loop, why)
                    continue
                return _finish(loop)
            except ServerLost as lost:
                loop.settled = False
                if loop.servers >= SERVERS:
                    raise
                loop.servers += 1
                loop.log.event("server", Address(loop.spec.run.seed, step=loop.step), f"{lost}; a new one takes over")
                loop.crew.forget()
                loop.crew.executor.server.restart()


def _in_order(loop: Loop) -> None:
    """Synchronous steps: each is made of the items that its address names, in their order."""
    spec, crew, server = loop.spec, loop.crew, loop.crew.executor.server
    ahead = deque(_ask_for_gradients(loop, loop.step + k, _version(loop, k)) for k in range(spec.outer.delay + 1))
    while items := ahead.popleft():
        results = crew.wait(items)
        _check_loss(loop, results)
        with whole():
            applied, meta = server.apply(loop.attempt, loop.step, spec.outer.members, [r.arrays for r in results])
            # evaluators go on while the rest of this step is put on record
            ahead.append(_ask_for_gradients(loop, loop.step + 1 + spec.outer.delay, meta))
            _record(loop, results, applied(), {})


def _as_they_come(loop: Loop) -> None:
    """Asynchronous steps: each is made of the next results that are not too late; says in the log which they were."""
    spec, crew, executor = loop.spec, loop.crew, loop.crew.executor
    staleness, need = spec.outer.staleness or 0, spec.outer.members // spec.outer.chunk
    meta, batch, flying, dropped = _version(loop, 0), [], dict[WorkItem, None](), 0
    while loop.step < spec.outer.steps and not _spent(loop):
        while len(flying) < executor.capacity:
            address = Address(spec.run.seed, loop.attempt, loop.asked)
            flying[crew.add(gradient_item(spec, address, loop.step), meta)] = None
            loop.asked += 1
        result = crew.first(flying)
        del flying[result.outcome.item]
        if loop.step - result.outcome.item.version > staleness:
            dropped += 1
            continue
        batch.append(result)
        if len(batch) < need:
            continue
        late = [loop.step - r.outcome.item.version for r in batch]
        _check_loss(loop, batch)
        figures = {"accepted": float(need), "dropped": float(dropped), "staleness": sum(late) / need}
        with whole():
            arrays = [r.arrays for r in batch]
            applied, meta = executor.server.apply(loop.attempt, loop.step, spec.outer.members, arrays)
            _record(loop, batch, applied(), figures)
        batch, dropped = [], 0


def _roll_back(loop: Loop, why: Exception) -> None:
    """Go back to a state before a run diverged, from which it learns on at half the rates and from other draws.

    What is abandoned is scored first, whoever was how fast, so that the choice of the best does not depend on it.

    Raises:
        Diverged: the spec allows no rollback, or no more of them.
    """
    outer = loop.spec.outer
    if loop.attempt >= outer.rollbacks:
        hint = "" if outer.rollbacks else "; outer.rollbacks lets a run go back and learn on at half the rates"
        raise Diverged(f"{why}{hint}") from why
    address = Address(loop.spec.run.seed, loop.attempt, loop.step)
    loop.crew.forget()
    for version in sorted(loop.unscored):
        score(loop, version, loop.crew.executor.server.snapshot_at(version))
    take_scores(loop, wait=True)
    loop.attempt += 1
    loop.step = loop.crew.executor.server.roll_back(loop.attempt)
    loop.log.event("rollback", address, f"{why}; attempt {loop.attempt} goes on from step {loop.step}")
    print(f"diverged at step {address.step}; goes on from step {loop.step} at half the rates", flush=True)
    save(loop, wait=True)


def _check_loss(loop: Loop, results: Sequence[Result]) -> None:
    """Raises Diverged where a step's meta-loss has left the spec's bound; nothing was applied."""
    bound = loop.spec.outer.diverged
    loss = sum(r.outcome.numbers["loss"] for r in results) / loop.spec.outer.members
    if bound is not None and loss > bound:
        raise Diverged(f"the meta-loss of outer step {loop.step} is {loss:.3g}, above outer.diverged ({bound:g})")


def _record(loop: Loop, results: Sequence[Result], applied: dict[str, float], more: dict[str, float]) -> None:
    """Put an applied step on record, and do what is due after it."""
    spec = loop.spec
    loss = sum(r.outcome.numbers["loss"] for r in results) / spec.outer.members
    loop.began, seconds = time.monotonic(), time.monotonic() - loop.began
    figures = {"meta_loss": loss, "members_per_second": spec.outer.members / seconds, **applied, **more}
    address = Address(spec.run.seed, loop.attempt, loop.step)
    stamp = loop.log.step(address, seconds, figures, [r.outcome.item for r in results])
    loop.step += 1
    loop.tracker.log(loop.step, figures, stamp)
    loop.figures, loop.seconds = figures, seconds
    _strike(loop)
    if loop.step % spec.validation.every == 0 or loop.step == spec.outer.steps:
        ask_for_scores(loop)
    take_scores(loop, wait=False)
    due = spec.run.checkpoint_seconds is not None and time.monotonic() - loop.saved_at > spec.run.checkpoint_seconds
    if due or loop.step % spec.run.checkpoint_every == 0:
        save(loop)
    accuracy = "-" if math.isnan(loop.accuracy) else f"{loop.accuracy:.1f} %"
    loop.show(loop.step, meta_loss=f"{loss:.3f}", validation=accuracy,
              members_per_s=f"{figures['members_per_second']:.1f}")  # fmt: skip
    if loop.on_step:
        loop.on_step(loop.step)


def _strike(loop: Loop) -> None:
    """Injected faults of the driver's own and of what only it reaches."""
    if loop.faults.take("driver", loop.step):
        loop.log.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if loop.faults.take("server", loop.step):
        loop.crew.executor.server.kill_one()
    if loop.faults.take("tracking", loop.step):
        loop.tracker.lose()


def _finish(loop: Loop) -> dict[str, Any]:
    if loop.step not in loop.unscored and loop.step % loop.spec.validation.every:
        ask_for_scores(loop)
    take_scores(loop, wait=True)
    save(loop, wait=True)
    return loop.crew.executor.server.best_score()


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
    return loop.crew.executor.server.version(max(0, loop.step + ahead - loop.spec.outer.delay))
