"""The evaluators of a run as Ray actors: which there are, how they start, and when they are given back.

Their number follows the work, between the least and the most of the spec: while items wait, the roster asks the
cluster for more evaluators (an autoscaler then brings nodes); evaluators that stay idle are given back.
"""

from __future__ import annotations

import time
from typing import Any

from raystill.actors import cluster
from raystill.actors.fleet.evaluator import Evaluator
from raystill.actors.fleet.slots import Slot
from raystill.platform import registry
from raystill.platform.spec import DistillSpec

START_SECONDS = 180.0

FAILED_STARTS = 3
"""Failed starts in a row after which the error of an evaluator ends the run."""

PROBE_SECONDS = 0.5
"""Time between two calls to an evaluator that waits for a node or is being restarted."""

DRAIN_SECONDS = 2.0
"""Time between two queries for draining nodes; a spot machine is drained 30 to 120 s before it goes."""

IDLE_SECONDS = 15.0
"""Idle time after which an evaluator beyond the least number is given back."""


class Roster:
    """The slots of all evaluators.

    Args:
        workers: the least and the most number of evaluators.
        fingerprint: of the data that every evaluator must have loaded.
    """

    def __init__(
        self, spec: DistillSpec, plugins: registry.Plugins | None, workers: tuple[int, int], fingerprint: str
    ) -> None:
        import ray

        self._ray: Any = ray
        self._spec, self._plugins = spec, plugins
        self._least, self._most = workers
        self._fingerprint, self._versions = fingerprint, cluster.versions()
        self._started = 0
        self._next_drain_query = 0.0
        self.slots = [self._new_slot() for _ in range(self._least)]

    def _new_slot(self) -> Slot:
        number, self._started = self._started, self._started + 1
        actor = self.new_actor(number)
        return Slot(number, actor, actor.ready.remote())

    def new_actor(self, number: int) -> Any:
        """A new evaluator, which Ray restarts whenever its process dies."""
        gpu = self._spec.run.device == "cuda"
        return (
            self._ray.remote(Evaluator)
            .options(num_cpus=0 if gpu else 1, num_gpus=1 if gpu else 0, max_restarts=-1, max_task_retries=0,
                     runtime_env=cluster.worker_environment())
            .remote(number, self._spec.dump(), self._plugins)
        )  # fmt: skip

    def wait_ready(self, count: int) -> None:
        """Wait until `count` evaluators are ready.

        Raises:
            TimeoutError: fewer are after START_SECONDS.
            RuntimeError: as `admit`.
        """
        pending = {slot.ready: slot for slot in self.slots if slot.ready is not None}
        count -= len(self.slots) - len(pending)
        if count <= 0:
            return
        done, _ = self._ray.wait(list(pending), num_returns=count, timeout=START_SECONDS)
        if len(done) < count:
            raise TimeoutError(
                f"{count - len(done)} of {len(self.slots)} evaluators were not ready after {START_SECONDS:.0f} s; "
                f"the cluster offers {self._ray.cluster_resources()}"
            )
        for reference in done:
            self._admit(pending[reference])

    def _admit(self, slot: Slot) -> None:
        """Give a started evaluator work from now on, if its versions and data are the driver's.

        Raises:
            RuntimeError: they are not.
        """
        facts = self._ray.get(slot.ready)
        where = f"evaluator {slot.number} on node {facts['host']}"
        if wrong := {k: v for k, v in facts["versions"].items() if self._versions[k] != v}:
            pairs = ", ".join(f"{k} {v} (here {self._versions[k]})" for k, v in wrong.items())
            raise RuntimeError(f"{where} has other versions: {pairs}; install the same on every node")
        if facts["data"] != self._fingerprint:
            raise RuntimeError(
                f"{where} loaded other data than this process: fingerprint {facts['data'][:12]}, not "
                f"{self._fingerprint[:12]}; the source must have the same content on every node"
            )
        slot.facts, slot.ready, slot.failures, slot.idle_since = facts, None, 0, time.monotonic()

    def finish_start(self, slot: Slot) -> None:
        """Admit an evaluator whose first answer is in; if its start failed, start it again.

        Raises:
            RuntimeError: its start failed FAILED_STARTS times in a row, or as `_admit`.
        """
        errors = self._ray.exceptions
        try:
            self._admit(slot)
        except errors.RayActorError as error:
            # an evaluator that waits for a node is unavailable too: only an error of its own start counts
            died = isinstance(error, errors.ActorDiedError)
            slot.failures += died or error.actor_init_failed
            if slot.failures >= FAILED_STARTS:
                raise RuntimeError(f"evaluator {slot.number} can not start: {error}") from error
            if died:  # Ray will not restart it
                slot.actor = self.new_actor(slot.number)
                slot.ready = slot.actor.ready.remote()
            else:
                slot.ready, slot.probe_at = None, time.monotonic() + PROBE_SECONDS

    def died(self, slot: Slot) -> None:
        """Note that an evaluator's process is gone, and wait for the one that Ray starts in its place."""
        slot.lose(time.monotonic())
        slot.ready = slot.actor.ready.remote()

    def renew(self, slot: Slot) -> None:
        """Kill an evaluator's process; Ray starts another one."""
        self._ray.kill(slot.actor, no_restart=False)
        self.died(slot)

    def quarantine(self, number: int) -> None:
        """Renew an evaluator the first time; the second time remove it, if another one is left."""
        for slot in self.slots:
            if slot.number != number or slot.leaving:
                continue
            slot.quarantined += 1
            if slot.quarantined > 1 and sum(not s.leaving for s in self.slots) > 1:
                slot.leaving = True
            elif slot.ready is None:
                self.renew(slot)

    def maintain(self, queued: int) -> None:
        """Call evaluators that are being restarted, note draining nodes, and fit the number of evaluators to the work.

        Args:
            queued: number of items that wait for an evaluator.
        """
        now = time.monotonic()
        for slot in self.slots:
            if slot.probe_at is not None and now > slot.probe_at:
                slot.ready, slot.probe_at = slot.actor.ready.remote(), None
        if now >= self._next_drain_query:
            self._next_drain_query = now + DRAIN_SECONDS
            nodes = cluster.draining_nodes()
            for slot in self.slots:  # Ray restarts these evaluators elsewhere when their node is gone
                slot.draining = slot.facts.get("node") in nodes
        self._resize(queued, now)

    def _resize(self, queued: int, now: float) -> None:
        staying = [slot for slot in self.slots if not slot.leaving]
        starting = sum(slot.ready is not None or slot.probe_at is not None for slot in staying)
        self.slots += [self._new_slot() for _ in range(min(self._most - len(staying), queued - starting))]
        surplus = [s for s in staying if s.takes_work and not s.in_flight and now - s.idle_since > IDLE_SECONDS]
        if queued or len(staying) <= self._least:
            surplus = []
        leaving = [slot for slot in self.slots if slot.leaving and not slot.in_flight]
        for slot in surplus[: len(staying) - self._least] + leaving:
            self._ray.kill(slot.actor)
            self.slots.remove(slot)

    def close(self) -> None:
        """End all evaluators."""
        for slot in self.slots:
            self._ray.kill(slot.actor)
