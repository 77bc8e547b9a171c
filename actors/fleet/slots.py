"""One evaluator as the driver sees it: its items in flight, its rate, its losses, and whether it takes work."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from raystill.actors.messages import Outcome, WorkItem
from raystill.actors.server.shards import Handle


class Flight(NamedTuple):
    """An item at an evaluator.

    Attributes:
        inputs, arrays: handles of its input, and of the arrays that it will return.
        since: when it was sent, on the monotonic clock.
        forgotten: nobody waits for it any more: the loss of its input is ignored; its seconds still count.
    """

    item: WorkItem
    inputs: Handle
    arrays: Handle
    since: float
    forgotten: bool = False


@dataclass
class Slot:
    """One evaluator.

    Attributes:
        ready: reference to its first answer after a start; None once that has arrived.
        facts: what `Evaluator.ready` answered.
        probe_at: when to call it again after a start that could not be finished; None where it need not be called.
        failures: failed starts in a row.
        losses: processes that died.
        suspect: reference of the item that the last dead process was computing.
        quarantined: times that another evaluator computed an item that this one could not.
        leaving: it gets no more work, and is removed when it has nothing in flight.
        draining: its node will go, so it gets no work there.
        in_flight: its items by the reference of their outcome, the oldest first.
        recent: (members, seconds) of its last items.
    """

    number: int
    actor: Any
    ready: Any | None
    facts: dict[str, Any] = field(default_factory=dict)
    probe_at: float | None = None
    failures: int = 0
    losses: int = 0
    suspect: Any | None = None
    quarantined: int = 0
    leaving: bool = False
    draining: bool = False
    idle_since: float = 0.0
    in_flight: dict[Any, Flight] = field(default_factory=dict)
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=20))

    @property
    def takes_work(self) -> bool:
        """Whether it may be given an item."""
        return self.ready is None and self.probe_at is None and not self.leaving and not self.draining

    def lose(self, now: float) -> None:
        """Note that its process is gone."""
        self.losses += 1
        self.suspect = next(iter(self.in_flight), None)
        self.idle_since = now
        self.recent.clear()

    def count(self, outcome: Outcome) -> None:
        """Note an item's members and seconds, for the rate in `row`."""
        members = getattr(outcome.item.options, "members", 1)
        self.recent.append((float(members), outcome.seconds))

    def row(self) -> dict[str, Any]:
        """A row of the run's status: number, node, device, state, items in flight, members per second, losses."""
        starting = self.ready is not None or self.probe_at is not None
        names = {
            "leaving": self.leaving,
            "draining": self.draining,
            "starting": starting,
            "computing": bool(self.in_flight),
        }
        state = next((name for name, holds in names.items() if holds), "idle")
        seconds = sum(s for _, s in self.recent)
        return {
            "evaluator": self.number, "node": self.facts.get("host", "-"), "device": self.facts.get("device", "-"),
            "pid": self.facts.get("pid"), "state": state, "in_flight": len(self.in_flight),
            "members_per_second": sum(m for m, _ in self.recent) / seconds if seconds else 0.0,
            "losses": self.losses, "quarantined": self.quarantined,
        }  # fmt: skip
