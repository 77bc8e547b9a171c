"""The measured inputs of benchmarks/simulate_scale.py: apply time, call latency, the driver's share, transfers.

CPU time for what one process does, so that a busy machine does not spoil it; the least of a few tries for the rest.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from raystill.platform import outer
from raystill.platform.spec import OuterSpec

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


def apply() -> list[dict[str, float]]:
    """Seconds of `outer.advance` by size: `fixed_s` of a step, `each_s` of a chunk."""
    rows = []
    for megabytes in SIZES:
        state, chunks = outer.begin(_arrays(megabytes, 0)), [_arrays(megabytes, n) for n in (1, 2, 3)]
        few, many = (1, 2) if megabytes > 100 else (1, 3)
        took = {
            n: _least(lambda n=n: outer.advance(SPEC, GROUPS, state, chunks[:n], n), 3 if megabytes < 100 else 2,
                      time.process_time) for n in (few, many)
        }  # fmt: skip
        each = (took[many] - took[few]) / (many - few)
        rows.append({"megabytes": megabytes, "fixed_s": max(0.0, took[few] - few * each), "each_s": each})
    return rows


def memory() -> dict[str, float]:
    """Bytes that an apply takes beside its inputs, in sizes of the meta-parameters: of a step, and of each chunk."""
    state, chunks, peak = outer.begin(_arrays(4.0, 0)), [_arrays(4.0, n) for n in range(6)], {}
    for n in (2, 6):
        tracemalloc.start()
        outer.advance(SPEC, GROUPS, state, chunks[:n], n)
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
        return _least(lambda: ray.put(value), 3, time.perf_counter)

    def make(self, megabytes: float) -> dict[str, np.ndarray]:
        return _arrays(megabytes, 1)


def calls() -> dict[str, Any]:
    """What Ray costs: a call, the driver's work for an item and for waiting among many, and a put by size."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=2 * 10**9, log_to_driver=False)
    peer, busy = (ray.remote(_Peer).options(num_cpus=1).remote() for _ in range(2))
    ray.get([peer.answer.remote(), busy.answer.remote()])
    trips = [_least(lambda: ray.get(peer.answer.remote()), 1, time.perf_counter) for _ in range(200)]
    begin = time.process_time()
    pairs = [peer.answer.options(num_returns=2).remote() for _ in range(500)]
    submit = (time.process_time() - begin) / 500
    ray.wait([first for first, _ in pairs], num_returns=500)
    begin = time.process_time()
    for first, _ in pairs:
        ray.wait([first], num_returns=1, timeout=1.0)
        ray.get(first)
    answer = (time.process_time() - begin) / 500
    waits, hold = {}, busy.sleep.remote(60)
    pending = [busy.answer.remote() for _ in range(4096)]
    ready = ray.put(0)
    for n in (16, 256, 4096):
        references = [*pending[: n - 1], ready]
        waits[n] = _least(lambda r=references: ray.wait(r, num_returns=1, timeout=1.0), 10, time.process_time)
    puts = [{"megabytes": m, "put_s": ray.get(peer.put.remote(m))} for m in SIZES]
    ray.kill(busy)
    del hold, pending
    ray.shutdown()
    return {
        "latency_s": statistics.median(trips) / 2, "submit_s": submit, "answer_s": answer,
        "wait_per_item_s": (waits[4096] - waits[16]) / 4080, "waits_s": {str(n): w for n, w in waits.items()},
        "transfer": puts,
    }  # fmt: skip


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
            for _ in range(5):
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
        "apply": apply(), "apply_memory": memory(), **calls(), "between_nodes_s": between_nodes(),
    }  # fmt: skip
    path.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    print(json.dumps(measure(Path(__file__).parent / "results" / "scale-inputs.json"), indent=1))
