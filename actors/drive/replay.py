"""Replay derives a run's result again from its commit log alone, in one process.

The log says which (step, member, version) entered each update with which weight; the addresses say the rest. On the
run's hardware a replay gives the same bits, also of an asynchronous run; on other hardware it prints the largest
deviation.
"""

from __future__ import annotations

import importlib
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raystill.actors.drive.plan import make_plan
from raystill.actors.fleet.evaluator import compute
from raystill.actors.items import ITEMS, gradient_item
from raystill.actors.messages import Arrays, Outcome, WorkItem
from raystill.actors.record import commit_log
from raystill.actors.server import checkpoints
from raystill.actors.server.backends import InProcessBackend
from raystill.actors.server.shards import Handle, Shards, split
from raystill.platform import registry, runs
from raystill.platform.artifacts import load_distilled
from raystill.platform.progress import progress
from raystill.platform.seeds import Address
from raystill.platform.work import hardware
from raystill.platform.work.workbench import Workbench


@dataclass(frozen=True)
class Replayed:
    """The outcome of a replay.

    Attributes:
        step: outer step whose data the run chose.
        same_hardware: whether the run's fingerprint is this process's.
        identical: whether every array of the artefact has the same bits.
        deviation: largest absolute difference of each of its arrays.
    """

    step: int
    same_hardware: bool
    identical: bool
    deviation: dict[str, float]


def _steps(folder: Path, last: int, attempt: int, first: int = 0) -> list[dict[str, Any]]:
    """The rows of the steps that count: of each the last, which is what a resume or a new server went on with.

    Those of later attempts than this do not count: they came after a rollback.
    """
    log = commit_log.read(folder / "commits").to_pylist()
    rows = {r["step"]: r for r in log if r["kind"] == "apply" and r["attempt"] <= attempt}
    missing = [step for step in range(first, last) if step not in rows]
    if missing:
        raise ValueError(
            f"{folder}: the commit log lacks step {missing[0]} and {len(missing) - 1} more; a crash tore it"
        )
    return [rows[step] for step in range(first, last)]


class Replay:
    """Applies a run's outer steps again, one after another, without its cluster."""

    def __init__(self, folder: Path, plugins: registry.Plugins | None = None) -> None:
        """Open a run.

        Raises:
            ValueError: not a run, or its data are not here.
        """
        spec = runs.load(folder)
        changes = {"out": folder.absolute().parent, "workers": 0, "faults": (), "storage": None}
        run = spec.run.model_copy(update=changes)
        tracking = spec.tracking.model_copy(update={"enabled": False})
        plan = make_plan(spec.model_copy(update={"run": run, "tracking": tracking}), plugins)
        self.folder, self.spec, self.plan = folder, plan.spec, plan
        self.bench = Workbench(plan.spec, plugins, plan.data)
        outer = plan.spec.outer
        self.server = Shards(InProcessBackend(outer, dict(plan.synthesizer.groups)), outer.shards)
        self.first = plan.spec.donor.step or 0
        self.versions: dict[int, Handle] = {}
        if plan.spec.donor.checkpoint is not None:
            checkpoints.load_donor(plan.spec.donor)  # is it still the state that the run took over?
            storage, name = checkpoints.locate(plan.spec.donor.checkpoint)
            self.server.restore(storage.root, name)
            for version in range(max(0, self.first - outer.delay), self.first + 1):
                self.versions[version] = self.server.version(version)
        else:
            first = plan.synthesizer.start(plan.data, Address(plan.spec.run.seed, stream="start"))
            self.versions[0] = self.server.init(first)

    def to(self, last: int, attempt: int = 0) -> None:
        """Apply the run's steps up to this one, exclusive, on the way to an attempt.

        Raises:
            ValueError: the log lacks a step, the step is the donor's, or an item fails or is not finite here.
        """
        if last < self.first:
            donor = self.spec.donor.checkpoint
            raise ValueError(f"{self.folder} begins at step {self.first}, and step {last} is its donor's: {donor}")
        rows = _steps(self.folder, last, attempt, self.first)
        uses = Counter(e["version"] for row in rows for e in row["entered"])
        with progress("replay", last) as show:
            for row in rows:
                chunks = []
                for entered in row["entered"]:
                    address = Address(self.spec.run.seed, row["attempt"], entered["step"], entered["member"])
                    item = gradient_item(self.spec, address, entered["version"])
                    outcome, arrays = self._compute(item, self.versions[entered["version"]])
                    if outcome.status != "ok":
                        raise ValueError(f"{item} is {outcome.status} here. {outcome.error}")
                    chunks.append(arrays)
                    uses[entered["version"]] -= 1
                self.server.enter(row["attempt"])  # a rollback's rates; the state is that of the step before
                _, meta = self.server.apply(row["attempt"], row["step"], self.spec.outer.members, chunks)
                self.versions[row["step"] + 1] = meta
                self.versions = {k: v for k, v in self.versions.items() if uses[k] > 0 or k == row["step"] + 1}
                show(row["step"] + 1)

    def _compute(self, item: WorkItem, inputs: Handle) -> tuple[Outcome, Handle]:
        outcome, arrays = compute(self.bench, -1, item, self.server.fetch(inputs))
        return outcome, Handle(split(inputs.cut, arrays), inputs.cut)

    def one(self, kind: str, address: Address) -> tuple[Outcome, Arrays]:
        """Compute one item as an evaluator did, on the meta-parameters that it had.

        Raises:
            ValueError: the log knows no such item.
        """
        known = [
            r for r in commit_log.read(self.folder / "commits").to_pylist()
            if (r["kind"], r["attempt"], r["step"], r["member"])
            == (kind, address.attempt, address.step, address.member)
        ]  # fmt: skip
        if not known:
            raise ValueError(f"the commit log of {self.folder} has no {kind} [{address}]")
        version = known[-1]["version"]
        self.to(version, address.attempt)
        data = self.server.snapshot() if kind == "validate" else self.versions[version]
        return compute(self.bench, -1, ITEMS[kind](self.spec, address, version), self.server.fetch(data))


def replay(folder: Path, plugins: registry.Plugins | None = None) -> Replayed:
    """Derive a run's artefact again and compare.

    Raises:
        ValueError: not a finished run, or its log lacks a step.
    """
    artefact = load_distilled(folder / "artefact", plugins=plugins)
    step = int(artefact.manifest["selection"]["step"])
    again = Replay(folder, plugins)
    again.to(step, int(artefact.manifest["selection"].get("attempt", 0)))
    chosen = again.server.fetch(again.server.snapshot())
    meta = {k: torch.from_numpy(np.array(v)) for k, v in chosen.items()}
    steps = again.plan.synthesizer.steps(meta, Address(again.spec.run.seed, stream="artefact"))
    first = [int(np.flatnonzero(artefact.order == s)[0]) for s in range(artefact.order.max() + 1)]
    pairs = {
        "images": (steps.x[first], artefact.images),
        "labels": (steps.y[first], artefact.labels),
        **{name: (steps.hyper[name], rate) for name, rate in artefact.rates.items()},
    }
    arrays = {k: (np.ascontiguousarray(a.detach().numpy()), b) for k, (a, b) in pairs.items()}
    here = hardware.fingerprint(again.spec.run.device)
    return Replayed(
        step,
        artefact.manifest.get("hardware") == here,
        all(a.tobytes() == b.tobytes() for a, b in arrays.values()),
        {k: float(np.abs(a.astype(np.float64) - b).max()) for k, (a, b) in arrays.items()},
    )


def command(argv: list[str]) -> int:
    """Replay a run, or one item of it."""
    from raystill.platform.cli import Parser

    parser = Parser(
        prog="raystill replay",
        description="Derive a run's result again from its commit log, in this process; or, with --step, one work item.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument("--kind", choices=sorted(ITEMS), default="meta_gradient")
    parser.add_argument("--attempt", type=int, default=0)
    parser.add_argument("--step", type=int, help="step of the item; none replays the whole run")
    parser.add_argument("--member", type=int, default=0)
    args = parser.parse_args(argv)
    began = time.monotonic()
    if maker := runs.MAKERS.get(runs.made_by(args.folder)):
        again = getattr(importlib.import_module(maker), "replay", None)
        if again is None or args.step is not None:
            scope = "can not be replayed" if again is None else "is replayed whole only; leave out --step"
            raise ValueError(f"{args.folder}: a run of `raystill {runs.made_by(args.folder)}` {scope}")
        return int(again(args.folder))
    if args.step is not None:
        again = Replay(args.folder)
        outcome, _ = again.one(args.kind, Address(again.spec.run.seed, args.attempt, args.step, args.member))
        print(f"{outcome.item} is {outcome.status}: {dict(outcome.numbers)} {outcome.error}".strip())
        return 0 if outcome.status == "ok" else 1
    replayed = replay(args.folder)
    print(f"step {replayed.step} derived again in {time.monotonic() - began:.0f} s")
    print("hardware: " + ("that of the run" if replayed.same_hardware else "another than the run's"))
    if replayed.identical:
        print("the artefact has the same bits")
        return 0
    print("largest deviation: " + ", ".join(f"{k} {v:.3g}" for k, v in replayed.deviation.items()))
    return 1 if replayed.same_hardware else 0
