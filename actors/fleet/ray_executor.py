"""The Ray executor: evaluators that come and go, beside the parameter server's actors."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from raystill.actors import cluster
from raystill.actors.faults import Schedule
from raystill.actors.fleet.evaluator import Evaluator
from raystill.actors.fleet.executors import Straggler
from raystill.actors.fleet.slots import Flight, Slot
from raystill.actors.messages import Arrays, Outcome, WorkItem
from raystill.actors.server.backends import RayBackend, ServerLost
from raystill.actors.server.shards import NOTHING, Handle, Shards
from raystill.platform import registry
from raystill.platform.spec import DistillSpec

IN_FLIGHT = 2
"""Items at one evaluator: one being computed and one that waits there, so that no round trip lies between them."""

START_SECONDS = 180.0

FAILED_STARTS = 3
"""Starts in a row that may fail before an evaluator's error is the run's."""

PROBE_SECONDS = 0.5
"""Between two questions to an evaluator that waits for a node, or is being restarted."""

DRAIN_SECONDS = 2.0
"""Between two looks at the cluster's notices of nodes that will go; spot machines give 30 to 120 s."""

IDLE_SECONDS = 15.0
"""An evaluator beyond the least number that had nothing to do for so long is given back."""


class RayExecutor:
    """Computes on a Ray cluster. Lost items come back as outcomes; a lost evaluator is restarted by Ray.

    Between the least and the most number of evaluators the fleet follows the work: with more items than evaluators it
    asks the cluster for one more (an autoscaler then brings a node), idle ones are given back.
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
        self._spec, self._plugins = spec, plugins
        self._deadline = spec.run.deadline
        self._least, self._most = workers
        self._fingerprint, self._versions = fingerprint, cluster.versions()
        self._faults = faults or Schedule()
        self._queue: deque[tuple[WorkItem, Handle, int | None]] = deque()
        self._answers: deque[tuple[Any, Slot]] = deque()  # in, and not handed on yet
        self._hurt: set[WorkItem] = set()  # items that were lost or failed before: no injected fault for them
        self._slots: list[Slot] = []
        self._numbers = 0
        self._look_again = 0.0
        self.server = self._new_server(groups)
        for _ in range(self._least):
            self._slots.append(self._new_slot())
        self._await_first()

    def _new_server(self, groups: dict[str, str]) -> Shards:
        return Shards(RayBackend(self._spec, groups), self._spec.outer.shards)

    def _new_slot(self) -> Slot:
        number, self._numbers = self._numbers, self._numbers + 1
        actor = self._new_actor(number)
        return Slot(number, actor, actor.ready.remote())

    def _new_actor(self, number: int) -> Any:
        gpu = self._spec.run.device == "cuda"
        return (
            self._ray.remote(Evaluator)
            .options(num_cpus=0 if gpu else 1, num_gpus=1 if gpu else 0, max_restarts=-1, max_task_retries=0,
                     runtime_env=cluster.worker_environment())
            .remote(number, self._spec.dump(), self._plugins)
        )  # fmt: skip

    def _await_first(self) -> None:
        """Wait until one evaluator has its data; the others join when they are ready."""
        self._await(1)

    def await_all(self) -> None:
        """Wait until every evaluator is ready; for benchmarks, which must not time a start."""
        self._await(len(self._slots))

    def _await(self, count: int) -> None:
        pending = {slot.ready: slot for slot in self._slots if slot.ready is not None}
        count -= len(self._slots) - len(pending)
        if count <= 0:
            return
        done, _ = self._ray.wait(list(pending), num_returns=count, timeout=START_SECONDS)
        if len(done) < count:
            raise TimeoutError(
                f"{count - len(done)} of {len(self._slots)} evaluators were not ready after {START_SECONDS:.0f} s; "
                f"the cluster offers {self._ray.cluster_resources()}"
            )
        for reference in done:
            self._take_in(pending[reference])

    def _take_in(self, slot: Slot) -> None:
        """Take an evaluator that has answered into service, once it is known to be like the others.

        Raises:
            RuntimeError: its node holds other data, or other versions.
        """
        facts = self._ray.get(slot.ready)
        where = f"evaluator {slot.number} on node {facts['host']}"
        if wrong := {k: v for k, v in facts["versions"].items() if self._versions[k] != v}:
            pairs = ", ".join(f"{k} {v} (here {self._versions[k]})" for k, v in wrong.items())
            raise RuntimeError(f"{where} has other versions: {pairs}; install the same on every node")
        if facts["data"] != self._fingerprint:
            raise RuntimeError(
                f"{where} loaded other data than this process: fingerprint {facts['data'][:12]}, not "
                f"{self._fingerprint[:12]}; the source must hold the same content on every node"
            )
        slot.facts, slot.ready, slot.failures, slot.idle_since = facts, None, 0, time.monotonic()

    def put(self, arrays: Arrays) -> Handle:
        """One copy in the object store."""
        return Handle((self._ray.put(arrays),))

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item."""
        self._queue.append((item, inputs, avoid))
        self._dispatch()

    def _dispatch(self) -> None:
        """Hand queued items, the oldest first, to the evaluators with the fewest in flight."""
        for entry in list(self._queue):
            item, inputs, avoid = entry
            room = [s for s in self._slots if s.takes_work and len(s.flying) < IN_FLIGHT]
            if not room:
                return
            others = [s for s in room if s.number != avoid]
            if not others and any(s.number != avoid and not s.leaving for s in self._slots):
                continue  # only the evaluator that this item avoids has room; those behind it may go
            slot = min(others or room, key=lambda s: (len(s.flying), s.number))
            self._queue.remove(entry)
            fault = None if item in self._hurt else self._faults.take("evaluator", item.version, slot.number)
            run = slot.actor.run.options(num_returns=1 + len(inputs.parts))
            outcome, *parts = run.remote(item, inputs.cut, fault, *inputs.parts)
            slot.flying[outcome] = Flight(item, inputs, Handle(tuple(parts), inputs.cut), time.monotonic())

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """Wait for the first outcome; a lost or late evaluator makes outcomes `lost` of what it had."""
        end = time.monotonic() + timeout
        while True:
            while self._answers:
                reference, slot = self._answers.popleft()
                known = reference in slot.flying or reference == slot.ready  # a slot may have been renewed meanwhile
                if known and (result := self._finish(reference, slot)) is not None:
                    self._dispatch()
                    return result
            self._probe()
            self._heed_drains()
            self._resize()
            self._dispatch()
            references = {ref: slot for slot in self._slots for ref in [*slot.flying, slot.ready] if ref}
            left = end - time.monotonic()
            if left <= 0:
                return None
            if not references:
                if not any(slot.probe_at for slot in self._slots):
                    return None
                time.sleep(PROBE_SECONDS)
                continue
            every = list(references)
            done, _ = self._ray.wait(every, num_returns=1, timeout=min(left, 1.0), fetch_local=True)
            if done:  # all that are in: with hundreds of evaluators a look at each of them for each answer adds up
                done, _ = self._ray.wait(every, num_returns=len(every), timeout=0, fetch_local=True)
                self._answers.extend((reference, references[reference]) for reference in done)
            elif (expired := self._expire()) is not None:
                return expired

    def _heed_drains(self) -> None:
        """No new work for evaluators on nodes that are about to go; Ray restarts them elsewhere when they are gone."""
        if time.monotonic() < self._look_again:
            return
        self._look_again = time.monotonic() + DRAIN_SECONDS
        going = cluster.draining_nodes()
        for slot in self._slots:
            slot.draining = slot.facts.get("node") in going

    def _probe(self) -> None:
        for slot in self._slots:
            if slot.probe_at is not None and time.monotonic() > slot.probe_at:
                slot.ready, slot.probe_at = slot.actor.ready.remote(), None

    def _resize(self) -> None:
        """Ask for evaluators while items wait, give back those that are idle."""
        now, staying = time.monotonic(), [s for s in self._slots if not s.leaving]
        starting = sum(s.ready is not None or s.probe_at is not None for s in staying)
        wanted = min(self._most - len(staying), len(self._queue) - starting)
        self._slots += [self._new_slot() for _ in range(wanted)]
        if len(staying) > self._least and not self._queue:
            idle = [s for s in staying if s.takes_work and not s.flying and now - s.idle_since > IDLE_SECONDS]
            for slot in idle[: len(staying) - self._least]:
                self._dismiss(slot)
        for slot in [s for s in self._slots if s.leaving and not s.flying]:
            self._dismiss(slot)

    def _dismiss(self, slot: Slot) -> None:
        self._ray.kill(slot.actor)
        self._slots.remove(slot)

    def _finish(self, reference: Any, slot: Slot) -> tuple[Outcome, Handle] | None:
        errors = self._ray.exceptions
        if reference == slot.ready:
            try:
                self._take_in(slot)
            except errors.RayActorError as lost:
                # one that waits for a node is unavailable too; only what its own start raised is counted
                slot.failures += isinstance(lost, errors.ActorDiedError) or lost.actor_init_failed
                if slot.failures >= FAILED_STARTS:
                    raise RuntimeError(f"evaluator {slot.number} can not start: {lost}") from lost
                if isinstance(lost, errors.ActorDiedError):
                    self._replace(slot)
                else:
                    slot.ready, slot.probe_at = None, time.monotonic() + PROBE_SECONDS
            return None
        flight = slot.flying[reference]
        slot.idle_since = time.monotonic()
        try:
            outcome: Outcome = self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, errors.RayError):  # it could not even begin: its input is gone
                if flight.forgotten:  # with the server before this one
                    return None
                raise ServerLost(f"the input of {flight.item} is gone: {type(error.cause).__name__}") from None
            raise
        except errors.RayActorError as lost:
            self._hurt.add(flight.item)
            if slot.ready is None:  # the first news of this death
                slot.lose(time.monotonic())
                slot.ready = slot.actor.ready.remote()  # probed before it is used again
            # those that only waited behind another there are not suspected of anything
            status = "lost" if reference == slot.suspect else "returned"
            return Outcome(flight.item, status, slot.number, error=str(lost).splitlines()[0]), NOTHING
        except errors.RayError as error:
            if flight.forgotten:
                return None
            raise ServerLost(f"{flight.item}: {type(error).__name__}") from None
        finally:
            del slot.flying[reference]
        slot.count(outcome)
        if outcome.status != "ok":
            self._hurt.add(flight.item)
        return outcome, flight.arrays

    def _replace(self, slot: Slot) -> None:
        """A new actor in a slot whose actor Ray will not restart."""
        slot.actor = self._new_actor(slot.number)
        slot.ready = slot.actor.ready.remote()

    def _expire(self) -> tuple[Outcome, Handle] | None:
        """Kill an evaluator whose oldest item is past its deadline; its items come back as lost."""
        for slot in self._slots:
            if not slot.flying:
                continue
            reference, flight = next(iter(slot.flying.items()))
            if time.monotonic() - flight.since > self._deadline * len(slot.flying):
                self._renew(slot)
                slot.flying.pop(reference)
                why = f"no answer in {self._deadline:.0f} s (run.deadline)"
                return Outcome(flight.item, "lost", slot.number, error=why), NOTHING
        return None

    def _renew(self, slot: Slot) -> None:
        self._ray.kill(slot.actor, no_restart=False)
        slot.lose(time.monotonic())
        slot.ready = slot.actor.ready.remote()

    def stragglers(self) -> list[Straggler]:
        """Items in flight beside an idle evaluator."""
        if self._queue or not any(s.takes_work and not s.flying for s in self._slots):
            return []
        now = time.monotonic()
        return [Straggler(f.item, slot.number, now - f.since) for slot in self._slots for f in slot.flying.values()]

    def quarantine(self, number: int) -> None:
        """The first time the evaluator gets a new process; the second time it goes for good, if another is left."""
        for slot in self._slots:
            if slot.number != number or slot.leaving:
                continue
            slot.quarantined += 1
            if slot.quarantined > 1 and sum(not s.leaving for s in self._slots) > 1:
                slot.leaving = True
            elif slot.ready is None:
                self._renew(slot)

    def forget(self) -> None:
        """Drop what is queued; what is in flight is waited for, and means nothing."""
        self._queue.clear()
        for slot in self._slots:
            slot.flying = {reference: flight._replace(forgotten=True) for reference, flight in slot.flying.items()}

    @property
    def capacity(self) -> int:
        """Two for each evaluator that takes work."""
        return IN_FLIGHT * max(1, sum(s.takes_work for s in self._slots))

    def status(self) -> list[dict[str, Any]]:
        """One row per evaluator."""
        return [slot.row() for slot in self._slots]

    def close(self) -> None:
        """End the actors that were started here; a cluster that we joined lives on."""
        for slot in self._slots:
            self._ray.kill(slot.actor)
        self.server.close()
