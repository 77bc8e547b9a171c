"""Retraining: the best candidates are trained on real data by the ground truth's protocol; the pick is the best by
validation.

As work items on the search's evaluators, each kept when it is done (a Tune trial costs 0.2 to 1 s before it begins, and
they are few and short); or where they are many or long by Ray Tune and ASHA (`search/nas/retraining_on_tune.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.session import Session
from raystill.actors.messages import WorkItem
from raystill.platform.architectures import base, parse
from raystill.platform.files import arrays
from raystill.platform.seeds import Address
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking.levels import LEVELS, Protocol
from raystill.search.ranking.rankers import TrainRealOptions

WEIGHTS, KEPT = "network.safetensors", "retrained"
Row = Mapping[str, Any]
Trained = tuple[list[dict[str, Any]], dict[str, np.ndarray]]
"""Of some architectures {steps, validation, test, cpu_seconds}, and theta[P] by text of those that ended well."""


def protocol(spec: NasSpec) -> Protocol:
    """How candidates are retrained: as their space and data's ground truth, where there is one, or as the spec says."""
    same = [at for at in LEVELS.values() if (at.data.source, at.data.size) == (spec.data.source, spec.data.size)]
    near = sorted((at for at in same if base(at.space) == base(spec.space)), key=lambda at: at.space != spec.space)
    usual = near[0].protocol if near else Protocol(768)
    return dataclasses.replace(usual, steps=spec.retrain_steps or usual.steps, lr=spec.retrain_lr or usual.lr)


def finish(spec: NasSpec, session: Session, rows: Sequence[Row], parent: str | None) -> dict[str, Any]:
    """Train rows of a ledger, the best score first; the pick has the best validation accuracy, the first among equals.

    Args:
        parent: MLflow run of the search.

    Raises:
        RuntimeError: none of them came to an end with finite weights.
    """
    how = "stopped where they lag behind" if spec.retrain_by == "asha" else "each to its end"
    print(f"train {len(rows)} retrained candidates on real data, {protocol(spec)}, {how}", flush=True)
    figures, weights = TRAINERS[spec.retrain_by](spec, session, rows, parent)
    shape, classes = session.plan.data.shape, len(session.plan.data.classes)
    found = []
    for row, own in zip(rows, figures):
        arch = parse(row["architecture"])
        sizes = {"parameters": arch.parameters(shape, classes), "flops": arch.flops(shape, classes)}
        found.append({"architecture": arch.text, "score": row["score"], "index": row["index"], **own, **sizes})
    ended = [n for n, row in enumerate(found) if row["architecture"] in weights]
    if not ended:
        raise RuntimeError(f"retrain: the weights of all {len(found)} became infinite; take a lower retrain_lr")
    pick = found[max(ended, key=lambda n: (found[n]["validation"], -n))]
    facts = {"architecture": str(pick["architecture"]), "data": session.plan.data.name}
    arrays.write(session.folder / WEIGHTS, {"theta": weights[pick["architecture"]]}, facts)
    return {"pick": pick, "retrained": found, "protocol": str(protocol(spec)), "retrain_by": spec.retrain_by}


def each(spec: NasSpec, session: Session, rows: Sequence[Row], parent: str | None = None) -> Trained:
    """Rows trained to their end as work items; what an earlier session kept is not trained again."""
    home, way = session.folder / KEPT, protocol(spec)
    home.mkdir(exist_ok=True)
    kept = {row["architecture"]: _read(_file(home, row)) for row in rows}
    none = session.crew.executor.put({"none": np.zeros(1, np.float32)})
    items: dict[str, WorkItem] = {}
    for n, row in enumerate(rows):
        if kept[row["architecture"]] is None:
            options = TrainRealOptions(str(row["architecture"]), way)
            address = Address(spec.run.seed, member=n, stream="search/final")
            item = WorkItem("train_real", address, 0, f"final/{n}", options)
            items[row["architecture"]] = session.crew.add(item, none)
    figures, weights = [], {}
    for row in rows:
        text = row["architecture"]
        if (known := kept[text]) is None:
            done = session.crew.wait([items[text]])[0]
            numbers = done.outcome.numbers
            own = {"steps": way.steps, **{k: 100 * numbers[k] for k in ("validation", "test")},
                   "cpu_seconds": done.outcome.cpu_seconds}  # fmt: skip
            parts = session.crew.executor.server.fetch(done.arrays)
            known = own, parts.get("theta", np.zeros(0, np.float32))
            arrays.write(_file(home, row), {"theta": known[1]}, {"figures": own})
        figures.append(known[0])
        if known[1].size:
            weights[text] = known[1]
    return figures, weights


def stopped(spec: NasSpec, session: Session, rows: Sequence[Row], parent: str | None) -> Trained:
    """Rows trained by Ray Tune, which stops laggards, in the places that the evaluators give back."""
    from raystill.search.nas import retraining_on_tune

    session.release()
    archs = [parse(row["architecture"]) for row in rows]
    return retraining_on_tune.tuned(session.plan.spec, archs, protocol(spec), session.folder, parent)


TRAINERS: dict[str, Callable[[NasSpec, Session, Sequence[Row], str | None], Trained]] = {
    "evaluators": each,
    "asha": stopped,
}
"""How retrained candidates are trained, by `retrain_by`."""


def _file(home: Path, row: Row) -> Path:
    return home / f"{row['index']}-{parse(row['architecture']).key}.safetensors"


def _read(path: Path) -> tuple[dict[str, Any], np.ndarray] | None:
    """A retrained candidate's figures and weights; None where it is not there, or torn: then it is trained again."""
    try:
        parts, facts = arrays.read(path)
        return facts["figures"], parts["theta"]
    except (KeyError, ValueError):
        return None
