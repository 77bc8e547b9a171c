"""One evaluator as its executor sees it: what it has in flight, how it does, and whether it gets more."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from raystill.actors.messages import Outcome, WorkItem
from raystill.actors.server.shards import Handle


class Flight(NamedTuple):
    """An item at an evaluator, with the handles of its input and of its arrays to come, and when it was sent.

    Attributes:
        forgotten: nobody waits for it any more, so that what it lost is no news; its seconds still count.
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
        ready: reference to its first answer after a start; None once it has answered.
        probe_at: when to ask again whether it has started; None where it was asked.
        failures: starts that failed in a row.
        losses: processes that it lost.
        suspect: what it was at when it lost the last one.
        leaving: it gets no more work, and goes when it has nothing in flight.
        draining: its node will go; it gets no more work there.
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
    flying: dict[Any, Flight] = field(default_factory=dict)
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=20))

    @property
    def takes_work(self) -> bool:
        """Whether it may be given an item."""
        return self.ready is None and self.probe_at is None and not self.leaving and not self.draining

    def lose(self, now: float) -> None:
        """Its process is gone."""
        self.losses += 1
        self.suspect = next(iter(self.flying), None)
        self.idle_since = now
        self.recent.clear()

    def count(self, outcome: Outcome) -> None:
        """Remember what an item took, for the rate that `row` tells."""
        members = getattr(outcome.item.options, "members", 1)
        self.recent.append((float(members), outcome.seconds))

    def row(self) -> dict[str, Any]:
        """What `raystill attach` shows: number, node, device, state, items in flight, members per second, losses."""
        starting = self.ready is not None or self.probe_at is not None
        names = {
            "leaving": self.leaving,
            "draining": self.draining,
            "starting": starting,
            "computing": bool(self.flying),
        }
        state = next((name for name, holds in names.items() if holds), "idle")
        seconds = sum(s for _, s in self.recent)
        return {
            "evaluator": self.number, "node": self.facts.get("host", "-"), "device": self.facts.get("device", "-"),
            "pid": self.facts.get("pid"), "state": state, "in_flight": len(self.flying),
            "members_per_second": sum(m for m, _ in self.recent) / seconds if seconds else 0.0,
            "losses": self.losses, "quarantined": self.quarantined,
        }  # fmt: skip
