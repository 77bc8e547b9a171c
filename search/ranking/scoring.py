"""Scoring: architectures in batches as work items of the crew, on evaluators that hold what they are ranked by.

One architecture a Tune trial costs 0.2 to 1 s beside 0.03 to 0.3 s of work; a batch of them is one message. The crew's
retries, copies and commit log serve here as they do for meta-gradients: a batch in the log is not computed again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from raystill.actors.drive import commit_log
from raystill.actors.drive.session import Session
from raystill.actors.messages import WorkItem
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
    """A ranker with all that it needs.

    Attributes:
        name: what tables call it.
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
        """What an evaluator needs of the curriculum."""
        d = self.curriculum
        if d is None:
            return {"none": np.zeros(1, np.float32)}
        return {"x": d.images, "y": d.labels, "order": d.order, **d.rates}


@dataclass(frozen=True)
class Scores:
    """Of N architectures, each [N].

    Attributes:
        values: larger is better.
        steps: seconds of the training steps alone.
        judging: seconds of validation images, or of a proxy.
        cpu: CPU seconds of all of it.
        wall: seconds until the last was in, here.
        computed: how many were computed now; the others stood in the commit log.
    """

    values: np.ndarray
    steps: np.ndarray
    judging: np.ndarray
    cpu: np.ndarray
    wall: float
    computed: int

    def overhead(self, workers: int) -> tuple[float, float]:
        """Wall time over (training steps' own time / workers), and over that of training and judging."""
        workers = max(1, workers)
        steps, work = self.steps.sum(), (self.steps + self.judging).sum()
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
    """Scores on a session's evaluators; results are in the order asked for, whoever computed them."""

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
        columns: dict[str, list[float]] = {key: [] for key in ("", "steps/", "judging/", "cpu/")}
        for item, part in zip(items, parts):
            for key, column in columns.items():
                column += [self._known[item.address][f"{key}{n}"] for n in range(len(part))]
        arrays = {key: np.array(column) for key, column in columns.items()}
        computed = sum(len(part) for item, part in zip(items, parts) if item in missing)
        wall = time.perf_counter() - began
        return Scores(arrays[""], arrays["steps/"], arrays["judging/"], arrays["cpu/"], wall, computed)

    def spent(self) -> dict[str, float]:
        """Seconds of all batches that this run has scored, by this session and earlier ones."""
        rows = self._known.values()
        cpu, steps, judging = (
            sum(v for row in rows for k, v in row.items() if k.startswith(f"{part}/"))
            for part in ("cpu", "steps", "judging")
        )
        return {"score_cpu_seconds": cpu, "steps_seconds": steps, "work_seconds": steps + judging}

    def _item(self, ranking: Ranking, part: Sequence[Arch], seed: int, step: int) -> WorkItem:
        # named by its content, so that a log's row is found again whatever was asked around it
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
    """Batches that stand in a run's commit log."""
    rows: list[dict[str, Any]] = commit_log.read(folder / "commits").to_pylist()
    return {
        Address(r["seed"], r["attempt"], r["step"], r["member"], r["stream"]): dict(r["numbers"])
        for r in rows if r["kind"] == "score" and r["status"] == "ok"
    }  # fmt: skip
