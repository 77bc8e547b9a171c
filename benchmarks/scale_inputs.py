"""The measured inputs of benchmarks/simulate_scale.py: apply time, call latency, the driver's share, transfers.

    python benchmarks/scale_inputs.py       # writes benchmarks/results/scale-inputs.json; 3 minutes, 12 GB of memory

CPU time for what one process does, so that a busy machine does not spoil it; the least of a few tries for the rest.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.crew import Crew
from raystill.actors.fleet.ray_executor import RayExecutor
from raystill.actors.fleet.roster import Roster
from raystill.actors.messages import Outcome, WorkItem
from raystill.actors.record.commit_log import CommitLog
from raystill.actors.server.parameter_server import ParameterServer
from raystill.actors.server.shards import Handle
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec, OuterSpec

SIZES = (0.3, 1.0, 4.0, 40.0, 400.0)
SPEC = OuterSpec(clip_relative=1.0, ema=0.97)
GROUPS = {"images": "lr"}


def _arrays(megabytes: float, seed: int) -> dict[str, np.ndarray]:
    return {"images": np.random.default_rng(seed).standard_normal(int(megabytes * 250_000), np.float32)}


def _least(action: Callable[[], Any], tries: int, clock: Callable[[], float]) -> float:
    def once() -> float:
        begin = clock()
        action()
        return clock() - begin

    return min(once() for _ in range(tries))


def _applied(server: ParameterServer, chunks: list[dict[str, np.ndarray]]) -> None:
    assert server.state is not None
    server.apply(0, server.state.step, len(chunks), *chunks)


def _server(megabytes: float) -> ParameterServer:
    server = ParameterServer(SPEC.model_dump(), GROUPS)
    server.init(_arrays(megabytes, 0))
    return server


def apply() -> list[dict[str, float]]:
    """Seconds of one server's apply by size: `fixed_s` of a step, `each_s` of a chunk."""
    rows = []
    for megabytes in SIZES:
        few, many = 1, 3 if megabytes > 100 else 9
        server, chunks, took = _server(megabytes), [_arrays(megabytes, n) for n in range(1, many + 1)], {}
        for n in (few, many):
            took[n] = _least(partial(_applied, server, chunks[:n]), 20 if megabytes < 10 else 5, time.process_time)
        each = (took[many] - took[few]) / (many - few)
        rows.append({"megabytes": megabytes, "fixed_s": max(0.0, took[few] - few * each), "each_s": each})
    return rows


def memory() -> dict[str, float]:
    """Bytes that an apply takes beside its inputs, in sizes of the meta-parameters: of a step, and of each chunk."""
    server, chunks, peak = _server(4.0), [_arrays(4.0, n) for n in range(6)], {}
    for n in (2, 6):
        tracemalloc.start()
        _applied(server, chunks[:n])
        peak[n] = tracemalloc.get_traced_memory()[1] / 4e6
        tracemalloc.stop()
    each = (peak[6] - peak[2]) / 4
    return {"fixed_sizes": peak[2] - 2 * each, "each_sizes": each}


class _Peer:
    """An actor that answers, and that takes and makes arrays."""

    def answer(self, arrays: Any = None) -> tuple[int, int]:
        return 0, 0

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def put(self, megabytes: float) -> float:
        import ray

        value = _arrays(megabytes, 1)
        return statistics.median(_least(lambda: ray.put(value), 1, time.perf_counter) for _ in range(3))

    def make(self, megabytes: float) -> dict[str, np.ndarray]:
        return _arrays(megabytes, 1)


def calls() -> dict[str, Any]:
    """What Ray costs: a call, the driver's work for an item and for waiting among many, and a put by size."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=2 * 10**9, log_to_driver=False)
    peer, busy = (ray.remote(_Peer).options(num_cpus=1).remote() for _ in range(2))
    ray.get([peer.answer.remote(), busy.answer.remote()])
    trips = [_least(lambda: ray.get(peer.answer.remote()), 1, time.perf_counter) for _ in range(200)]
    begin = time.process_time()  # of all threads: what Ray does in the background of the driver is counted
    pairs = [peer.answer.options(num_returns=2).remote() for _ in range(500)]
    submit = (time.process_time() - begin) / 500
    for first, _ in pairs:
        ray.get(first)
    both = (time.process_time() - begin) / 500
    waits, hold = {}, busy.sleep.remote(60)
    pending = [busy.answer.remote() for _ in range(4096)]
    ready = ray.put(0)
    for n in (16, 4096):
        references = [*pending[: n - 1], ready]
        waits[n] = _least(lambda r=references: ray.wait(r, num_returns=1, timeout=1.0), 10, time.process_time)
    puts = [{"megabytes": m, "put_s": ray.get(peer.put.remote(m))} for m in SIZES]
    ray.kill(busy)
    del hold, pending
    ray.shutdown()
    return {
        "latency_s": statistics.median(trips) / 2, "submit_s": submit, "answer_s": both - submit,
        "wait_per_item_s": (waits[4096] - waits[16]) / 4080, "transfer": puts,
    }  # fmt: skip


class _Instant:
    """In place of Ray and of its actors: answers at once."""

    exceptions = None

    def __getattr__(self, _: str) -> _Instant:
        return self

    def options(self, **_: Any) -> _Instant:
        return self

    def remote(self, item: Any = None, *_: Any) -> Any:
        return _Reference(item), None

    def wait(self, references: list[Any], num_returns: int, **_: Any) -> tuple[list[Any], list[Any]]:
        return references[:num_returns], references[num_returns:]

    def get(self, reference: _Reference) -> Outcome:
        return Outcome(reference.item, "ok", 0, 1.0, 1.0, {"loss": 1.0})


class _Reference:
    def __init__(self, item: WorkItem) -> None:
        self.item = item


class _InstantRoster(Roster):
    """Evaluators that answer at once."""

    def new_actor(self, number: int) -> Any:
        return _Instant()

    def wait_ready(self, count: int) -> None:
        self._next_drain_query = math.inf  # there is no cluster to ask
        for slot in self.slots:
            slot.ready = None


class _Bookkeeping(RayExecutor):
    """The product's executor without a cluster: only the driver's own work is left."""

    def _new_server(self, spec: DistillSpec, groups: dict[str, str]) -> Any:
        self._ray = _Instant()
        return None

    def _new_roster(self, *args: Any) -> Roster:
        return _InstantRoster(*args)


def driver() -> dict[str, Any]:
    """Seconds that crew and executor take for an item: `base_s` + evaluators * `per_evaluator_s`."""
    took = {}
    for n in (16, 128, 1024):
        with tempfile.TemporaryDirectory() as folder:
            crew = Crew(_Bookkeeping(DistillSpec(), {}, None, (n, n), ""), CommitLog(Path(folder)), 60.0)
            begin = time.process_time()
            for step in range(max(1, 512 // n)):
                items = [WorkItem("meta_gradient", Address(0, 0, step, m), step, "meta") for m in range(n)]
                crew.wait([crew.add(item, Handle((None,))) for item in items])
            took[n] = (time.process_time() - begin) / n / max(1, 512 // n)
    slope = (took[1024] - took[16]) / 1008
    return {"base_s": took[16] - 16 * slope, "per_evaluator_s": slope, "took_s": {str(n): t for n, t in took.items()}}


def between_nodes() -> dict[str, float]:
    """Seconds from one Ray node's object store to another's by size, over loopback: what Ray itself takes for it."""
    import ray
    from ray.cluster_utils import Cluster

    memory = 10**9
    cluster = Cluster(True, head_node_args={"num_cpus": 1, "object_store_memory": memory, "resources": {"here": 1}})
    cluster.add_node(num_cpus=1, object_store_memory=memory, resources={"there": 1})
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        here, there = (ray.remote(_Peer).options(resources={n: 1}).remote() for n in ("here", "there"))
        found = {}
        for megabytes in (m for m in SIZES if m <= 40):
            times = []
            for _ in range(10):
                made = there.make.remote(megabytes)
                ray.wait([made], fetch_local=False)
                times.append(_least(lambda made=made: ray.get(here.answer.remote(made)), 1, time.perf_counter))
                del made
            found[str(megabytes)] = min(times)
        return found
    finally:
        ray.shutdown()
        cluster.shutdown()


def measure(path: Path) -> dict[str, Any]:
    """Measure everything and write it."""
    found = {
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version(),
                    "numpy": np.__version__},
        "apply": apply(), "apply_memory": memory(), "driver": driver(), **calls(),
        "between_nodes_s": between_nodes(),
    }  # fmt: skip
    path.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(measure(Path(__file__).parent / "results" / "scale-inputs.json"), indent=1))
