"""`raystill doctor`: check this machine and its Ray cluster."""

from __future__ import annotations

import os
import platform as machine
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from raystill.actors import cluster
from raystill.platform.cli import Parser
from raystill.platform.data.sources import registry
from raystill.platform.spec import DataSpec, TrackingSpec

PACKAGES = ("raystill", "torch", "torchvision", "ray", "mlflow", "pyarrow", "numpy", "pydantic")


class Finding(NamedTuple):
    """A line of the report: what was checked, whether it is in order (None: neither fine nor wrong), its state."""

    subject: str
    fine: bool | None
    state: str


def doctor(argv: list[str]) -> int:
    """Print the state of this machine; the exit code is 1 if something is wrong."""
    text = "Check this machine: versions, processors, GPUs, Ray, the tracking store, data sets."
    Parser(prog="raystill doctor", description=text).parse_args(argv)
    wrong = 0
    for subject, fine, state in findings():
        print(f"{'ok  ' if fine else 'no  ' if fine is False else '-   '} {subject:14s} {state}", flush=True)
        wrong += fine is False
    return 1 if wrong else 0


def findings() -> Iterator[Finding]:
    """Versions, processors, GPUs, the Ray cluster, the tracking store, the cache, the data sets."""
    yield Finding("python", True, f"{machine.python_version()} on {machine.system()} {machine.machine()}")
    for package in PACKAGES:
        try:
            yield Finding(package, True, version(package))
        except PackageNotFoundError:
            yield Finding(package, False, "not installed")
    yield _processors()
    yield _gpus()
    yield _cluster()
    yield _tracking()
    yield _cache()
    yield _data_sets()


def _processors() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    usable = len(os.sched_getaffinity(0))
    return Finding("processors", True, f"{usable} usable of {os.cpu_count()}; {free:.0f} GiB free on this disk")


def _gpus() -> Finding:
    import torch

    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding("gpus", bool(names) or None, names or "none; each evaluator takes one processor")


def _cluster() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("ray cluster", None, "RAY_ADDRESS is not set: each run starts a local one")
    import ray

    try:
        cluster.connect(address, None)
    except ValueError as error:
        return Finding("ray cluster", False, str(error).removeprefix("run.address: "))
    return Finding("ray cluster", True, f"{address}: {ray.cluster_resources()}")


def _tracking() -> Finding:
    from raystill.platform.tracking import reachable

    try:
        return Finding("tracking", True, reachable(TrackingSpec()))
    except ValueError as error:
        return Finding("tracking", False, str(error))


def _cache() -> Finding:
    folder = registry.cache_folder(DataSpec())
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    later = "" if folder.exists() else " (does not exist yet)"
    return Finding("data cache", os.access(existing, os.W_OK), f"{folder}{later}")


def _data_sets() -> Finding:
    try:
        root = registry.data_root(DataSpec())
    except ValueError as error:
        return Finding("data sets", None, f"digits (built in); {error}")
    if not root.is_dir():
        return Finding("data sets", False, f"RAYSTILL_DATA: {root} is not a folder")
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    return Finding("data sets", True, f"digits (built in); under {root}: {', '.join(names) or 'nothing'}")
