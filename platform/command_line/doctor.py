"""What a machine offers, for `raystill doctor`: each finding is (name, fine or not or neither, what was found)."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from raystill.platform.command_line.commands import installed, python
from raystill.platform.data.sources import registry
from raystill.platform.spec import DataSpec, TrackingSpec

Finding = tuple[str, bool | None, str]
PACKAGES = ("raystill", "torch", "torchvision", "ray", "mlflow", "pyarrow", "numpy", "pydantic")


def findings() -> Iterator[Finding]:
    """Versions, processors, Ray, the tracking store, the cache, the data sets."""
    yield "python", True, python()
    for name in PACKAGES:
        found = installed(name)
        yield name, found is not None, found or "not installed"
    yield _processors()
    yield _gpus()
    yield _ray()
    yield _tracking()
    yield _cache()
    yield _data()


def _processors() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return (
        "processors",
        True,
        f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}; {free:.0f} GiB free on this disk",
    )


def _gpus() -> Finding:
    import torch

    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
    return "gpus", True if count else None, names or "none that torch sees; evaluators take one processor each"


def _ray() -> Finding:
    import ray

    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return "ray cluster", None, "RAY_ADDRESS is not set: a local one is started for each run"
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        return "ray cluster", False, f"{address} does not answer: {str(error).splitlines()[0]}"
    return "ray cluster", True, f"{address}: {ray.cluster_resources()}"


def _tracking() -> Finding:
    from raystill.platform.tracking import reachable

    try:
        return "tracking", True, reachable(TrackingSpec())
    except ValueError as error:
        return "tracking", False, str(error)


def _cache() -> Finding:
    folder = registry.cache_folder(DataSpec())
    near = next(p for p in (folder, *folder.parents) if p.exists())
    return "data cache", os.access(near, os.W_OK), f"{folder}{'' if folder.exists() else ' (not made yet)'}"


def _data() -> Finding:
    try:
        root = registry.data_root(DataSpec())
    except ValueError as error:
        return "data sets", None, f"digits (built in); {error}"
    if not root.is_dir():
        return "data sets", False, f"RAYSTILL_DATA: {root} is not a folder"
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    return "data sets", True, f"digits (built in); under {root}: {', '.join(names) or 'nothing'}"
