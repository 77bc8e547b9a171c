"""The best candidates are trained on real data by the ground truth's protocol; the pick is the best by validation.

Either as work items on the search's evaluators (`on_evaluators`): a Tune trial costs 0.2 to 1 s before it starts, and
candidates are usually few and short. Or, where they are many or long, by Ray Tune and ASHA (`retraining_on_tune.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.session import Session
from raystill.actors.messages import WorkItem
from raystill.platform.architectures import base, parse
from raystill.platform.files import arrays
from raystill.platform.seeds import Address
from raystill.search.nas.ledger import LedgerRow
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking.levels import LEVELS, Protocol
from raystill.search.ranking.rankers import TrainRealOptions

WEIGHTS, FOLDER = "network.safetensors", "retrained"
Retrained = tuple[list[dict[str, Any]], dict[str, np.ndarray]]
"""Of each candidate {steps, validation, test, cpu_seconds}; and, by its text, theta[P] of each that ended finite."""


def protocol(spec: NasSpec) -> Protocol:
    """How candidates are trained: as in the ground truth of their space and data, where there is one, or the spec's."""
    same = [at for at in LEVELS.values() if (at.data.source, at.data.size) == (spec.data.source, spec.data.size)]
    near = sorted((at for at in same if base(at.space) == base(spec.space)), key=lambda at: at.space != spec.space)
    usual = near[0].protocol if near else Protocol(768)
    return dataclasses.replace(usual, steps=spec.retrain_steps or usual.steps, lr=spec.retrain_lr or usual.lr)


def retrain(spec: NasSpec, session: Session, rows: Sequence[LedgerRow], parent: str | None) -> dict[str, Any]:
    """Train candidates and pick the one with the best validation accuracy, the first among equals.

    Args:
        rows: of the ledger, the best score first.
        parent: MLflow's id of the search.

    Returns:
        `pick`, `retrained` (a row for each candidate), `protocol`, `retrain_by`.

    Raises:
        RuntimeError: none of them ended with finite weights.
    """
    how = "poor ones are stopped early" if spec.retrain_by == "asha" else "each to its end"
    print(f"train {len(rows)} candidates on real data, {protocol(spec)}, {how}", flush=True)
    figures, weights = TRAINERS[spec.retrain_by](spec, session, rows, parent)
    shape, classes = session.plan.data.shape, len(session.plan.data.classes)
    retrained = []
    for row, own in zip(rows, figures):
        arch = parse(row["architecture"])
        sizes = {"parameters": arch.parameters(shape, classes), "flops": arch.flops(shape, classes)}
        retrained.append({"architecture": arch.text, "score": row["score"], "index": row["index"], **own, **sizes})
    ended = [n for n, row in enumerate(retrained) if row["architecture"] in weights]
    if not ended:
        raise RuntimeError(f"retrain: the weights of all {len(retrained)} became infinite; take a lower retrain_lr")
    pick = retrained[max(ended, key=lambda n: (retrained[n]["validation"], -n))]
    facts = {"architecture": str(pick["architecture"]), "data": session.plan.data.name}
    arrays.write(session.folder / WEIGHTS, {"theta": weights[pick["architecture"]]}, facts)
    return {"pick": pick, "retrained": retrained, "protocol": str(protocol(spec)), "retrain_by": spec.retrain_by}


def on_evaluators(spec: NasSpec, session: Session, rows: Sequence[LedgerRow], parent: str | None = None) -> Retrained:
    """Train candidates to their end as work items; one whose file an earlier session wrote is not trained again.

    Args:
        rows: of the ledger, one for each candidate.
        parent: not used; the other trainer needs it.

    Returns:
        Figures in the order of `rows`, accuracies in percent; and weights (see `Retrained`).
    """
    home, way = session.folder / FOLDER, protocol(spec)
    home.mkdir(exist_ok=True)
    known = {row["architecture"]: _read(_file(home, row)) for row in rows}
    nothing = session.crew.executor.put({"none": np.zeros(1, np.float32)})
    items: dict[str, WorkItem] = {}
    for n, row in enumerate(rows):
        if known[row["architecture"]] is None:
            options = TrainRealOptions(str(row["architecture"]), way)
            address = Address(spec.run.seed, member=n, stream="search/final")
            item = WorkItem("train_real", address, 0, f"final/{n}", options)
            items[row["architecture"]] = session.crew.add(item, nothing)
    figures, weights = [], {}
    for row in rows:
        text = row["architecture"]
        network = known[text]
        if network is None:
            done = session.crew.wait([items[text]])[0]
            numbers = done.outcome.numbers
            own = {"steps": way.steps, **{k: 100 * numbers[k] for k in ("validation", "test")},
                   "cpu_seconds": done.outcome.cpu_seconds}  # fmt: skip
            parts = session.crew.executor.server.fetch(done.arrays)
            network = own, parts.get("theta", np.zeros(0, np.float32))
            arrays.write(_file(home, row), {"theta": network[1]}, {"figures": own})
        figures.append(network[0])
        if network[1].size:
            weights[text] = network[1]
    return figures, weights


def on_tune(spec: NasSpec, session: Session, rows: Sequence[LedgerRow], parent: str | None) -> Retrained:
    """Train candidates by Ray Tune, which stops poor ones, on the slots that the evaluators give back.

    Args:
        rows: of the ledger, one for each candidate.
        parent: MLflow's id of the search; each trial becomes a child of that run.

    Returns:
        Figures in the order of `rows`, accuracies in percent, `test` None where the trial was stopped; and weights
        (see `Retrained`).

    Raises:
        ValueError: the cluster has no room for a trial.
        RuntimeError: no trial came to its end.
    """
    from raystill.search.nas import retraining_on_tune

    session.release()
    archs = [parse(row["architecture"]) for row in rows]
    return retraining_on_tune.retrain(session.plan.spec, archs, protocol(spec), session.folder, parent)


TRAINERS: dict[str, Callable[[NasSpec, Session, Sequence[LedgerRow], str | None], Retrained]] = {
    "evaluators": on_evaluators,
    "asha": on_tune,
}
"""How candidates are retrained, by `retrain_by`."""


def _file(home: Path, row: LedgerRow) -> Path:
    return home / f"{row['index']}-{parse(row['architecture']).key}.safetensors"


def _read(path: Path) -> tuple[dict[str, Any], np.ndarray] | None:
    """A candidate's figures and weights; None where the file is missing or torn: then it is trained again."""
    try:
        parts, facts = arrays.read(path)
        return facts["figures"], parts["theta"]
    except (KeyError, ValueError):
        return None
