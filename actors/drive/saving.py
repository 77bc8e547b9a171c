"""Restores a distillation's loop from its newest checkpoint, and saves checkpoints for the next session."""

from __future__ import annotations

import time

from raystill.actors.drive.loop import Loop, score, take_scores
from raystill.actors.server import checkpoints
from raystill.platform.seeds import Address


def restore(loop: Loop) -> None:
    """The server's first state, or that of the newest good checkpoint with the scores that it still owes."""
    server, identity = loop.crew.executor.server, loop.spec.identity
    newest = checkpoints.newest(loop.store, identity)
    loop.saves = max(loop.saves, checkpoints.last_number(loop.store))
    loop.unscored.clear()
    if newest is None and loop.spec.donor.content is not None:
        loop.saves += 1
        newest = checkpoints.adopt(loop.store, loop.spec.donor, identity, loop.saves)
        loop.log.event("donor", Address(loop.spec.run.seed, step=loop.spec.donor.step or 0), "goes on from another run")
    if newest is None:
        loop.step = loop.asked = 0
        first = loop.synthesizer.start(loop.data, Address(loop.spec.run.seed, stream="start"))
        server.init(first)
        return
    facts = server.restore(loop.store.root, newest, identity)
    loop.step, loop.attempt, loop.saved = facts["step"], facts["attempt"], facts["step"]
    loop.asked = facts["asked"]
    loop.crew.cpu_seconds = max(loop.crew.cpu_seconds, facts["cpu_seconds"])
    for version in facts["unscored"]:
        score(loop, version, server.snapshot_at(version))


def save(loop: Loop, wait: bool = False) -> None:
    """A checkpoint of everything that the rest of the run depends on, written beside further steps.

    Args:
        wait: until it is written.

    Raises:
        OSError: the last checkpoint of a run can not be written.
    """
    server = loop.crew.executor.server
    if loop.saved != loop.step or loop.unscored or wait:
        loop.log.flush()
        loop.on_save()
        loop.tracker.flush()
        extra = {
            "cpu_seconds": loop.crew.cpu_seconds, "tracking": loop.tracker.run_id, "asked": loop.asked,
            "spec": loop.spec.identity,
        }  # fmt: skip
        harm = None if wait else loop.faults.take("checkpoint", loop.step)
        loop.saves += 1
        name = checkpoints.name_of(loop.step, loop.saves)
        server.save(loop.store.root, name, extra, loop.spec.run.keep, harm)
        loop.saved, loop.saved_at = loop.step, time.monotonic()
    for done in server.saved(wait):
        address = Address(loop.spec.run.seed, step=done["step"])
        if done["error"]:
            loop.log.event("checkpoint", address, f"not written: {done['error']}", seconds=done["seconds"])
            if wait:
                raise OSError(f"the checkpoint of step {done['step']} can not be written: {done['error']}")
        else:
            loop.log.event("checkpoint", address, "", seconds=done["seconds"])
            loop.on_saved(done["seconds"])


def settle(loop: Loop) -> str:
    """Score what is owed and write a checkpoint, here and now, for others to go on from; its name."""
    take_scores(loop, wait=True)
    save(loop, wait=True)
    return checkpoints.name_of(loop.step, loop.saves)
