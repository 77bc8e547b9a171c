"""Scoring: batches of architectures as work items, on evaluators that keep the curriculum.

A batch is one message; a Tune trial for each architecture would cost 0.2 to 1 s beside 0.03 to 0.3 s of work. Retries,
copies and the commit log are the crew's, as for meta-gradients: a batch in the log is not computed again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive.session import Session
from raystill.actors.messages import WorkItem
from raystill.actors.record import commit_log
from raystill.actors.server.backends import ServerLost
from raystill.actors.server.shards import Handle
from raystill.platform.architectures import Arch
from raystill.platform.artifacts import Distilled
from raystill.platform.data import DataSet
from raystill.platform.seeds import Address
from raystill.search.ranking.rankers import RankerOptions, ScoreOptions

BATCH = 8
"""Architectures of one item: a few tenths of a second of work, against a millisecond of messages."""


@dataclass(frozen=True)
class Ranking:
    """A ranker with its options and data.

    Attributes:
        name: of its row in a table.
        ranker: a key of RANKERS.
        options: of the ranker; `init` is the curriculum's where there is one.
        curriculum: the data of `curriculum`.
    """

    name: str
    ranker: str
    options: RankerOptions = field(default_factory=RankerOptions)
    curriculum: Distilled | None = None

    @property
    def full(self) -> RankerOptions:
        """The options, with the curriculum's own initialisation."""
        if self.curriculum is None:
            return self.options
        return replace(self.options, init=str(self.curriculum.manifest.get("learner", {}).get("init", "xavier")))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The curriculum as an evaluator gets it."""
        d = self.curriculum
        if d is None:
            return {"none": np.zeros(1, np.float32)}
        return {"x": d.images, "y": d.labels, "order": d.order, **d.rates}


@dataclass(frozen=True)
class Scores:
    """The scores of N architectures.

    Attributes:
        values: [N], larger is better.
        training: [N], seconds of the training steps alone.
        evaluation: [N], seconds of validation images, or of a proxy.
        cpu: [N], CPU seconds of the whole item's share.
        wall: seconds until the driver had the last.
        computed: how many were computed now; the others were in the commit log.
    """

    values: np.ndarray
    training: np.ndarray
    evaluation: np.ndarray
    cpu: np.ndarray
    wall: float
    computed: int

    def overhead(self, workers: int) -> tuple[float, float]:
        """Wall time over (the training steps' own time / workers), and over that of training and evaluation."""
        workers = max(1, workers)
        steps, work = self.training.sum(), (self.training + self.evaluation).sum()
        return tuple(self.wall * workers / v if v > 0 else float("inf") for v in (steps, work))  # type: ignore[return-value]


def check_fit(curriculum: Distilled, data: DataSet, where: str) -> None:
    """Check that a curriculum fits a data set.

    Args:
        where: the curriculum's name, for the error.

    Raises:
        ValueError: it has images of another shape, or another number of classes.
    """
    shape, classes = tuple(curriculum.images.shape[2:]), len(curriculum.manifest.get("classes") or data.classes)
    if shape != data.shape:
        raise ValueError(
            f"curriculum: {where} has images of {_by(shape)}, the data are {_by(data.shape)}; set data.size, or "
            "take another curriculum"
        )
    if classes != len(data.classes):
        raise ValueError(
            f"curriculum: {where} has {classes} classes, the data have {len(data.classes)}; take another curriculum"
        )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


class Scorer:
    """Scores architectures on a session's evaluators; results are in the order asked for."""

    def __init__(self, session: Session, seed: int = 0) -> None:
        self._session, self._seed = session, seed
        self._inputs: dict[str, Handle] = {}
        self._known = _known(session.folder)

    def scores(self, ranking: Ranking, archs: Sequence[Arch], seed: int | None = None, step: int = 0) -> Scores:
        """The scores of some architectures by one ranking.

        Args:
            seed: of the networks; None takes the scorer's own.
            step: of the search, for faults and the log.
        """
        began = time.perf_counter()
        parts = [archs[at : at + BATCH] for at in range(0, len(archs), BATCH)]
        items = [self._item(ranking, part, self._seed if seed is None else seed, step) for part in parts]
        missing = [item for item in items if item.address not in self._known]
        self._compute(ranking, missing)
        columns: dict[str, list[float]] = {key: [] for key in ("", "training/", "evaluation/", "cpu/")}
        for item, part in zip(items, parts):
            for key, column in columns.items():
                column += [self._known[item.address][f"{key}{n}"] for n in range(len(part))]
        arrays = {key: np.array(column) for key, column in columns.items()}
        computed = sum(len(part) for item, part in zip(items, parts) if item in missing)
        wall = time.perf_counter() - began
        return Scores(arrays[""], arrays["training/"], arrays["evaluation/"], arrays["cpu/"], wall, computed)

    def spent(self) -> dict[str, float]:
        """Seconds of all batches in the run's commit log, of this session and earlier ones."""
        rows = self._known.values()
        cpu, training, evaluation = (
            sum(v for row in rows for k, v in row.items() if k.startswith(f"{part}/"))
            for part in ("cpu", "training", "evaluation")
        )
        return {"score_cpu_seconds": cpu, "training_seconds": training, "work_seconds": training + evaluation}

    def _item(self, ranking: Ranking, part: Sequence[Arch], seed: int, step: int) -> WorkItem:
        # addressed by content, so that a row of the log is found whatever other batches were asked for
        options = ScoreOptions(tuple(arch.text for arch in part), ranking.ranker, ranking.full)
        mark = hashlib.sha256(repr((ranking.name, options, _mark(ranking.curriculum))).encode()).hexdigest()[:24]
        return WorkItem("score", Address(seed, stream=f"score/{mark}"), step, f"score/{ranking.name}", options)

    def _compute(self, ranking: Ranking, items: list[WorkItem]) -> None:
        crew = self._session.crew
        for left in (3, 2, 1, 0):
            try:
                if ranking.name not in self._inputs:
                    self._inputs[ranking.name] = crew.executor.put(ranking.arrays)
                items = [item for item in items if item.address not in self._known]
                for item in items:
                    crew.add(item, self._inputs[ranking.name])
                for item in items:
                    self._known[item.address] = crew.first([item]).outcome.numbers
                break
            except ServerLost:  # the node that held the curriculum's copy is gone
                if not left:
                    raise
                crew.forget()
                self._inputs.clear()
        self._session.log.flush()


def _mark(curriculum: Distilled | None) -> str:
    if curriculum is None:
        return ""
    total = hashlib.sha256()
    for array in (curriculum.images, curriculum.labels, curriculum.order, *curriculum.rates.values()):
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _known(folder: Path) -> dict[Address, dict[str, float]]:
    """Numbers of the batches in a run's commit log, by their addresses."""
    rows: list[dict[str, Any]] = commit_log.read(folder / "commits").to_pylist()
    return {
        Address(r["seed"], r["attempt"], r["step"], r["member"], r["stream"]): dict(r["numbers"])
        for r in rows if r["kind"] == "score" and r["status"] == "ok"
    }  # fmt: skip
