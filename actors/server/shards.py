"""All shards of the parameter server as one: what the coordinator talks to, in this process or on Ray.

Shards never wait for each other. What a step needs of all of them, sums of squares of a few numbers each, goes from
shard to shard by reference, so a whole step is submitted at once, before the first of its results exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from raystill.actors.messages import Arrays
from raystill.actors.server.parameter_server import Facts
from raystill.platform.outer.blocks import Cut


class Handle(NamedTuple):
    """Arrays, wherever they are.

    Attributes:
        parts: each shard's, or one of whole arrays: themselves in this process, references on Ray.
        cut: how they were cut; None where they are whole.
    """

    parts: tuple[Any, ...]
    cut: Cut | None = None


NOTHING = Handle(())
"""The arrays of an item that was lost."""


def joined(cut: Cut | None, parts: Sequence[Arrays]) -> Arrays:
    """Whole arrays of a handle's parts."""
    return parts[0] if cut is None else cut.join(parts)


def parted(cut: Cut | None, arrays: Arrays) -> tuple[Arrays, ...]:
    """The parts that a handle of whole arrays has."""
    return (arrays,) if cut is None else tuple(cut.split(arrays))


class ServerLost(RuntimeError):
    """A shard of the server, or arrays that only it could make again, are gone; the newest checkpoint is the way on."""


class Place(Protocol):
    """Where shards live, and how to reach them; a reference stands for an answer that may be still to come."""

    def start(self, number: int) -> Any:
        """A shard without a state."""

    def send(self, shard: Any, method: str, returns: int, *args: Any) -> Any:
        """Call a method, in the order of the calls; `returns` references; references among `args` are resolved."""

    def get(self, reference: Any, method: str) -> Any:
        """An answer, waited for.

        Raises:
            ServerLost: it will not come.
        """

    def kill(self, shard: Any) -> None:
        """End a shard as a crash would."""


class Shards:
    """The parameter server; any shard's loss is the loss of the server."""

    def __init__(self, place: Place, count: int) -> None:
        self._place, self._count = place, count
        self._shards = [place.start(number) for number in range(count)]
        self._cut: Cut | None = None
        self._told: dict[str, list[Facts]] = {}

    def _all(self, method: str, returns: int, *args: Any) -> list[Any]:
        return [self._place.send(shard, method, returns, *args) for shard in self._shards]

    def _get(self, references: Sequence[Any], method: str) -> list[Any]:
        return [self._place.get(reference, method) for reference in references]

    def _arrays(self, method: str, *args: Any) -> Handle:
        facts, parts = zip(*self._all(method, 2, *args))
        self._get(facts, method)
        return Handle(parts, self._cut)

    def begin(self, meta: Arrays) -> Handle:
        """Start from first meta-parameters.

        Raises:
            ValueError: there are more shards than blocks.
        """
        self._cut = Cut.of(meta, self._count)
        return self._arrays("begin", meta)

    def apply(
        self, attempt: int, step: int, members: int, chunks: Sequence[Handle]
    ) -> tuple[Callable[[], Facts], Handle]:
        """One outer step; waits for nothing: the facts are a function that waits, the handle can be used at once."""
        send, columns = self._place.send, zip(self._shards, zip(*(chunk.parts for chunk in chunks)))
        if self._count == 1:  # its sums are those of the whole, and one call does what three do
            answers = [send(shard, "apply", 2, attempt, step, members, *column) for shard, column in columns]
        else:
            measured = [send(shard, "measure", 1, attempt, step, *column) for shard, column in columns]
            averaged = self._all("average", 1, members, *measured)
            answers = self._all("advance", 2, *averaged)
        facts, parts = zip(*answers)

        def applied() -> Facts:
            told = self._get(facts, "apply")
            return {**told[0], "bytes": sum(each.get("bytes", 0.0) for each in told)}

        return applied, Handle(parts, self._cut)

    def roll_back(self, attempt: int) -> int:
        """Go back to the oldest state that all shards keep for it, as this attempt; returns its step."""
        step = min(set.intersection(*map(set, self._get(self._all("anchored", 1), "anchored"))))
        self._get(self._all("roll_back", 1, attempt, step), "roll_back")
        return int(step)

    def enter(self, attempt: int) -> None:
        """Steps from here on are this attempt's."""
        self._get(self._all("enter", 1, attempt), "enter")

    def version(self, version: int) -> Handle:
        """Meta-parameters of this outer step or of one of the `delay` steps before it."""
        return self._arrays("version", version)

    def snapshot(self) -> Handle:
        """Keep the current data until it is scored."""
        return self._arrays("snapshot")

    def kept(self, step: int) -> Handle:
        """A snapshot that is not scored yet."""
        return self._arrays("kept", step)

    def score(self, step: int, accuracy: float, spread: float) -> None:
        """Hand in a snapshot's score."""
        self._get(self._all("score", 1, step, accuracy, spread), "score")

    def score_of_best(self) -> Facts:
        """The best snapshot's score."""
        best: Facts = self._get(self._all("score_of_best", 1), "score_of_best")[0]
        return best

    def save(self, root: str, name: str, extra: Facts, keep: int, harm: str | None = None) -> None:
        """Begin to write a checkpoint; a fault strikes the last shard's part."""
        harms = [None] * (self._count - 1) + [harm]
        begun = [self._place.send(s, "save", 1, root, name, extra, keep, h) for s, h in zip(self._shards, harms)]
        self._get(begun, "save")

    def saved(self, wait: bool) -> list[Facts]:
        """What became of the checkpoints begun: {name, step, seconds, error}, once, when all parts are told of."""
        for told in self._get(self._all("saved", 1, wait), "saved"):
            for facts in told:
                self._told.setdefault(facts["name"], []).append(facts)
        done = [self._told.pop(name) for name in list(self._told) if len(self._told[name]) == self._count]
        return [max(parts, key=lambda part: (part["error"], part["seconds"])) for parts in done]

    def restore(self, root: str, name: str, spec: str | None = None) -> Facts:
        """Take over a checkpoint; its facts."""
        facts: Facts = self._get(self._all("restore", 1, root, name, spec), "restore")[0]
        self._cut = Cut(tuple((name, tuple(shape)) for name, shape in facts["shapes"]), self._count)
        return facts

    def fetch(self, handle: Handle) -> Arrays:
        """The arrays behind a handle, here."""
        return joined(handle.cut, self._get(handle.parts, "answer"))

    def strike(self) -> None:
        """Lose a shard, the last: for fault injection."""
        self._place.kill(self._shards[-1])

    def restart(self) -> None:
        """New shards, without a state; what is left of the old ones is ended."""
        self.close()
        self._shards = [self._place.start(number) for number in range(self._count)]
        self._told.clear()

    def close(self) -> None:
        """End all shards."""
        for shard in self._shards:
            self._place.kill(shard)
