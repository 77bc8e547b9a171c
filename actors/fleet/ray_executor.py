"""The executor on a Ray cluster: gives items to evaluators, and turns their answers and deaths into outcomes."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from raystill.actors.faults import Schedule
from raystill.actors.fleet.executors import Straggler
from raystill.actors.fleet.roster import PROBE_SECONDS, Roster
from raystill.actors.fleet.slots import Flight, Slot
from raystill.actors.messages import Arrays, Outcome, WorkItem
from raystill.actors.server.backends import RayBackend, ServerLost
from raystill.actors.server.shards import NOTHING, Handle, Shards
from raystill.platform import registry
from raystill.platform.spec import DistillSpec

IN_FLIGHT = 2
"""Items at one evaluator: one that it computes and one that waits there, to hide the round trip between them."""


class RayExecutor:
    """Computes on a Ray cluster; an item whose evaluator dies comes back with the status `lost` or `returned`.

    Args:
        groups: name of a meta-parameter -> the learning-rate field of the spec that it takes its steps with.
        workers: the least and the most number of evaluators.
        fingerprint: of the data that every evaluator must have loaded.
        faults: faults to inject.
    """

    def __init__(
        self,
        spec: DistillSpec,
        groups: dict[str, str],
        plugins: registry.Plugins | None,
        workers: tuple[int, int],
        fingerprint: str,
        faults: Schedule | None = None,
    ) -> None:
        import ray

        self._ray: Any = ray
        self._deadline = spec.run.deadline
        self._faults = faults or Schedule()
        self._queue: deque[tuple[WorkItem, Handle, int | None]] = deque()
        self._answers: deque[tuple[Any, Slot]] = deque()  # those that are in and not handed on yet
        self._no_faults: set[WorkItem] = set()  # items that were lost or failed: no fault is injected into them again
        self.server = self._new_server(spec, groups)
        self._roster = self._new_roster(spec, plugins, workers, fingerprint)
        self._await_first()

    def _new_server(self, spec: DistillSpec, groups: dict[str, str]) -> Shards:
        return Shards(RayBackend(spec, groups), spec.outer.shards)

    def _new_roster(
        self, spec: DistillSpec, plugins: registry.Plugins | None, workers: tuple[int, int], fingerprint: str
    ) -> Roster:
        return Roster(spec, plugins, workers, fingerprint)

    def _await_first(self) -> None:
        """Wait for one evaluator; the others join when they are ready."""
        self._roster.wait_ready(1)

    def await_all(self) -> None:
        """Wait for every evaluator; for benchmarks, which must not time a start."""
        self._roster.wait_ready(len(self._roster.slots))

    def put(self, arrays: Arrays) -> Handle:
        """Put one copy into the object store."""
        return Handle((self._ray.put(arrays),))

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item."""
        self._queue.append((item, inputs, avoid))
        self._dispatch()

    def _dispatch(self) -> None:
        """Give queued items, the oldest first, to the evaluators with the fewest items in flight."""
        slots = self._roster.slots
        for entry in list(self._queue):
            item, inputs, avoid = entry
            free = [s for s in slots if s.takes_work and len(s.in_flight) < IN_FLIGHT]
            if not free:
                return
            others = [s for s in free if s.number != avoid]
            if not others and any(s.number != avoid and not s.leaving for s in slots):
                continue  # only the evaluator that this item avoids is free; items behind it may go there
            slot = min(others or free, key=lambda s: (len(s.in_flight), s.number))
            self._queue.remove(entry)
            fault = None if item in self._no_faults else self._faults.take("evaluator", item.version, slot.number)
            run = slot.actor.run.options(num_returns=1 + len(inputs.parts))
            outcome, *parts = run.remote(item, inputs.cut, fault, *inputs.parts)
            slot.in_flight[outcome] = Flight(item, inputs, Handle(tuple(parts), inputs.cut), time.monotonic())

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """Wait for the first outcome; items of an evaluator that died or missed its deadline come back as lost."""
        end = time.monotonic() + timeout
        while True:
            while self._answers:
                reference, slot = self._answers.popleft()
                current = reference in slot.in_flight or reference == slot.ready  # the slot may have been renewed
                if current and (result := self._finish(reference, slot)) is not None:
                    self._dispatch()
                    return result
            self._roster.maintain(len(self._queue))
            self._dispatch()
            slots = self._roster.slots
            references = {ref: slot for slot in slots for ref in [*slot.in_flight, slot.ready] if ref}
            left = end - time.monotonic()
            if left <= 0:
                return None
            if not references:
                if not any(slot.probe_at for slot in slots):
                    return None
                time.sleep(PROBE_SECONDS)
                continue
            every = list(references)
            done, _ = self._ray.wait(every, num_returns=1, timeout=min(left, 1.0), fetch_local=True)
            if done:  # take all answers that are in: one wait for each would be slow with hundreds of evaluators
                done, _ = self._ray.wait(every, num_returns=len(every), timeout=0, fetch_local=True)
                self._answers.extend((reference, references[reference]) for reference in done)
            elif (expired := self._expire()) is not None:
                return expired

    def _finish(self, reference: Any, slot: Slot) -> tuple[Outcome, Handle] | None:
        """The outcome behind a reference; None where it was an evaluator's start, or nobody waits for the item.

        Raises:
            ServerLost: the item's input, which the server gave out, is gone.
        """
        if reference == slot.ready:
            self._roster.finish_start(slot)
            return None
        errors, flight = self._ray.exceptions, slot.in_flight[reference]
        slot.idle_since = time.monotonic()
        try:
            outcome: Outcome = self._ray.get(reference)
        except errors.RayError as error:
            # Ray raises a task's error as a class of its cause too, which may be the death of the server
            task_failed = isinstance(error, errors.RayTaskError)
            if task_failed and not isinstance(error.cause, errors.RayError):
                raise
            if isinstance(error, errors.RayActorError) and not task_failed:
                self._no_faults.add(flight.item)
                if slot.ready is None:  # the first answer that tells of this death
                    self._roster.died(slot)
                # the item that was being computed may be the cause; items that waited behind it are not
                status = "lost" if reference == slot.suspect else "returned"
                return Outcome(flight.item, status, slot.number, error=str(error).splitlines()[0]), NOTHING
            if flight.forgotten:  # its input was lost with an earlier server
                return None
            arrays = f"the input of {flight.item}" if task_failed else f"the outcome of {flight.item}"
            raise ServerLost(f"{arrays} is gone: {type(error).__name__}") from None
        finally:
            del slot.in_flight[reference]
        slot.count(outcome)
        if outcome.status != "ok":
            self._no_faults.add(flight.item)
        return outcome, flight.arrays

    def _expire(self) -> tuple[Outcome, Handle] | None:
        """Renew an evaluator whose oldest item is past its deadline; its items come back as lost."""
        for slot in self._roster.slots:
            if not slot.in_flight:
                continue
            reference, flight = next(iter(slot.in_flight.items()))
            if time.monotonic() - flight.since > self._deadline * len(slot.in_flight):
                self._roster.renew(slot)
                slot.in_flight.pop(reference)
                why = f"no answer in {self._deadline:.0f} s (run.deadline)"
                return Outcome(flight.item, "lost", slot.number, error=why), NOTHING
        return None

    def stragglers(self) -> list[Straggler]:
        """Items in flight, where the queue is empty and an evaluator idle."""
        slots, now = self._roster.slots, time.monotonic()
        if self._queue or not any(slot.takes_work and not slot.in_flight for slot in slots):
            return []
        return [Straggler(f.item, slot.number, now - f.since) for slot in slots for f in slot.in_flight.values()]

    def quarantine(self, number: int) -> None:
        """The first time the evaluator gets a new process; the second time it is removed, if another one is left."""
        self._roster.quarantine(number)

    def forget(self) -> None:
        """Drop what is queued, and ignore the losses of what is in flight."""
        self._queue.clear()
        for slot in self._roster.slots:
            slot.in_flight = {ref: flight._replace(forgotten=True) for ref, flight in slot.in_flight.items()}

    @property
    def capacity(self) -> int:
        """Two for each evaluator that takes work."""
        return IN_FLIGHT * max(1, sum(slot.takes_work for slot in self._roster.slots))

    def status(self) -> list[dict[str, Any]]:
        """One row for each evaluator."""
        return [slot.row() for slot in self._roster.slots]

    def close(self) -> None:
        """End the evaluators and the server; a cluster that we joined lives on."""
        self._roster.close()
        self.server.close()
