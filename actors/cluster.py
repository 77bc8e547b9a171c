"""The Ray cluster: joining or starting one, what it offers, and whether its nodes fit together."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raystill.platform.work import hardware

PACKAGES = ("raystill", "ray", "torch", "numpy")
"""What every node must have alike: messages and bits depend on it."""


def worker_environment() -> dict[str, Any]:
    """Variables of every actor: one thread whatever the machine says, and where this process finds its data."""
    found = {name: os.environ[name] for name in ("RAYSTILL_DATA", "RAYSTILL_CACHE") if name in os.environ}
    return {"env_vars": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **found}}


def versions() -> dict[str, str]:
    """This process's versions of what nodes must have alike."""
    return {"python": ".".join(map(str, sys.version_info[:3])), **{name: version(name) for name in PACKAGES}}


def describe_process(device: str) -> dict[str, Any]:
    """What an actor says of itself when it starts: node, process, versions, hardware."""
    import ray

    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    return {"node": node, "host": os.uname().nodename, "pid": os.getpid(), "versions": versions(),
            "hardware": hardware.fingerprint(device)}  # fmt: skip


def token() -> str | None:
    """The token of Ray's clusters from where Ray looks for it, in Ray's order; None where it is off or there is none.

    Raises:
        ValueError: a file of a token is named and can not be read.
    """
    # read here and not by Ray, whose client sends one only where RAY_AUTH_MODE was set before Ray was imported
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "disabled":
        return None
    if found := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return found
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text().strip() or None
    except OSError as error:
        if named:
            raise ValueError(f"RAY_AUTH_TOKEN_PATH: {path} can not be read: {error.strerror}") from None
        return None


def connect(address: str | None, workers: int | None) -> None:
    """Join a cluster, or start a local one that is large enough.

    Raises:
        ValueError: no cluster answers at `address`, or it does not take our token.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, OSError, RuntimeError, ray.exceptions.RayError) as error:
            line = " ".join(str(error).split())[:200]
            if "token" in line.lower() and os.environ.get("RAY_AUTH_MODE") != "token":
                # not set here: a driver with a token can not be reached by a cluster without one
                line = "it asks for a token; set RAY_AUTH_MODE=token, with the token where docs/cluster.md says"
            raise ValueError(f"run.address: no Ray cluster answers at {address!r}: {line}") from None
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


def draining_nodes() -> set[str]:
    """Ids of nodes that have been told to go."""
    from ray._private.state import state  # Ray has no public way to ask

    try:
        return set(state.get_draining_nodes())
    except (AttributeError, RuntimeError):  # another Ray, or a head that does not answer now
        return set()
