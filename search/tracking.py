"""A search in MLflow: one parent run, a child for each generation, a few calls each; resumed with the same ids."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from raystill.actors.drive.session import Session
from raystill.platform.tracking import Tracker
from raystill.platform.tracking.store import PARENT, children
from raystill.search.nas.spec import NasSpec
from raystill.search.ranking.rankers import RANKERS

NOTED = "tracking.json"
NUMBER = "raystill.generation"


class Children:
    """The parent's tracker, and children that are written in one go when a generation is scored."""

    def __init__(self, session: Session, spec: NasSpec) -> None:
        self._spec, self._name, self._home = spec.tracking, session.folder.name, session.home
        noted: str | None = None
        with suppress(OSError, ValueError, KeyError):
            noted = str(json.loads(self._home.read(NOTED, 10_000))["run_id"])
        params: dict[str, Any] = spec.model_dump(mode="json")
        self.parent = Tracker.start(spec.tracking, self._name, params, {"raystill.search": self._name}, noted)
        if self.parent.run_id and self.parent.run_id != noted:
            self._home.write(NOTED, json.dumps({"run_id": self.parent.run_id}).encode())
        self._known: dict[str, tuple[str, bool]] = {}
        if noted and self.parent.run_id:
            with suppress(ValueError):
                self._known = children(self._spec, noted, NUMBER)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Metrics of the parent."""
        self.parent.log(step, values, int(time.time() * 1000))
        self.parent.flush()

    def generation(self, number: int, rows: Sequence[Mapping[str, Any]], best: float) -> None:
        """A child with what was said of each architecture, its index the step; the best so far goes to the parent.

        One that was written before a kill is left as it is, and one that a kill cut short is completed.
        """
        known, ended = self._known.get(str(number), (None, False))
        if ended:
            return
        self.log(number, {"best_score": best, "generation_best": max(row["score"] for row in rows)})
        if self.parent.run_id is None:
            return
        tags = {PARENT: self.parent.run_id, "raystill.search": self._name, NUMBER: str(number)}
        name = f"{self._name} generation {number}"
        with suppress(ValueError):  # a store that is away costs a child, not the search
            child = Tracker.start(self._spec, name, {"generation": number}, tags, known)
            now = int(time.time() * 1000)
            for row in rows:
                said = {name: row[name] for name in ("score", *RANKERS) if row[name] is not None}
                child.log(row["index"], said, now)
            child.finish()

    def finish(self, status: str) -> None:
        """Ends the parent."""
        self.parent.finish(status)
