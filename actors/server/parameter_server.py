"""A shard of the parameter server: owns a run of the meta-parameters, their outer optimiser, and the best data so far.

Methods that hand out arrays return (facts, arrays): the facts are small and go to the driver, the arrays go from here
to the evaluators and never through it. A plain class; Ray makes an actor of it, the in-process executor calls it, and
`shards.Shards` asks all shards as one. Its state is the outer state, the snapshots without a score, and the best, and
a checkpoint is the state of all shards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from raystill.actors import faults
from raystill.actors.messages import Arrays
from raystill.actors.server import checkpoints
from raystill.platform import outer
from raystill.platform.files.storage import Storage
from raystill.platform.outer.blocks import Cut, squares
from raystill.platform.spec import OuterSpec

Facts = dict[str, Any]


class Score(NamedTuple):
    """Validation of one snapshot: mean and spread over networks, in percent."""

    step: int
    accuracy: float
    spread: float
    attempt: int = 0


class Anchor(NamedTuple):
    """A state to go back to, and the versions that the steps behind it work on."""

    state: outer.OuterState
    recent: dict[int, Arrays]


def _read_anchor(groups: dict[str, Arrays], step: int, norm: float) -> Anchor:
    """An anchor of a checkpoint."""
    meta, first, second, average = (groups[f"anchor-{step}-{name}"] for name in ("meta", "first", "second", "average"))
    prefix = f"anchor-{step}-recent-"
    recent = {int(k.removeprefix(prefix)): v for k, v in groups.items() if k.startswith(prefix)}
    return Anchor(outer.OuterState(step, meta, first, second, average, norm), {**recent, step: meta})


class _Open(NamedTuple):
    """A step that is being made: what it is made of, and what is known of it so far."""

    chunks: list[Arrays]
    running: float
    mean: Arrays


class ParameterServer:
    """Applies reduced gradients in order; `apply` is idempotent, keyed by attempt and step."""

    def __init__(self, spec: dict[str, Any], groups: dict[str, str], number: int = 0) -> None:
        self.spec, self._groups, self.number = OuterSpec.model_validate(spec), groups, number
        self.attempt = 0
        self.state: outer.OuterState | None = None
        self.recent: dict[int, Arrays] = {}  # meta-parameters that work may still be asked for with
        self.snapshots: dict[int, Arrays] = {}
        self.anchors: dict[int, Anchor] = {}  # what a rollback goes back to
        self.best: tuple[Score, Arrays] | None = None
        self._open: _Open | None = None
        self._writer = ThreadPoolExecutor(1)
        self._saves: list[Future[Facts]] = []

    def begin(self, meta: Arrays) -> tuple[Facts, Arrays]:
        """Start from first meta-parameters, whole; returns this shard's part as evaluators will see it.

        Raises:
            ValueError: there are more shards than blocks.
        """
        self._cut_as(meta)
        self.state = outer.init({k: np.array(v, np.float32) for k, v in self._part(meta).items()})
        self.recent = {0: self.state.meta}
        self._anchor()
        return {}, self.state.meta

    def _cut_as(self, meta: Mapping[str, np.ndarray]) -> None:
        self.cut = Cut.of(meta, self.spec.shards)
        self.groups = {name: field for name, field in self._groups.items() if name in self._part(meta)}

    def _part(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        return self.cut.split(arrays)[self.number]

    def _anchor(self) -> None:
        """Keep this state, and that of the anchor before it, to go back to."""
        if self.spec.rollbacks and self.state is not None and self.state.step % self.spec.rollback_to == 0:
            last = {k: v for k, v in self.anchors.items() if k == max(self.anchors)}
            self.anchors = {**last, self.state.step: Anchor(self.state, self.recent)}

    def anchored(self) -> list[int]:
        """Steps that a rollback can go back to."""
        return list(self.anchors)

    def roll_back(self, attempt: int, step: int) -> None:
        """Go back to the anchor of a step, as this attempt. Every snapshot must be scored."""
        assert not self.snapshots
        anchor = self.anchors[step]
        self.enter(attempt)
        self.state, self.recent, self.anchors = anchor.state, anchor.recent, {step: anchor}

    def enter(self, attempt: int) -> None:
        """Steps from here on are this attempt's."""
        self.attempt = attempt

    def apply(self, attempt: int, step: int, members: int, *chunks: Arrays) -> tuple[Facts, Arrays]:
        """One outer step from the chunks' summed gradients, in the order given, where there is no other shard.

        Args:
            attempt, step: what the gradients were computed for; a step that was applied already changes nothing.
            members: number of members in all chunks together.

        Returns:
            ({gradient_norm, rate, bytes}, the new meta-parameters).
        """
        assert self.state is not None, "begin or restore comes first"
        if step < self.state.step:
            return {}, self.state.meta
        return self.advance(self.average(members, self.measure(attempt, step, *chunks)))

    def measure(self, attempt: int, step: int, *chunks: Arrays) -> np.ndarray:
        """The first third of `apply`: sums of squares [chunks, blocks] of this shard's part of the chunks."""
        assert self.state is not None, "begin or restore comes first"
        assert attempt == self.attempt
        assert step == self.state.step, f"step {step}, but the state is of {self.state.step}"
        learned = [{name: chunk[name] for name in self.groups} for chunk in chunks]
        self._open = _Open(learned, self.state.norm, {})
        clips = self.spec.clip_relative is not None  # else nobody asks
        return np.array([squares(chunk) if clips else [] for chunk in learned])

    def average(self, members: int, *measured: np.ndarray) -> np.ndarray:
        """The second: tame and average the chunks, by all shards' `measure`; sums of squares [blocks] of the mean."""
        assert self._open is not None
        norms = [outer.norm_of(rows) for rows in zip(*(m.tolist() for m in measured))]
        factors, running = outer.adaptive_clipping(self.spec, self._open.running, norms)
        mean = outer.reduce(self._open.chunks, members, factors)
        self._open = _Open([], running, mean)
        return np.array(squares(mean))

    def advance(self, *averaged: np.ndarray) -> tuple[Facts, Arrays]:
        """The third: the optimiser's step, by all shards' `average`; returns as `apply`."""
        assert self.state is not None
        assert self._open is not None
        norm = outer.norm_of(a.tolist() for a in averaged)
        spec = outer.slowed(self.spec, self.attempt)
        self.state, applied = outer.apply(spec, self.groups, self.state, self._open.mean, norm)
        self.state, self._open = replace(self.state, norm=self._open.running), None
        self.recent[self.state.step] = self.state.meta
        self.recent = {k: v for k, v in self.recent.items() if k >= self.state.step - self.spec.delay}
        self._anchor()
        size = sum(a.nbytes for a in self.state.meta.values())
        return {**applied._asdict(), "bytes": float(size)}, self.state.meta

    def version(self, version: int) -> tuple[Facts, Arrays]:
        """Meta-parameters of this outer step or of one of the `delay` steps before it."""
        return {}, self.recent[version]

    def snapshot(self) -> tuple[Facts, Arrays]:
        """Keep the current data (their running average where the spec has one) until it is scored."""
        assert self.state is not None
        data = self.state.average if self.spec.ema else self.state.meta
        self.snapshots[self.state.step] = data
        return {}, data

    def kept(self, step: int) -> tuple[Facts, Arrays]:
        """A snapshot that is not scored yet."""
        return {}, self.snapshots[step]

    def score(self, step: int, accuracy: float, spread: float) -> None:
        """Best accuracy wins, the earliest step on ties, in whatever order scores arrive."""
        data = self.snapshots.pop(step)
        score = Score(step, accuracy, spread, self.attempt)
        if self.best is None or (accuracy, -step) > (self.best[0].accuracy, -self.best[0].step):
            self.best = score, data

    def score_of_best(self) -> Facts:
        """The best snapshot's score."""
        assert self.best is not None
        return self.best[0]._asdict()

    def save(self, root: str, name: str, extra: dict[str, Any], keep: int, harm: str | None = None) -> None:
        """Begin to write everything owned here as this shard's part of a checkpoint, beside further steps.

        Args:
            root: the run's `checkpoints`, a path or URI.
            name: of the checkpoint, the same for all shards.
            extra: the coordinator's facts; what can not be written is told by `saved`.
            keep: checkpoints that stay.
            harm: fault to inject; see `faults`.
        """
        assert self.state is not None
        groups: dict[str, Arrays] = {
            "meta": self.state.meta, "first": self.state.first, "second": self.state.second,
            "average": self.state.average, **{f"snapshot-{k}": v for k, v in self.snapshots.items()},
            **{f"recent-{k}": v for k, v in self.recent.items() if k != self.state.step},
        }  # fmt: skip
        for step, (state, recent) in self.anchors.items():
            kept = {"meta": state.meta, "first": state.first, "second": state.second, "average": state.average}
            groups |= {f"anchor-{step}-{name}": arrays for name, arrays in kept.items()}
            groups |= {f"anchor-{step}-recent-{k}": v for k, v in recent.items() if k != step}
        facts: dict[str, Any] = {
            "step": self.state.step,
            "attempt": self.attempt,
            "norm": self.state.norm,
            "unscored": sorted(self.snapshots),
            "anchors": {str(k): v.state.norm for k, v in self.anchors.items()},
            **extra,
        }
        if self.best is not None:
            groups["best"], facts["best"] = self.best[1], self.best[0]._asdict()
        # a state is replaced, never changed, so it can be written while the next ones are made
        self._saves.append(self._writer.submit(self._write, Storage(root), name, groups, facts, keep, harm))

    def _write(
        self, storage: Storage, name: str, groups: dict[str, Arrays], facts: Facts, keep: int, harm: str | None
    ) -> Facts:
        """One checkpoint, and how it went: a disk that is full for a while must not cost the run."""
        began, error = time.perf_counter(), ""
        try:
            faults.before_checkpoint(harm)
            checkpoints.write(storage, name, groups, facts, self.cut, self.number, keep)
            faults.after_checkpoint(harm, storage, checkpoints.file_of(name, self.number))
        except OSError as trouble:
            error = f"{trouble}"
        return {"name": name, "step": facts["step"], "seconds": time.perf_counter() - began, "error": error}

    def saved(self, wait: bool) -> list[Facts]:
        """What became of the checkpoints begun since the last call: {name, step, seconds, error}; all if `wait`."""
        done = [save for save in self._saves if wait or save.done()]
        self._saves = [save for save in self._saves if save not in done]
        return [save.result() for save in done]

    def restore(self, root: str, name: str, spec: str | None = None) -> Facts:
        """Take this shard's part over from a checkpoint, whatever the number of shards that wrote it; its facts.

        Raises:
            checkpoints.Corrupt: a file is torn, altered or foreign.
        """
        whole, facts = checkpoints.read(Storage(root), name, spec)
        self._cut_as(whole["meta"])
        # copies: a view would keep the other shards' parts in memory
        groups = {group: {k: v.copy() for k, v in self._part(arrays).items()} for group, arrays in whole.items()}
        self.attempt = int(facts["attempt"])
        self.state = outer.OuterState(
            int(facts["step"]), groups["meta"], groups["first"], groups["second"], groups["average"], facts["norm"]
        )
        self.snapshots = {int(k.split("-")[1]): v for k, v in groups.items() if k.startswith("snapshot-")}
        self.recent = {int(k.split("-")[1]): v for k, v in groups.items() if k.startswith("recent-")}
        self.recent[self.state.step] = self.state.meta
        self.anchors = {int(k): _read_anchor(groups, int(k), norm) for k, norm in facts.get("anchors", {}).items()}
        self.best = (Score(**facts["best"]), groups["best"]) if "best" in facts else None
        return facts
