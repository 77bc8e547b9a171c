"""The parameter server: owns the meta-parameters, the outer optimiser, and the best data so far.

Methods that hand out arrays return (facts, arrays): the facts are small and go to the driver, the arrays go from here
to the evaluators and never through it. A plain class; Ray makes an actor of it, the in-process executor calls it.
Its state is the outer state, the snapshots without a score, and the best, and a checkpoint is that state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from raystill.actors import checkpoints
from raystill.actors.messages import Arrays
from raystill.platform import outer
from raystill.platform.spec import OuterSpec

Facts = dict[str, Any]


class Score(NamedTuple):
    """Validation of one snapshot: mean and spread over networks, in percent."""

    step: int
    accuracy: float
    spread: float


class ParameterServer:
    """Applies reduced gradients in order; `apply` is idempotent, keyed by attempt and step."""

    def __init__(self, spec: dict[str, Any], groups: dict[str, str]) -> None:
        self.spec, self.groups = OuterSpec.model_validate(spec), groups
        self.attempt = 0
        self.state: outer.OuterState | None = None
        self.recent: dict[int, Arrays] = {}  # meta-parameters that work may still be asked for with
        self.snapshots: dict[int, Arrays] = {}
        self.best: tuple[Score, Arrays] | None = None

    def begin(self, meta: Arrays) -> tuple[Facts, Arrays]:
        """Start from first meta-parameters; returns them as evaluators will see them."""
        self.state = outer.begin({k: np.array(v, np.float32) for k, v in meta.items()})
        self.recent = {0: self.state.meta}
        return {}, self.state.meta

    def apply(self, attempt: int, step: int, members: int, *chunks: Arrays) -> tuple[Facts, Arrays]:
        """One outer step from the chunks' summed gradients, in the order given.

        Args:
            attempt, step: what the gradients were computed for; a step that was applied already changes nothing.
            members: number of members in all chunks together.

        Returns:
            ({gradient_norm, rate}, the new meta-parameters).
        """
        assert self.state is not None, "begin or restore comes first"
        assert attempt == self.attempt
        assert step <= self.state.step, f"step {step} ahead of {self.state.step}"
        if step < self.state.step:
            return {}, self.state.meta
        self.state, applied = outer.advance(self.spec, self.groups, self.state, chunks, members)
        self.recent[self.state.step] = self.state.meta
        self.recent = {k: v for k, v in self.recent.items() if k >= self.state.step - self.spec.delay}
        return applied._asdict(), self.state.meta

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
        score = Score(step, accuracy, spread)
        if self.best is None or (accuracy, -step) > (self.best[0].accuracy, -self.best[0].step):
            self.best = score, data

    def chosen(self) -> tuple[Facts, Arrays]:
        """The best snapshot and its score."""
        assert self.best is not None
        return self.best[0]._asdict(), self.best[1]

    def score_of_best(self) -> Facts:
        """The best snapshot's score alone."""
        return self.chosen()[0]

    def save(self, folder: str, extra: dict[str, Any]) -> None:
        """Write everything owned here, and the coordinator's `extra`, as a checkpoint folder."""
        assert self.state is not None
        groups: dict[str, Arrays] = {
            "meta": self.state.meta, "first": self.state.first, "second": self.state.second,
            "average": self.state.average, **{f"snapshot-{k}": v for k, v in self.snapshots.items()},
            **{f"recent-{k}": v for k, v in self.recent.items() if k != self.state.step},
        }  # fmt: skip
        facts: dict[str, Any] = {
            "step": self.state.step,
            "attempt": self.attempt,
            "norm": self.state.norm,
            "unscored": sorted(self.snapshots),
            **extra,
        }
        if self.best is not None:
            groups["best"], facts["best"] = self.best[1], self.best[0]._asdict()
        checkpoints.write(folder, groups, facts)

    def restore(self, folder: str) -> Facts:
        """Take over a checkpoint; returns its facts.

        Raises:
            checkpoints.Corrupt: a file is torn, altered or foreign.
        """
        groups, facts = checkpoints.read(folder)
        self.attempt = int(facts["attempt"])
        self.state = outer.OuterState(
            int(facts["step"]), groups["meta"], groups["first"], groups["second"], groups["average"], facts["norm"]
        )
        self.snapshots = {int(k.split("-")[1]): v for k, v in groups.items() if k.startswith("snapshot-")}
        self.recent = {int(k.split("-")[1]): v for k, v in groups.items() if k.startswith("recent-")}
        self.recent[self.state.step] = self.state.meta
        self.best = (Score(**facts["best"]), groups["best"]) if "best" in facts else None
        return facts
