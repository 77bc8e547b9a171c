"""`raystill pretrain`: train a pool of networks, each of them one work item, on the evaluators in parallel."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from raystill.actors.drive.plan import Plan, make_plan
from raystill.actors.drive.session import Session, open_session
from raystill.actors.messages import WorkItem
from raystill.actors.server.backends import ServerLost
from raystill.platform import learners, registry, runs
from raystill.platform.command_line import options
from raystill.platform.evaluation.protocol import TrainFullOptions
from raystill.platform.files.storage import write_whole
from raystill.platform.initialisation import pools
from raystill.platform.progress import progress
from raystill.platform.seeds import Address
from raystill.platform.spec import PretrainSpec

LOSSES = 20
"""Losses of arrays after which a session gives up; networks that were written stay."""


def pretrain(spec: PretrainSpec, plugins: registry.Plugins | None = None) -> pools.Pool:
    """Train a pool of networks, from a spec to its folder.

    Args:
        plugins: the user's own parts, `{kind: {name: callable}}`, that the spec names.

    Raises:
        ValueError: the spec or its data are wrong.
        Interrupted: stopped by Ctrl-C; `raystill resume` goes on.
    """
    plan = make_plan(spec.distillation, plugins)
    spec = spec.model_copy(update={"data": plan.spec.data})
    source = re.sub(r"[^A-Za-z0-9]+", "-", spec.data.source).strip("-")
    stem = f"{source}-{re.sub(r'[^A-Za-z0-9]+', '-', spec.learner.name)}"[:50]
    return carry_out(plan, spec, runs.create(spec, "pretrain", stem))


def carry_out(plan: Plan, spec: PretrainSpec, folder: Path) -> pools.Pool:
    """Train the networks that are missing in a folder, then write the manifest, which makes the folder a pool."""
    print(f"pool {folder}", flush=True)
    with open_session(plan, folder) as session:
        with runs.resumable(folder):
            for left in reversed(range(LOSSES)):
                try:
                    _train(session, spec)
                    break
                except ServerLost:  # a node died with networks on it: they are trained again
                    if not left:
                        raise
                    session.crew.forget()
        data, identity = plan.data, spec.identity
        size = learners.build(spec.learner, data.shape, len(data.classes), plan.plugins).size
        parts = {part: [_facts(folder, part, n, identity) for n in range(count)] for part, count in _parts(spec)}
        files = {part: [row for row in rows if row] for part, rows in parts.items()}
        write_whole(folder / pools.MANIFEST, pools.manifest(spec, data, size, files))
    return pools.open_pool(folder)


def _parts(spec: PretrainSpec) -> Iterator[tuple[str, int]]:
    """(part, number of networks) of a pool."""
    return zip(pools.PARTS, (spec.members, spec.held_out, spec.held_out))


def _facts(folder: Path, part: str, member: int, identity: str) -> dict[str, object] | None:
    """The manifest's row of a network; None where it is still to be trained."""
    path = folder / pools.file_of(part, member)
    return pools.facts_of(path.read_bytes(), identity) if path.is_file() else None


def _train(session: Session, spec: PretrainSpec) -> None:
    """Train the missing networks; each is written as its result comes in."""
    identity, crew, folder = spec.identity, session.crew, session.folder
    nothing = crew.executor.put({"none": np.zeros(1, np.float32)})
    options = TrainFullOptions(spec.epochs, spec.lr, "validation")
    items: dict[WorkItem, tuple[str, int]] = {}
    for part, count in _parts(spec):
        for n in range(count):
            if _facts(folder, part, n, identity) is None:
                address = Address(spec.run.seed, stream=f"pretrain/{part}", member=n)
                items[WorkItem("train_full", address, n, f"pretrain/{part}", options)] = part, n
    whole = spec.members + 2 * spec.held_out
    with progress("pretrain", whole, whole - len(items)) as show:
        for item in items:
            crew.add(item, nothing)
        while items:
            result = crew.first(items)
            part, member = items.pop(result.outcome.item)
            theta, accuracy = crew.executor.server.fetch(result.arrays)["theta"], result.outcome.numbers["accuracy"]
            data = pools.packed(theta, identity, accuracy)
            write_whole(folder / pools.file_of(part, member), data)
            session.tell(step=whole - len(items))
            show(whole - len(items), accuracy=f"{100 * accuracy:.1f} %")


def resume(folder: Path, workers: int | str | None = None) -> int:
    """Train the networks that a pool still lacks."""
    spec = runs.load_as(PretrainSpec, folder)
    changes = {"out": folder.absolute().parent, **({} if workers is None else {"workers": workers})}
    spec = spec.model_copy(update={"run": spec.run.model_copy(update=changes)})
    began = time.monotonic()
    _close(carry_out(make_plan(spec.distillation, resumed=True), spec, folder), time.monotonic() - began)
    return 0


def _close(pool: pools.Pool, seconds: float) -> None:
    print(f"done in {seconds:.0f} s")
    for part in pools.PARTS:
        accuracies = 100 * pool.accuracy(part)
        spread = f" +- {accuracies.std(ddof=1):.2f}" if len(accuracies) > 1 else ""
        print(f"  {part:10s} {len(accuracies):5d} networks, {accuracies.mean():.2f}{spread} % on validation data")
    print(f"  use it     raystill distill --initialisation.kind pool --initialisation.path {pool.path} ...")


def command(argv: list[str]) -> int:
    """Train a pool of networks."""
    text = "Train a pool of networks for runs to start from (initialisation.kind: pool or pretrained)."
    spec, _ = options.load(PretrainSpec, "pretrain", text, argv, base={"run": {"out": "pools"}})
    began = time.monotonic()
    _close(pretrain(spec), time.monotonic() - began)
    return 0
