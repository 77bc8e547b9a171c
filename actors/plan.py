"""A spec, checked whole against its data and the machines, before any actor starts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from raystill.actors import cluster
from raystill.actors.faults import parse
from raystill.platform import learners, registry, runs, starts, synthesis, weights
from raystill.platform.data import DataSet, load
from raystill.platform.learners import pool
from raystill.platform.objectives import named
from raystill.platform.spec import DistillSpec
from raystill.platform.storage import Storage
from raystill.platform.synthesis import Synthesizer
from raystill.platform.tracking import reachable
from raystill.platform.tracking_store import found_again
from raystill.platform.workbench import check_memory, outer_objective, outer_teacher, resolve_auto


@dataclass(frozen=True)
class Plan:
    """A spec that was checked against its data: nothing in it can be the user's mistake any more.

    Attributes:
        workers: (least, most) evaluators; (0, 0) computes in this process.
    """

    spec: DistillSpec
    data: DataSet
    synthesizer: Synthesizer
    plugins: registry.Plugins | None
    workers: tuple[int, int]


def plan(spec: DistillSpec, plugins: registry.Plugins | None = None, resumed: bool = False) -> Plan:
    """Check a spec whole, before any actor starts.

    Args:
        resumed: the run has begun, and goes on even where its tracking store is away.

    Raises:
        ValueError: one clear line about the first thing that is wrong.
    """
    runs.writable(spec.run.out)
    for line in spec.run.faults:
        parse(line)
    if spec.run.storage:
        Storage(spec.run.storage)
    if spec.tracking.enabled and not resumed:
        reachable(spec.tracking)
    inner = named(spec.inner.objective, plugins, "inner.objective")
    objectives = {"inner": inner, "outer": outer_objective(spec, plugins)}
    for field, names in (("learner.name", (spec.learner.name,)), ("assess.architectures", spec.assess.architectures)):
        for name in names:
            learners.resolve(name, plugins, field)
    data = load(spec.data, plugins)
    if not len(data.validation):
        raise ValueError(
            "data.validation: no validation images; give a share above 0, since the best data is chosen by them"
        )
    for section, objective in objectives.items():
        for label in itertools.chain(*objective.facts.relabels):
            if label >= len(data.classes):
                raise ValueError(
                    f"{section}.objective: class {label} is absent; {data.name} has the classes 0 to "
                    f"{len(data.classes) - 1} ({', '.join(data.classes[:12])})"
                )
    outer_teacher(spec, data, plugins)
    if spec.outer.teacher is not None:
        told = {"teacher": spec.outer.teacher.absolute(), "teacher_content": weights.content(spec.outer.teacher)}
        spec = spec.model_copy(update={"outer": spec.outer.model_copy(update=told)})
    learner = learners.build(spec.learner, data.shape, len(data.classes), plugins)
    synthesizer = synthesis.build(spec, data.shape, len(data.classes), plugins)
    synthesizer.check(data)
    pool.drawing(spec.learner, data.shape, lambda _: True, plugins)
    if spec.learner.draw != "none" and spec.meta.stack == "vmap":
        raise ValueError("meta.stack: vmap, but learner.draw gives each member a network of its own; take loop")
    spec = starts.resolved(spec, learner, data)
    workers, device = _workers(spec)
    check_memory(resolve_auto(spec, device), learner)
    spec = resolve_auto(spec, device).model_copy(update={"tracking": found_again(spec.tracking)})
    return Plan(spec, data, synthesizer, plugins, workers)


def _workers(spec: DistillSpec) -> tuple[tuple[int, int], str]:
    """((least, most) evaluators, device); a cluster is asked only when it must be, since joining one takes seconds."""
    run = spec.run
    gpus = torch.cuda.device_count()
    if run.device == "cuda" and not gpus and run.address is None:
        raise ValueError("run.device: cuda, but this machine has no GPU that torch sees; valid here: cpu, auto")
    if run.fleet == (0, 0):
        return (0, 0), "cuda" if run.device != "cpu" and gpus else "cpu"
    cluster.connect(run.address, run.fleet[0] if run.fleet else None)
    offered, device = cluster.default_workers()
    if run.device == "cpu":
        device, offered = "cpu", cluster.cpu_slots()
    elif run.device == "cuda" != device:
        if run.fleet is None or run.fleet[0] == run.fleet[1]:
            raise ValueError(f"run.device: cuda, but the cluster offers no GPU, only {offered} CPU slots")
        device = "cuda"  # an autoscaler is to bring the nodes
    if run.fleet is None:
        return (offered, offered), device
    if run.fleet[0] == run.fleet[1] > offered:
        raise ValueError(f"run.workers: {run.workers} evaluators, but the cluster offers {offered} {device} slots")
    return run.fleet, device
