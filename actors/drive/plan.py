"""Checks a whole spec against its data and the machines, before any actor starts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from raystill.actors import cluster
from raystill.actors.faults import parse
from raystill.actors.server import checkpoints
from raystill.platform import learners, registry, runs, synthesis
from raystill.platform.data import DataSet, load
from raystill.platform.files.digests import file_digest
from raystill.platform.files.storage import Storage, is_remote
from raystill.platform.initialisation import starts
from raystill.platform.learners import Learner, drawing
from raystill.platform.meta import estimators, optimisers
from raystill.platform.objectives import Term, of_labels, of_outer
from raystill.platform.outer import optimisers as outer_optimisers
from raystill.platform.seeds import Address
from raystill.platform.spec import DistillSpec
from raystill.platform.synthesis import Synthesizer
from raystill.platform.tracking import reachable
from raystill.platform.tracking.store import found_again
from raystill.platform.work.problem import check_memory, outer_teacher, resolve_auto


@dataclass(frozen=True)
class Plan:
    """A distillation that was checked against its data: nothing in it can be the user's mistake any more.

    Attributes:
        spec: the spec with every `auto` decided and the digests of its files filled in.
        data: what is distilled.
        learner: the network that `spec.learner` names, as pure functions of its parameters.
        inner, outer: the inner and outer objectives.
        synthesizer: what `spec.synthesizer` names.
        plugins: the user's own parts by kind and name; evaluators get them, and look the spec's names up in them.
        workers: (least, most) evaluators; (0, 0) computes in this process.
    """

    spec: DistillSpec
    data: DataSet
    learner: Learner
    inner: Term
    outer: Term
    synthesizer: Synthesizer
    plugins: registry.Plugins | None
    workers: tuple[int, int]


def make_plan(spec: DistillSpec, plugins: registry.Plugins | None = None, resumed: bool = False) -> Plan:
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
    estimators.estimator(spec.meta, plugins)
    optimisers.resolve(spec.inner, plugins)
    outer_optimisers.resolve(spec.outer)
    inner = of_labels(spec.inner.objective, plugins, "inner.objective")
    outer = of_outer(spec.outer, plugins)
    for field, names in (("learner.name", (spec.learner.name,)), ("assess.architectures", spec.assess.architectures)):
        for name in names:
            learners.resolve(name, plugins, field)
    data = load(spec.data, plugins)
    spec = spec.model_copy(update={"data": spec.data.known_by(data.fingerprint)})
    if not len(data.validation):
        raise ValueError(
            "data.validation: no validation images; give a share above 0, since the best data is chosen by them"
        )
    for section, objective in {"inner": inner, "outer": outer}.items():
        for label in itertools.chain(*objective.facts.relabels):
            if label >= len(data.classes):
                raise ValueError(
                    f"{section}.objective: class {label} is absent; {data.name} has the classes 0 to "
                    f"{len(data.classes) - 1} ({', '.join(data.classes[:12])})"
                )
    outer_teacher(spec, data, plugins)
    if spec.outer.teacher is not None:
        teacher = {"teacher": spec.outer.teacher.absolute(), "teacher_content": file_digest(spec.outer.teacher)}
        spec = spec.model_copy(update={"outer": spec.outer.model_copy(update=teacher)})
    learner = learners.build(spec.learner, data.shape, len(data.classes), plugins)
    synthesizer = synthesis.build(spec, data.shape, len(data.classes), plugins)
    synthesizer.check(data)
    drawing.drawing(spec.learner, data.shape, lambda _: True, plugins)
    _widths(spec, data, plugins)
    if spec.learner.draw != "none" and spec.meta.stack == "vmap":
        raise ValueError("meta.stack: vmap, but learner.draw gives each member a network of its own; take loop")
    spec = starts.resolved(spec, learner, data, plugins)
    spec = _handed(spec, synthesizer, data)
    workers, device = _workers(spec)
    check_memory(resolve_auto(spec, device), learner, plugins)
    spec = resolve_auto(spec, device).model_copy(update={"tracking": found_again(spec.tracking)})
    return Plan(spec, data, learner, inner, outer, synthesizer, plugins, workers)


def _widths(spec: DistillSpec, data: DataSet, plugins: registry.Plugins | None) -> None:
    """Raises ValueError where widths are drawn for a learner that has none, or that is too narrow or wide at an end."""
    if spec.learner.draw != "widths":
        return
    sizes = []
    for width in spec.learner.widths:
        one = spec.learner.model_copy(update={"width": width, "draw": "none"})
        try:
            sizes.append(learners.build(one, data.shape, len(data.classes), plugins).size)
        except ValueError as error:
            raise ValueError(f"learner.draw: widths, but at width {width}: {error}") from None
    if sizes[0] == sizes[1] and spec.learner.widths[0] != spec.learner.widths[1]:
        raise ValueError(f"learner.draw: widths, but {spec.learner.name} is the same at any; take another learner")


def _handed(spec: DistillSpec, synthesizer: Synthesizer, data: DataSet) -> DistillSpec:
    """The spec with what the donor's checkpoint holds filled in; as it is where there is none, or it is known already.

    Raises:
        ValueError: the checkpoint can not be read, is of a run of other shapes, or has no step left to do.
    """
    if spec.donor.checkpoint is None or spec.donor.content is not None:
        return spec
    groups, facts = checkpoints.load_donor(spec.donor)
    has = {k: v.shape for k, v in groups["meta"].items()}
    first = synthesizer.start(data, Address(spec.run.seed, stream="start"))
    for name in has | first:
        here = np.shape(first[name]) if name in first else None
        if has.get(name) != here:
            raise ValueError(f"donor.checkpoint: its {name} has shape {has.get(name)}, this run's {here}; the data, "
                             "learner and synthesizer must be the donor's")  # fmt: skip
    behind = range(max(0, facts["step"] - spec.outer.delay), facts["step"])
    if any(f"recent-{version}" not in groups for version in behind):
        raise ValueError(f"donor.checkpoint: its run had an outer.delay below this run's {spec.outer.delay}")
    if spec.outer.rollbacks and not facts.get("anchors"):
        raise ValueError("outer.rollbacks: the donor's run kept no states to go back to; take 0")
    if facts["step"] >= spec.outer.steps:
        raise ValueError(f"donor.checkpoint: is of step {facts['step']}, and outer.steps is {spec.outer.steps}")
    place = spec.donor.checkpoint if is_remote(spec.donor.checkpoint) else str(Path(spec.donor.checkpoint).absolute())
    donor = {"checkpoint": place, "step": int(facts["step"]), "content": checkpoints.digest(groups, facts)}
    return spec.model_copy(update={"donor": spec.donor.model_copy(update=donor)})


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
