"""Where trials run: the bundles of a trial's placement group, and how many trials fit the cluster at once."""

from __future__ import annotations

import os

from raystill.actors import cluster
from raystill.platform.spec import DistillSpec

HEAD = 0.01
"""CPU of a trial's driver, which waits most of the time."""


def bundles(spec: DistillSpec) -> list[dict[str, float]]:
    """A trial's placement group: its driver, then each evaluator; a whole CPU where the driver computes itself."""
    workers = spec.run.fleet[1] if spec.run.fleet is not None else 1
    if not workers:
        return [{"CPU": 1.0, "GPU": 1.0} if spec.run.device == "cuda" else {"CPU": 1.0}]
    return [{"CPU": HEAD}, *([{"GPU": 1.0} if spec.run.device == "cuda" else {"CPU": 1.0}] * workers)]


def fits(wanted: list[dict[str, float]], nodes: list[dict[str, float]]) -> int:
    """How many trials fit the nodes at once, each bundle on one node.

    Args:
        wanted: bundles of a trial.
        nodes: resources of each.

    Raises:
        ValueError: none fits, and it would wait for ever; the message says what it takes and what there is.
    """
    free = [dict(node) for node in nodes]
    count = 0
    while True:
        for bundle in sorted(wanted, key=lambda b: -sum(b.values())):
            node = next((n for n in free if all(n.get(k, 0) >= v - 1e-9 for k, v in bundle.items())), None)
            if node is None:
                break
            for key, value in bundle.items():
                node[key] -= value
        else:
            count += 1
            continue
        break
    if not count:
        takes = {k: round(sum(b.get(k, 0) for b in wanted), 2) for k in ("CPU", "GPU")}
        has = {k: round(sum(n.get(k, 0) for n in nodes), 2) for k in ("CPU", "GPU")}
        raise ValueError(
            f"run.workers: a trial takes {len(wanted)} bundles with {takes['CPU']:g} CPU and {takes['GPU']:g} GPU, and "
            f"the cluster has {has['CPU']:g} CPU and {has['GPU']:g} GPU on {len(nodes)} nodes; take fewer workers"
        )
    return count


def with_device(spec: DistillSpec) -> DistillSpec:
    """The spec with a device of `auto` replaced by what the cluster has, from which bundles are computed."""
    if spec.run.device != "auto":
        return spec
    _connect(spec)
    return spec.model_copy(update={"run": spec.run.model_copy(update={"device": cluster.default_workers()[1]})})


def concurrent(spec: DistillSpec) -> int:
    """How many trials run at once.

    Raises:
        ValueError: the cluster has no room for one.
    """
    slots = _connect(spec)
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return min(fits(bundles(spec), nodes), max(1, slots) if spec.run.address is None else 10**6)


def _connect(spec: DistillSpec) -> int:
    """Join the cluster; returns the number of this machine's slots."""
    slots = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cluster.connect(spec.run.address, slots + 1)  # one slot more, of which drivers take a hundredth each
    return slots
