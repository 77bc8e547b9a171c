"""The Ray cluster: how to join or start one, its resources, and the versions of its nodes."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raystill.platform.work import hardware

PACKAGES = ("raystill", "ray", "torch", "numpy")
"""Packages of which every node needs the same version: messages and bits depend on them."""


def worker_environment() -> dict[str, Any]:
    """Ray's runtime environment of every actor: one thread, and this process's variables for data and cache."""
    folders = {name: os.environ[name] for name in ("RAYSTILL_DATA", "RAYSTILL_CACHE") if name in os.environ}
    return {"env_vars": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **folders}}


def versions() -> dict[str, str]:
    """This process's versions of Python and of PACKAGES."""
    return {"python": ".".join(map(str, sys.version_info[:3])), **{name: version(name) for name in PACKAGES}}


def describe_process(device: str) -> dict[str, Any]:
    """Facts of this process: Ray node, host, process id, versions, hardware."""
    import ray

    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    return {"node": node, "host": os.uname().nodename, "pid": os.getpid(), "versions": versions(),
            "hardware": hardware.fingerprint(device)}  # fmt: skip


def token() -> str | None:
    """The token for Ray clusters, from the places where Ray looks for it; None where there is none or it is off.

    Raises:
        ValueError: RAY_AUTH_TOKEN_PATH names a file that can not be read.
    """
    # Ray's own client sends a token only if RAY_AUTH_MODE was set before Ray was imported
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "disabled":
        return None
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return value
    own_path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(own_path).expanduser() if own_path else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text().strip() or None
    except OSError as error:
        if own_path:
            raise ValueError(f"RAY_AUTH_TOKEN_PATH: {path} can not be read: {error.strerror}") from None
        return None


def connect(address: str | None, workers: int | None) -> None:
    """Join a cluster, or start a local one.

    Args:
        address: of the cluster; None takes RAY_ADDRESS, or starts a local cluster where that is not set.
        workers: number of evaluators for which a local cluster needs CPU slots.

    Raises:
        ValueError: no cluster answers at `address`, or it refuses our token.
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
                # we do not set the mode: a driver with a token can not be reached by a cluster without one
                line = "it asks for a token; set RAY_AUTH_MODE=token, with the token where docs/guides/cluster.md says"
            raise ValueError(f"run.address: no Ray cluster answers at {address!r}: {line}") from None
        return
    slots = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ray.init(
        address="local", num_cpus=max(workers or 0, slots), include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip


def default_workers() -> tuple[int, str]:
    """The number of evaluators and their device: one for each GPU of the cluster, else one for each CPU slot."""
    import ray

    if gpus := int(ray.cluster_resources().get("GPU", 0)):
        return gpus, "cuda"
    return cpu_slots(), "cpu"


def cpu_slots() -> int:
    """The number of CPU slots of the cluster."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def draining_nodes() -> set[str]:
    """Ids of the nodes that will soon be taken away, such as spot machines after their notice."""
    from ray._private.state import state  # not public; Ray has no public call for it

    try:
        return set(state.get_draining_nodes())
    except (AttributeError, RuntimeError):  # another version of Ray, or a head that does not answer
        return set()
