"""The Ray executor: evaluator actors that pull items, and the parameter server's actor."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raystill.actors.evaluator import Evaluator
from raystill.actors.executors import Handle
from raystill.actors.messages import Arrays, Outcome, WorkItem
from raystill.actors.parameter_server import Facts, ParameterServer
from raystill.platform import registry
from raystill.platform.spec import DistillSpec

IN_FLIGHT = 2
"""Items at one evaluator: one being computed and one that waits there, so that no round trip lies between them."""

START_SECONDS = 180.0

FAILED_STARTS = 3
"""Starts in a row that may fail before an evaluator's error is the run's."""

# A Ray worker inherits these; numerics stay those of one thread whatever the machine's variables say.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _worker_environment() -> dict[str, Any]:
    """Variables of every actor: one thread, and where this process finds its data."""
    found = {name: os.environ[name] for name in ("RAYSTILL_DATA", "RAYSTILL_CACHE") if name in os.environ}
    return {"env_vars": {**_ONE_THREAD, **found}}


def connect(address: str | None, workers: int | None) -> None:
    """Join a cluster, or start a local one that is large enough.

    Raises:
        ValueError: no cluster answers at `address`.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, OSError, RuntimeError) as error:
            raise ValueError(f"run.address: no Ray cluster answers at {address!r}: {error}") from error
        return
    slots = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ray.init(
        address="local", num_cpus=max(workers or 0, slots), include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip


def default_workers() -> tuple[int, str]:
    """(evaluators, device) that the cluster offers: one per GPU where there are any, else one per CPU slot."""
    import ray

    offered = ray.cluster_resources()
    if gpus := int(offered.get("GPU", 0)):
        return gpus, "cuda"
    return max(1, int(offered.get("CPU", 1))), "cpu"


def cpu_slots() -> int:
    """CPU slots that the cluster offers."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


@dataclass
class _Seat:
    """One evaluator as its executor sees it."""

    actor: Any
    ready: Any | None  # reference to its first answer; None once it has answered
    failures: int = 0  # starts that failed in a row
    flying: dict[Any, tuple[WorkItem, Handle, Handle, float]] = field(default_factory=dict)


class OnRay:
    """Computes on a Ray cluster. Lost items come back as outcomes; a lost evaluator is restarted by Ray."""

    def __init__(
        self,
        spec: DistillSpec,
        groups: dict[str, str],
        plugins: registry.Plugins | None,
        workers: int,
        fingerprint: str,
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray: Any = ray
        self._deadline = spec.run.deadline
        gpu = spec.run.device == "cuda"
        evaluator: Any = ray.remote(Evaluator).options(
            num_cpus=0 if gpu else 1, num_gpus=1 if gpu else 0, max_restarts=-1, max_task_retries=0,
            runtime_env=_worker_environment(),
        )  # fmt: skip
        # its checkpoints are files in the run folder, so it lives where that folder is
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._server = (
            ray.remote(ParameterServer)
            .options(num_cpus=0, runtime_env=_worker_environment(), scheduling_strategy=here)
            .remote(spec.outer.model_dump(), groups)
        )  # fmt: skip
        actors = [evaluator.remote(i, spec.dump(), plugins) for i in range(workers)]
        self._seats = [_Seat(actor, actor.ready.remote()) for actor in actors]
        self._queue: deque[tuple[WorkItem, Handle, int | None]] = deque()
        self._fingerprint = fingerprint
        self._await_first()

    def _await_first(self) -> None:
        """Wait until one evaluator has its data; the others join when they are ready."""
        pending = {seat.ready: seat for seat in self._seats}
        done, _ = self._ray.wait(list(pending), num_returns=1, timeout=START_SECONDS)
        if not done:
            raise TimeoutError(
                f"no evaluator was ready after {START_SECONDS:.0f} s; the cluster offers "
                f"{self._ray.cluster_resources()}"
            )
        self._seat(pending[done[0]])

    def _seat(self, seat: _Seat) -> None:
        """Take an evaluator that has answered into service, once its data are known to be the run's.

        Raises:
            RuntimeError: another node's source holds other data.
        """
        number, found = self._ray.get(seat.ready)
        if found != self._fingerprint:
            raise RuntimeError(
                f"evaluator {number} loaded other data than this process: fingerprint {found[:12]}, not "
                f"{self._fingerprint[:12]}; the source must hold the same content on every node"
            )
        seat.ready, seat.failures = None, 0

    def await_all(self) -> None:
        """Wait until every evaluator is ready; for benchmarks, which must not time a start."""
        waiting = [seat for seat in self._seats if seat.ready is not None]
        _, late = self._ray.wait([s.ready for s in waiting], num_returns=len(waiting), timeout=START_SECONDS)
        if late:
            raise TimeoutError(f"{len(late)} evaluators were not ready after {START_SECONDS:.0f} s")
        for seat in waiting:
            self._seat(seat)

    def put(self, arrays: Arrays) -> Handle:
        """One copy in the object store."""
        return self._ray.put(arrays)

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item."""
        self._queue.append((item, inputs, avoid))
        self._dispatch()

    def _dispatch(self) -> None:
        """Hand queued items, the oldest first, to the evaluators with the fewest in flight."""
        for entry in list(self._queue):
            item, inputs, avoid = entry
            room = [
                (len(s.flying), i) for i, s in enumerate(self._seats) if s.ready is None and len(s.flying) < IN_FLIGHT
            ]
            if not room:
                return
            choice = min(((n, i) for n, i in room if i != avoid or len(self._seats) == 1), default=None)
            if choice is None:  # only the evaluator that this item avoids has room; those behind it may go
                continue
            seat = self._seats[choice[1]]
            self._queue.remove(entry)
            outcome, arrays = seat.actor.run.options(num_returns=2).remote(item, inputs)
            seat.flying[outcome] = (item, inputs, arrays, time.monotonic())

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """Wait for the first outcome; a lost or late evaluator makes outcomes `lost` of what it had."""
        end = time.monotonic() + timeout
        while True:
            self._dispatch()
            references = {
                ref: (i, seat) for i, seat in enumerate(self._seats) for ref in [*seat.flying, seat.ready] if ref
            }
            left = end - time.monotonic()
            if not references or left <= 0:
                return None
            done, _ = self._ray.wait(list(references), num_returns=1, timeout=min(left, 5.0), fetch_local=True)
            if done:
                result = self._finish(done[0], *references[done[0]])
            else:
                result = self._expire()
            if result is not None:
                return result

    def _finish(self, reference: Any, number: int, seat: _Seat) -> tuple[Outcome, Handle] | None:
        error = self._ray.exceptions.RayActorError
        if reference == seat.ready:
            try:
                self._seat(seat)
            except error as lost:  # died while it started
                seat.failures += 1
                if seat.failures >= FAILED_STARTS:
                    raise RuntimeError(f"evaluator {number} can not start: {lost}") from lost
                seat.ready = seat.actor.ready.remote()
            return None
        item, _, arrays, _ = seat.flying.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except error as lost:
            if seat.ready is None:
                seat.ready = seat.actor.ready.remote()  # probed before it is used again
            return Outcome(item, "lost", number, error=str(lost).splitlines()[0]), None
        return outcome, arrays

    def _expire(self) -> tuple[Outcome, Handle] | None:
        """Kill an evaluator whose oldest item is past its deadline; its items come back as lost."""
        for number, seat in enumerate(self._seats):
            if seat.flying and time.monotonic() - next(iter(seat.flying.values()))[3] > self._deadline * len(
                seat.flying
            ):
                self._ray.kill(seat.actor, no_restart=False)
                item = next(iter(seat.flying.values()))[0]
                seat.flying.pop(next(iter(seat.flying)))
                seat.ready = seat.actor.ready.remote()
                return Outcome(item, "lost", number, error=f"no answer in {self._deadline:.0f} s (run.deadline)"), None
        return None

    def call(self, method: str, *args: Any) -> Any:
        """A method of the server, waited for."""
        return self._ray.get(getattr(self._server, method).remote(*args), timeout=self._deadline)

    def arrays(self, method: str, *args: Any) -> tuple[Facts, Handle]:
        """A method of the server; its arrays stay in the object store."""
        facts, arrays = self.later(method, *args)
        return facts(), arrays

    def later(self, method: str, *args: Any) -> tuple[Callable[[], Facts], Handle]:
        """As `arrays`, without waiting for the facts."""
        facts, arrays = getattr(self._server, method).options(num_returns=2).remote(*args)
        return (lambda: self._ray.get(facts, timeout=self._deadline)), arrays

    def fetch(self, handle: Handle) -> Arrays:
        """The arrays behind a reference."""
        arrays: Arrays = self._ray.get(handle, timeout=self._deadline)
        return arrays

    def close(self) -> None:
        """End the actors that were started here; a cluster that we joined lives on."""
        for actor in [*(seat.actor for seat in self._seats), self._server]:
            self._ray.kill(actor)
