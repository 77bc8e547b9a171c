"""All shards of the parameter server as one object, which the coordinator calls.

Shards never wait for each other. The few numbers that a step needs of all of them, sums of squares, go from shard to
shard by reference, so a whole step is submitted at once, before its first result exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raystill.actors.messages import Arrays
from raystill.actors.server.backends import Backend
from raystill.actors.server.parameter_server import Facts
from raystill.platform.outer.blocks import Cut


class Handle(NamedTuple):
    """Named arrays that may lie elsewhere, such as in Ray's object store.

    Attributes:
        parts: one for each shard, or a single one of whole arrays. In this process a part is the arrays themselves;
            on Ray it is a reference.
        cut: how the arrays are cut into parts; None where they are whole.
    """

    parts: tuple[Any, ...]
    cut: Cut | None = None


NOTHING = Handle(())
"""The handle of a lost item's arrays."""


def join(cut: Cut | None, parts: Sequence[Arrays]) -> Arrays:
    """The whole arrays of a handle's parts."""
    return parts[0] if cut is None else cut.join(parts)


def split(cut: Cut | None, arrays: Arrays) -> tuple[Arrays, ...]:
    """Whole arrays as the parts of a handle."""
    return (arrays,) if cut is None else tuple(cut.split(arrays))


class Shards:
    """The parameter server; the loss of one shard is the loss of the server."""

    def __init__(self, backend: Backend, count: int) -> None:
        self._backend, self._count = backend, count
        self._shards = [backend.start(number) for number in range(count)]
        self._cut: Cut | None = None
        self._part_saves: dict[str, list[Facts]] = {}  # checkpoint -> reports of the shards so far

    def _all(self, method: str, returns: int, *args: Any) -> list[Any]:
        return [self._backend.send(shard, method, returns, *args) for shard in self._shards]

    def _get(self, references: Sequence[Any], method: str) -> list[Any]:
        return [self._backend.get(reference, method) for reference in references]

    def _arrays(self, method: str, *args: Any) -> Handle:
        facts, parts = zip(*self._all(method, 2, *args))
        self._get(facts, method)
        return Handle(parts, self._cut)

    def init(self, meta: Arrays) -> Handle:
        """Set the first meta-parameters (outer step 0), whole arrays; their handle.

        Raises:
            ValueError: there are more shards than blocks.
        """
        self._cut = Cut.of(meta, self._count)
        return self._arrays("init", meta)

    def apply(
        self, attempt: int, step: int, members: int, chunks: Sequence[Handle]
    ) -> tuple[Callable[[], Facts], Handle]:
        """Submit one outer step; waits for nothing.

        Args:
            attempt, step: what the gradients were computed for.
            members: members of the population in all chunks together.
            chunks: summed gradients of a few members each; their order fixes the order of summation.

        Returns:
            A function that waits for the step's facts {gradient_norm, rate, bytes}, and the handle of the new
            meta-parameters, which can be used at once.
        """
        send, columns = self._backend.send, zip(self._shards, zip(*(chunk.parts for chunk in chunks)))
        if self._count == 1:  # the shard's sums are those of the whole: one call does the work of three
            answers = [send(shard, "apply", 2, attempt, step, members, *column) for shard, column in columns]
        else:
            sums = [send(shard, "square_sums", 1, attempt, step, *column) for shard, column in columns]
            averaged = self._all("average", 1, members, *sums)
            answers = self._all("advance", 2, *averaged)
        facts, parts = zip(*answers)

        def applied() -> Facts:
            reports = self._get(facts, "apply")
            return {**reports[0], "bytes": sum(report.get("bytes", 0.0) for report in reports)}

        return applied, Handle(parts, self._cut)

    def roll_back(self, attempt: int) -> int:
        """Go back, as this attempt, to the oldest anchor that all shards have; returns its step."""
        step = min(set.intersection(*map(set, self._get(self._all("anchor_steps", 1), "anchor_steps"))))
        self._get(self._all("roll_back", 1, attempt, step), "roll_back")
        return int(step)

    def enter(self, attempt: int) -> None:
        """Count the steps that follow as this attempt's."""
        self._get(self._all("enter", 1, attempt), "enter")

    def version(self, version: int) -> Handle:
        """The meta-parameters of an outer step: the present one, or one of the `outer.delay` before it."""
        return self._arrays("version", version)

    def snapshot(self) -> Handle:
        """Keep a copy of the current meta-parameters until `score` is called for them."""
        return self._arrays("snapshot")

    def snapshot_at(self, step: int) -> Handle:
        """The snapshot of a step, which has no score yet."""
        return self._arrays("snapshot_at", step)

    def score(self, step: int, accuracy: float, spread: float) -> None:
        """Set a snapshot's score: validation accuracy, mean and spread over networks, in percent."""
        self._get(self._all("score", 1, step, accuracy, spread), "score")

    def best_score(self) -> Facts:
        """The best snapshot's score."""
        best: Facts = self._get(self._all("best_score", 1), "best_score")[0]
        return best

    def save(self, root: str, name: str, extra: Facts, keep: int, fault: str | None = None) -> None:
        """Start writing a checkpoint, one part for each shard, as `ParameterServer.save`.

        Args:
            root: the run's `checkpoints`, a path or URI.
            name: of the checkpoint.
            extra: the coordinator's facts.
            keep: number of checkpoints that stay.
            fault: kind of fault to inject into the last shard's part.
        """
        faults = [None] * (self._count - 1) + [fault]
        calls = [self._backend.send(s, "save", 1, root, name, extra, keep, f) for s, f in zip(self._shards, faults)]
        self._get(calls, "save")

    def saved(self, wait: bool) -> list[Facts]:
        """Reports {name, step, seconds, error} of checkpoints of which every part is written or failed, each once.

        Args:
            wait: wait for all that were started.
        """
        for reports in self._get(self._all("saved", 1, wait), "saved"):
            for report in reports:
                self._part_saves.setdefault(report["name"], []).append(report)
        complete = [name for name, parts in self._part_saves.items() if len(parts) == self._count]
        done = [self._part_saves.pop(name) for name in complete]
        return [max(parts, key=lambda part: (part["error"], part["seconds"])) for parts in done]

    def restore(self, root: str, name: str, spec: str | None = None) -> Facts:
        """Load a checkpoint into all shards; its facts. Raises as `ParameterServer.restore`."""
        facts: Facts = self._get(self._all("restore", 1, root, name, spec), "restore")[0]
        self._cut = Cut(tuple((name, tuple(shape)) for name, shape in facts["shapes"]), self._count)
        return facts

    def fetch(self, handle: Handle) -> Arrays:
        """The arrays behind a handle, in this process."""
        return join(handle.cut, self._get(handle.parts, "answer"))

    def kill_one(self) -> None:
        """Kill the last shard: an injected fault."""
        self._backend.kill(self._shards[-1])

    def restart(self) -> None:
        """End all shards and start new ones, without state."""
        self.close()
        self._shards = [self._backend.start(number) for number in range(self._count)]
        self._part_saves.clear()

    def close(self) -> None:
        """End all shards."""
        for shard in self._shards:
            self._backend.kill(shard)
