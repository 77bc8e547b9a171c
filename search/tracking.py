"""A search in MLflow: one parent run, and a child for each generation, setting or trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from raystill.platform.spec import TrackingSpec
from raystill.platform.tracking import Tracker
from raystill.platform.tracking.store import PARENT, children

SEARCH = "raystill.search"
"""Tag that names the search."""
Point = tuple[int, Mapping[str, float], int]
"""(step, metrics, time_ms)."""


class Children:
    """Writes each child of a search's MLflow run when the child has ended; without a parent it writes nothing.

    Attributes:
        trouble: why the store lacks the last child or some of it, else empty; a store that is away costs a child and
            not the search.
    """

    def __init__(self, spec: TrackingSpec, parent: str | None, name: str, tag: str) -> None:
        """Children of a search.

        Args:
            parent: MLflow's id of it.
            name: of the search.
            tag: of each child, whose value tells it from the others.
        """
        self._spec, self._parent, self._name, self._tag = spec, parent, name, tag
        self._known: dict[str, tuple[str, bool]] | None = None
        self.trouble = ""

    def write(
        self, key: str, params: Mapping[str, Any], points: Iterable[Point], status: str = "FINISHED",
        again: bool = False,
    ) -> None:  # fmt: skip
        """Write a child, or complete one that a kill cut short.

        Args:
            key: value of its tag.
            points: its metrics; those that the store has are not written again.
            again: complete one that ended, too.
        """
        if self._parent is None:
            return
        try:
            if self._known is None:
                self._known = children(self._spec, self._parent, self._tag)
            known, ended = self._known.get(key, (None, False))
            if ended and not again:
                return
            tags = {PARENT: self._parent, SEARCH: self._name, self._tag: key}
            child = Tracker.start(self._spec, f"{self._name} {key}", params, tags, known)
        except ValueError as error:
            self.trouble = str(error)
            return
        child.catch_up(points)
        self.trouble = "" if child.finish(status) else child.trouble
