"""Writes the artefact of a distillation, from its last checkpoint."""

from __future__ import annotations

import platform as machine
import time
from importlib.metadata import version

import numpy as np
import torch

from raystill.actors.drive.session import Session
from raystill.actors.server import checkpoints
from raystill.platform import learners
from raystill.platform.artifacts import Distilled, save_distilled
from raystill.platform.initialisation import starts
from raystill.platform.report import save_before
from raystill.platform.seeds import Address
from raystill.platform.work import hardware


def keep(session: Session) -> None:
    """Write the chosen data, which the last checkpoint holds, as the artefact."""
    plan, folder = session.plan, session.folder
    spec, data = plan.spec, plan.data
    newest = checkpoints.newest(session.store, spec.identity)
    assert newest is not None, "a loop ends with a checkpoint"
    groups, facts = checkpoints.read(session.store, newest)
    score, meta = facts["best"], {k: torch.from_numpy(v) for k, v in groups["best"].items()}
    order = plan.synthesizer.order
    first = [int(np.flatnonzero(order == s)[0]) for s in range(order.max() + 1)]

    def at(meta: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        steps = plan.synthesizer.steps(meta, Address(spec.run.seed, stream="artefact"))
        images = np.ascontiguousarray(steps.x[first].detach().numpy())
        return (
            images,
            np.array(steps.y[first].detach().numpy()),
            {k: v.detach().numpy() for k, v in steps.hyper.items()},
        )

    theta0 = None
    if spec.initialisation.single:
        learner = learners.build(spec.learner, data.shape, len(data.classes), plan.plugins)
        theta0 = starts.build(spec, plan.plugins)(learner, Address(spec.run.seed)).numpy()
    manifest = {
        "name": spec.recipe or "distilled",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "learner": spec.learner.model_dump(),
        "initialisation": spec.initialisation.model_dump(mode="json"),
        "seeds": {"run": spec.run.seed, "split": spec.data.split_seed},
        "normalisation": {"mean": list(data.mean), "std": list(data.std)},
        "whitening": None if data.whitening is None else spec.data.whiten,
        "classes": list(data.classes),
        "source": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "images": len(data.train),
            "bytes": data.train.x.nbytes,
        },
        "selection": {"split": "validation", **score},
        "spec": spec.dump(),
        "versions": {name: version(name) for name in ("raystill", "torch", "numpy", "ray")}
        | {"python": machine.python_version()},
        "hardware": hardware.fingerprint(spec.run.device),
    }

    def distilled_of(
        x: np.ndarray, y: np.ndarray, rates: dict[str, np.ndarray], more: dict[str, np.ndarray] | None = None
    ) -> Distilled:
        """An artefact of this run.

        Args:
            x, y: images [S, M, ...] and labels [S, M] or [S, M, K] of S steps.
            rates: learned rates by name, [T].
            more: meta-parameters by name, where the synthesizer can yield longer sets.
        """
        companion = data.modality.companion
        section = {data.modality.name: companion.describe(data.payload, x)} if companion else {}
        return Distilled(x, y, rates, order, theta0, {**manifest, **section}, more, data.payload, data.modality)

    # the start is a function of its address: drawn again for the report, rather than kept in every checkpoint
    began = plan.synthesizer.start(data, Address(spec.run.seed, stream="start"))
    first_images = at({k: torch.from_numpy(v) for k, v in began.items()})
    save_before(folder, distilled_of(*first_images))
    more = groups["best"] if plan.synthesizer.longer else None
    save_distilled(folder / "artefact", distilled_of(*at(meta), more))
