"""A shard of the parameter server: a slice of the meta-parameters, their outer optimiser, and the best data so far.

Methods that return arrays return (facts, arrays): the facts are small and go to the driver, the arrays go from the
shard to the evaluators and never through the driver. A plain class, which `backends` calls in this process or as a Ray
actor, and `shards.Shards` calls for all shards at once. A checkpoint is the state of all shards.
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
from raystill.actors.server.states import Anchor, Score, groups_of, numbered, read_state
from raystill.platform import outer
from raystill.platform.files.storage import Storage
from raystill.platform.outer.blocks import Cut, squares
from raystill.platform.spec import OuterSpec

Facts = dict[str, Any]


class _Step(NamedTuple):
    """An outer step between its three parts: the chunks, the running norm for clipping, the mean gradient."""

    chunks: list[Arrays]
    running: float
    mean: Arrays


class ParameterServer:
    """Applies summed gradients in a fixed order. `apply` is idempotent, keyed by attempt and step.

    Args:
        spec: an `OuterSpec`, dumped.
        groups: name of a meta-parameter -> the learning-rate field of the spec that it takes its steps with.
        number: of this shard, from 0.
    """

    def __init__(self, spec: dict[str, Any], groups: dict[str, str], number: int = 0) -> None:
        self.spec, self._groups, self.number = OuterSpec.model_validate(spec), groups, number
        self.attempt = 0
        self.state: outer.OuterState | None = None
        self.recent: dict[int, Arrays] = {}  # the meta-parameters that an item may still work on
        self.snapshots: dict[int, Arrays] = {}  # those without a score
        self.anchors: dict[int, Anchor] = {}
        self.best: tuple[Score, Arrays] | None = None
        self._open: _Step | None = None
        self._writer = ThreadPoolExecutor(1)
        self._saves: list[Future[Facts]] = []

    def init(self, meta: Arrays) -> tuple[Facts, Arrays]:
        """Set the first meta-parameters, from whole arrays; this shard's part, as evaluators will see it.

        Raises:
            ValueError: there are more shards than blocks.
        """
        self._cut_as(meta)
        self.state = outer.init(self.spec, {k: np.array(v, np.float32) for k, v in self._part(meta).items()})
        self.recent = {0: self.state.meta}
        self._anchor()
        return {}, self.state.meta

    def _cut_as(self, meta: Mapping[str, np.ndarray]) -> None:
        self.cut = Cut.of(meta, self.spec.shards)
        self.groups = {name: field for name, field in self._groups.items() if name in self._part(meta)}

    def _part(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        return self.cut.split(arrays)[self.number]

    def _anchor(self) -> None:
        """Keep this state for a rollback, where the spec asks for it, and the anchor before it."""
        if self.spec.rollbacks and self.state is not None and self.state.step % self.spec.rollback_to == 0:
            newest = {k: v for k, v in self.anchors.items() if k == max(self.anchors)}
            self.anchors = {**newest, self.state.step: Anchor(self.state, self.recent)}

    def anchor_steps(self) -> list[int]:
        """The steps that a rollback can return to."""
        return list(self.anchors)

    def roll_back(self, attempt: int, step: int) -> None:
        """Return to the anchor of a step, as this attempt. Every snapshot must have its score."""
        assert not self.snapshots
        anchor = self.anchors[step]
        self.enter(attempt)
        self.state, self.recent, self.anchors = anchor.state, anchor.recent, {step: anchor}

    def enter(self, attempt: int) -> None:
        """Count the steps that follow as this attempt's."""
        self.attempt = attempt

    def apply(self, attempt: int, step: int, members: int, *chunks: Arrays) -> tuple[Facts, Arrays]:
        """One outer step, where this is the only shard.

        Args:
            attempt, step: what the gradients were computed for; a step that was applied already changes nothing.
            members: members of the population in all chunks together.
            chunks: summed gradients of a few members each; their order fixes the order of summation.

        Returns:
            ({gradient_norm, rate, bytes}, the new meta-parameters).
        """
        assert self.state is not None, "init or restore comes first"
        if step < self.state.step:
            return {}, self.state.meta
        return self.advance(self.average(members, self.square_sums(attempt, step, *chunks)))

    def square_sums(self, attempt: int, step: int, *chunks: Arrays) -> np.ndarray:
        """The first third of `apply`: sums of squares [chunks, blocks] of this shard's part of each chunk."""
        assert self.state is not None, "init or restore comes first"
        assert attempt == self.attempt
        assert step == self.state.step, f"step {step}, but the state is of {self.state.step}"
        learned = [{name: chunk[name] for name in self.groups} for chunk in chunks]
        self._open = _Step(learned, self.state.norm, {})
        clips = self.spec.clip_relative is not None  # else they are not used
        return np.array([squares(chunk) if clips else [] for chunk in learned])

    def average(self, members: int, *sums: np.ndarray) -> np.ndarray:
        """The second third: clip and average the chunks.

        Args:
            sums: what `square_sums` of each shard returned.

        Returns:
            Sums of squares [blocks] of this shard's part of the mean.
        """
        assert self._open is not None
        norms = [outer.norm_of(rows) for rows in zip(*(shard.tolist() for shard in sums))]
        factors, running = outer.adaptive_clipping(self.spec, self._open.running, norms)
        mean = outer.reduce(self._open.chunks, members, factors)
        self._open = _Step([], running, mean)
        return np.array(squares(mean))

    def advance(self, *sums: np.ndarray) -> tuple[Facts, Arrays]:
        """The last third: the optimiser's step, from what `average` of each shard returned; returns as `apply`."""
        assert self.state is not None
        assert self._open is not None
        norm = outer.norm_of(shard.tolist() for shard in sums)
        spec = outer.slowed(self.spec, self.attempt)
        self.state, applied = outer.apply(spec, self.groups, self.state, self._open.mean, norm)
        self.state, self._open = replace(self.state, norm=self._open.running), None
        self.recent[self.state.step] = self.state.meta
        self.recent = {k: v for k, v in self.recent.items() if k >= self.state.step - self.spec.delay}
        self._anchor()
        size = sum(a.nbytes for a in self.state.meta.values())
        return {**applied._asdict(), "bytes": float(size)}, self.state.meta

    def version(self, version: int) -> tuple[Facts, Arrays]:
        """The meta-parameters of an outer step: the present one, or one of the `delay` before it."""
        return {}, self.recent[version]

    def snapshot(self) -> tuple[Facts, Arrays]:
        """Keep the meta-parameters, or their running average where the spec has one, until `score` is called."""
        assert self.state is not None
        data = self.state.average if self.spec.ema else self.state.meta
        self.snapshots[self.state.step] = data
        return {}, data

    def snapshot_at(self, step: int) -> tuple[Facts, Arrays]:
        """The snapshot of a step, which has no score yet."""
        return {}, self.snapshots[step]

    def score(self, step: int, accuracy: float, spread: float) -> None:
        """Set a snapshot's score, in any order of steps; the highest accuracy is the best, on ties the earliest step.

        Args:
            accuracy, spread: mean and spread over networks on validation data, in percent.
        """
        data = self.snapshots.pop(step)
        score = Score(step, accuracy, spread, self.attempt)
        if self.best is None or (accuracy, -step) > (self.best[0].accuracy, -self.best[0].step):
            self.best = score, data

    def best_score(self) -> Facts:
        """The best snapshot's score."""
        assert self.best is not None
        return self.best[0]._asdict()

    def save(self, root: str, name: str, extra: dict[str, Any], keep: int, fault: str | None = None) -> None:
        """Start writing this shard's part of a checkpoint, while further steps go on.

        Args:
            root: the run's `checkpoints`, a path or URI.
            name: of the checkpoint, the same for all shards.
            extra: the coordinator's facts.
            keep: number of checkpoints that stay.
            fault: kind of fault to inject; see `faults`.
        """
        assert self.state is not None
        groups = groups_of(self.state, self.recent)
        groups |= {f"snapshot-{step}": data for step, data in self.snapshots.items()}
        for step, (state, recent) in self.anchors.items():
            groups |= groups_of(state, recent, f"anchor-{step}-")
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
        # a state is replaced, never changed in place, so it can be written while further steps are taken
        self._saves.append(self._writer.submit(self._write, Storage(root), name, groups, facts, keep, fault))

    def _write(
        self, storage: Storage, name: str, groups: dict[str, Arrays], facts: Facts, keep: int, fault: str | None
    ) -> Facts:
        """Write a checkpoint; a full disk is reported, not raised, since it may be full for a while only."""
        began, error = time.perf_counter(), ""
        try:
            faults.before_checkpoint(fault)
            checkpoints.write(storage, name, groups, facts, self.cut, self.number, keep)
            faults.after_checkpoint(fault, storage, checkpoints.file_of(name, self.number))
        except OSError as failure:
            error = str(failure)
        return {"name": name, "step": facts["step"], "seconds": time.perf_counter() - began, "error": error}

    def saved(self, wait: bool) -> list[Facts]:
        """Reports {name, step, seconds, error} of checkpoints that ended since the last call; of all if `wait`."""
        done = [save for save in self._saves if wait or save.done()]
        self._saves = [save for save in self._saves if save not in done]
        return [save.result() for save in done]

    def restore(self, root: str, name: str, spec: str | None = None) -> Facts:
        """Load this shard's part of a checkpoint, whatever the number of shards that wrote it.

        Args:
            root, name: as for `save`.
            spec: digest of the spec that the checkpoint must belong to; None takes any.

        Returns:
            The checkpoint's facts.

        Raises:
            checkpoints.Corrupt: a file is torn, altered or foreign.
        """
        whole, facts = checkpoints.read(Storage(root), name, spec)
        self._cut_as(whole["meta"])
        # copies: a view would keep the other shards' parts in memory
        groups = {group: {k: v.copy() for k, v in self._part(arrays).items()} for group, arrays in whole.items()}
        self.attempt = int(facts["attempt"])
        self.state, self.recent = read_state(groups, int(facts["step"]), facts["norm"])
        self.snapshots = numbered(groups, "snapshot-")
        anchors = facts.get("anchors", {}).items()
        self.anchors = {int(step): read_state(groups, int(step), norm, f"anchor-{step}-") for step, norm in anchors}
        self.best = (Score(**facts["best"]), groups["best"]) if "best" in facts else None
        return facts
