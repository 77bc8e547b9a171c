"""A run's assessment: the table of `platform.evaluation`, computed by the session's crew and written to the folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.crew import Crew
from raystill.actors.drive.session import Session
from raystill.actors.messages import WorkItem
from raystill.actors.server.backends import ServerLost
from raystill.actors.server.shards import Handle
from raystill.platform import evaluation, runs
from raystill.platform.artifacts import Distilled
from raystill.platform.artifacts.export import quantised
from raystill.platform.evaluation.protocol import Answer
from raystill.platform.evaluation.summary import summary
from raystill.platform.files.storage import write_whole
from raystill.platform.seeds import Address

TRIES = 3
"""Times that the table is computed where nodes go with results that other items build on."""


class CrewEvaluators:
    """Computes an assessment's items on a crew, as `evaluation.protocol.Evaluators`."""

    def __init__(self, crew: Crew) -> None:
        self._crew, self._server = crew, crew.executor.server

    def put(self, arrays: Mapping[str, np.ndarray]) -> Handle:
        """Arrays in the object store, or here."""
        return self._crew.executor.put(dict(arrays))

    def fetch(self, handle: Handle) -> Mapping[str, np.ndarray]:
        """The arrays behind a handle, here."""
        return self._server.fetch(handle)

    def run(self, kind: str, options: Any, name: str, items: Sequence[tuple[Address, Handle]]) -> list[Answer]:
        """Compute items on the crew, at version 0.

        Args:
            kind: a name in `work.kinds.KINDS`.
            options: settings of that kind.
            name: of the items; a number is appended for each.
            items: the address and the inputs of each.

        Returns:
            The answers, in the items' order.
        """
        taken = [
            self._crew.add(WorkItem(kind, address, 0, f"{name}/{n}", options), inputs)
            for n, (address, inputs) in enumerate(items)
        ]
        results = self._crew.wait(taken)
        return [Answer(r.outcome.numbers, r.arrays, r.outcome.cpu_seconds) for r in results]


def assess(session: Session, distilled: Distilled) -> dict[str, Any]:
    """The table of a run's artefact, with the spread over distillation seeds, written to `assessment.json`."""
    plan, d = session.plan, distilled
    arrays = {"x": d.images, "y": d.labels, "order": d.order, **d.rates}
    bits = plan.spec.assess.bits
    coded = None if bits is None else quantised(d.images, bits).restored()
    for left in reversed(range(TRIES)):
        try:
            table = evaluation.assess(
                plan.spec, plan.data, CrewEvaluators(session.crew), arrays, coded, bool(plan.outer.facts.relabels),
                lambda text: print(f"  {text}", flush=True),
            )  # fmt: skip
            break
        except ServerLost:
            if not left:
                raise
            session.crew.forget()
    over_seeds(session.folder, table)
    write_whole(session.folder / "assessment.json", json.dumps(table, indent=1).encode())
    return table


def _without_seed(folder: Path) -> tuple[dict[str, Any], int]:
    """What was asked of a run, and its seed: two runs of the same question differ in the seed alone."""
    spec = runs.load(folder).dump()
    seed = spec["run"].pop("seed")
    return {**spec, "run": {"cpu_seconds": spec["run"]["cpu_seconds"]}, "assess": None, "tracking": None}, seed


def over_seeds(folder: Path, table: dict[str, Any]) -> None:
    """Add the spread over distillation seeds, where runs of the same spec and other seeds lie beside this one.

    Two spreads are two columns: over networks on one distilled set, and over the sets that other run seeds gave.
    """
    own, seed = _without_seed(folder)
    means = {seed: table["rows"][0]["accuracy_mean"]}
    for path in sorted(folder.parent.glob("*/assessment.json")):
        try:
            other, seed = _without_seed(path.parent)
            rows = json.loads(path.read_text())["rows"]
        except (ValueError, KeyError, OSError):  # a run of another version, or half written
            continue
        if other == own and rows and rows[0].get("kind") == "distilled":
            means.setdefault(seed, rows[0]["accuracy_mean"])
    if len(means) > 1:
        spread = summary(list(means.values()))
        table["rows"][0]["distillation_seeds"] = {"n": spread.n, "mean": spread.mean, "std": spread.std}
