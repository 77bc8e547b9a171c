"""Rules on the node types of a cluster file, their images, their cost, and what is copied to every node."""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raystill.actors.launch.cluster_file.document import ClusterFile, Finding
from raystill.actors.launch.cluster_file.facts import AWS_GPU_NODES, aws_gpus
from raystill.actors.launch.cluster_file.schema import instead

LARGEST_CAP = 64
"""The largest `max_workers` that is accepted, unless the user sets another bound."""

BUILD = "pip wheel --no-deps -w dist ."


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _head(file: ClusterFile) -> str:
    return str(file.get("head_node_type"))


def node_types(file: ClusterFile) -> Iterator[Finding]:
    """The head's node type exists and takes no work; `min_workers` and `max_workers` agree."""
    types = file.node_types()
    if not types:
        return
    head, line = _head(file), file.line("head_node_type")
    if head not in types:
        wrong = "no `head_node_type`" if file.get("head_node_type") is None else f"no node type is called {head!r}"
        yield Finding(line, wrong, instead(head, types))
        return
    resources = file.mapping("available_node_types", head, "resources")
    at = file.line("available_node_types", head, "resources")
    if resources.get("CPU") != 0:
        line = file.line("available_node_types", head, "resources", "CPU")
        yield Finding(
            max(at, line), f"the head node {head!r} takes work that needs CPUs", "write `resources: {CPU: 0}`"
        )
    if _number(resources.get("GPU")):
        line = file.line("available_node_types", head, "resources", "GPU")
        yield Finding(line, f"the head node {head!r} takes work that needs GPUs", "remove `GPU` from its resources")
    least = sum(_number(node.get("min_workers")) for node in types.values())
    if file.get("max_workers") is not None and least > _number(file.get("max_workers")):
        wrong = f"`max_workers` is less than the {least} nodes that `min_workers` asks for"
        yield Finding(file.line("max_workers"), wrong, f"write `max_workers: {least}` or lower a `min_workers`")


def spot_head(file: ClusterFile) -> Iterator[Finding]:
    """The head, on which the parameter server runs, is no spot node."""
    path = ("available_node_types", _head(file), "node_config")
    for last in (("InstanceMarketOptions", "MarketType"), ("azure_arm_parameters", "priority")):
        if str(file.get(*path, *last)).lower() == "spot":
            fix = f"remove `{last[0]}` from the head; the evaluators may be spot nodes"
            yield Finding(file.line(*path, *last), "the head is a spot node, and the run dies with it", fix)
    scheduling = file.get(*path, "scheduling")
    for item in scheduling if isinstance(scheduling, list) else [scheduling]:
        if isinstance(item, dict) and (item.get("preemptible") is True or item.get("provisioningModel") == "SPOT"):
            line = file.line(*path, "scheduling")
            yield Finding(
                line, "the head is a spot node, and the run dies with it", "remove `scheduling` from the head"
            )


def gpu_counts(file: ClusterFile) -> Iterator[Finding]:
    """CPUs and GPUs are those of AWS's instance type."""
    if file.get("provider", "type") != "aws":
        return
    for name in file.node_types():
        path = ("available_node_types", name)
        instance = str(file.get(*path, "node_config", "InstanceType"))
        resources, gpus = file.mapping(*path, "resources"), aws_gpus(instance)
        line = file.line(*path, "resources", "GPU")
        if gpus is not None and "GPU" in resources and resources["GPU"] != gpus:
            fix = f"write `GPU: {gpus}`" if gpus else "take a GPU instance, such as g4dn.xlarge"
            yield Finding(line, f"`{name}` promises {resources['GPU']} GPUs, and {instance} has {gpus}", fix)
        elif gpus and resources and "GPU" not in resources and name != _head(file):
            yield Finding(line, f"`{name}` hides the {gpus} GPUs of {instance}", f"add `GPU: {gpus}` to its resources")
        cpus = AWS_GPU_NODES.get(instance, (0, 0))[0]
        if cpus and _number(resources.get("CPU")) > cpus:
            line = file.line(*path, "resources", "CPU")
            yield Finding(
                line, f"`{name}` promises {resources['CPU']} CPUs, and {instance} has {cpus}", f"write `CPU: {cpus}`"
            )


def image(file: ClusterFile) -> Iterator[Finding]:
    """Ray's images have the Ray and Python that are installed here, and CUDA where a node type has GPUs."""
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    gpus = any(_number(file.get("available_node_types", name, "resources", "GPU")) for name in file.node_types())
    wanted = f"rayproject/ray:{version('ray')}-{python}" + ("-gpu" if gpus else "")
    paths: list[tuple[str, ...]] = [("docker", key) for key in ("image", "head_image", "worker_image")]
    paths += [("available_node_types", name, "docker", "worker_image") for name in file.node_types()]
    for path in paths:
        name = file.get(*path)
        if not isinstance(name, str) or not re.match(r"(docker\.io/)?rayproject/ray", name):
            continue
        tag, line, fix = name.rpartition(":")[2], file.line(*path), f"write {wanted}"
        if not (release := re.match(r"\d+\.\d+\.\d+(rc\d+)?", tag)):
            yield Finding(line, f"the image {name} names no release of Ray", fix)
        elif release[0] != version("ray"):
            yield Finding(line, f"the image has Ray {release[0]}, and here is {version('ray')}", fix)
        elif not (tagged := re.search(r"-(py\d+)", tag)):
            yield Finding(line, f"the image {name} names no Python", fix)
        elif tagged[1] != python:
            yield Finding(
                line, f"the image has Python {tagged[1][2]}.{tagged[1][3:]}, and here is {python[2]}.{python[3:]}", fix
            )
        elif gpus and path[-1] != "head_image" and not re.search(r"-(gpu|cu\d+)", tag):
            yield Finding(line, f"the image {name} has no CUDA, and a node type has GPUs", fix)
    if file.mapping("docker") and any(file.get(*path) for path in paths) and not file.get("docker", "container_name"):
        yield Finding(file.line("docker"), "`docker` has no `container_name`", "add `container_name: raystill`")


def cost(file: ClusterFile, largest: int = LARGEST_CAP) -> Iterator[Finding]:
    """The file bounds the number of rented nodes, by `largest` at most."""
    if file.get("provider", "type") == "local":  # nothing is rented
        return
    cap = file.get("max_workers")
    if cap is None:
        yield Finding(
            1, "no `max_workers`, so no cost cap", "add `max_workers: N`, the number of nodes that you would pay for"
        )
    elif _number(cap) > largest:
        fix = f"lower it, or allow it with `raystill cluster check --max-nodes {cap}`"
        yield Finding(
            file.line("max_workers"), f"`max_workers: {cap}` rents up to {cap} nodes, more than {largest}", fix
        )
    for name, node in file.node_types().items():
        if name != _head(file) and "max_workers" not in node:
            wrong = f"`{name}` has no `max_workers`, so it may take the whole of the cluster's"
            yield Finding(file.line("available_node_types", name), wrong, "add `max_workers: N` to it")


def mounts(file: ClusterFile) -> Iterator[Finding]:
    """Everything in `file_mounts` exists, and the wheel that the nodes install is among it."""
    for remote, local in file.mapping("file_mounts").items():
        line = file.line("file_mounts", remote)
        if isinstance(local, str) and not _later(file, local) and not _local(file, local).exists():
            fix = f"build it with `{BUILD}`" if "dist" in local else "correct the path, or remove the line"
            yield Finding(line, f"{local} does not exist beside {file.path.name}", fix)
    wheels = [
        (line, match[1])
        for key in ("setup_commands", "head_setup_commands", "worker_setup_commands")
        for line, text in file.strings(key)
        for match in re.finditer(r"(\S+\.whl)\b", text)
    ]
    for line, wheel in wheels:
        if wheel.startswith(("http://", "https://", "s3://", "gs://")):
            continue
        folder, _, name = wheel.rpartition("/")
        both = {r.rstrip("/"): loc for r, loc in file.mapping("file_mounts").items() if isinstance(loc, str)}
        if wheel not in both and folder not in both:
            yield Finding(line, f"nothing brings {wheel} to the nodes", f"add `{folder}: dist` to file_mounts")
        elif folder in both and _local(file, both[folder]).is_dir():
            names = sorted(p.name for p in _local(file, both[folder]).glob("*.whl"))
            fits = fnmatch.filter(names, name)
            if len(fits) > 1:
                yield Finding(line, f"{len(fits)} wheels fit {name}: {', '.join(fits)}", "remove all but the newest")
            elif not fits and names:
                yield Finding(line, f"{both[folder]} has no {name}", instead(name, names))
    if not wheels and "raystill" not in str(file.get("docker")).replace(str(file.get("docker", "container_name")), ""):
        wrong = "nothing installs raystill on the nodes"
        yield Finding(
            file.line("setup_commands"), wrong, "add `pip install /home/ray/wheel/raystill-*.whl` to setup_commands"
        )


def _local(file: ClusterFile, local: str) -> Path:
    return file.path.parent / Path(local).expanduser()


def _later(file: ClusterFile, local: str) -> bool:
    """Whether a missing path is one that the user creates before `ray up`: the token, or the wheel of a checkout."""
    built = _local(file, local) == file.path.parent / "dist" and (file.path.parent / "pyproject.toml").is_file()
    return built or Path(local).name == "auth_token"


def to_do(file: ClusterFile) -> Iterator[Finding]:
    """Steps that are still to be done on this machine, before an accepted file can be used."""
    for remote, local in file.mapping("file_mounts").items():
        if not isinstance(local, str) or not _later(file, local):
            continue
        line, path = file.line("file_mounts", remote), _local(file, local)
        if path.name == "auth_token" and not path.is_file():
            yield Finding(line, "no token yet", "`ray get-auth-token --generate` creates one")
        elif path.name == "dist" and not list(path.glob("*.whl")):
            yield Finding(line, "no wheel yet", f"`{BUILD}` builds it")
    for name in file.node_types() if file.get("provider", "type") == "aws" else ():
        if file.get("available_node_types", name, "node_config", "ImageId") is None:
            line = file.line("available_node_types", name, "node_config")
            yield Finding(
                line, f"`{name}` has no `ImageId`, and Ray's own has CUDA 11.2", "add your region's GPU image"
            )


RULES: tuple[Callable[[ClusterFile], Iterator[Finding]], ...] = (node_types, spot_head, gpu_counts, image, mounts)
