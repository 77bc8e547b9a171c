"""Metrics of a run for Ray's exporter (Prometheus): seconds of steps, members and checkpoints; retries; bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raystill.platform.spec import OuterSpec

_BOUNDS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]


class Metrics:
    """The metrics of a driver's process; where Ray does not run (`on` is false), nothing is exported."""

    def __init__(self, on: bool) -> None:
        self._on = on
        self._bytes = 0.0
        self._before: dict[tuple[str, str], float] = {}
        if not on:
            return
        from ray.util.metrics import Counter, Gauge, Histogram

        self._of: dict[str, Any] = {
            "step_seconds": Histogram("raystill_step_seconds", "wall time of an outer step", _BOUNDS),
            "member_seconds": Histogram("raystill_member_seconds", "compute time of a member", _BOUNDS),
            "checkpoint_seconds": Histogram("raystill_checkpoint_seconds", "time to write a checkpoint", _BOUNDS),
            "in_flight": Gauge("raystill_in_flight", "work items taken on and not committed"),
            "evaluators": Gauge("raystill_evaluators", "evaluators of the run"),
            "staleness": Gauge("raystill_staleness", "mean updates that gradients were late by"),
            "meta_bytes": Gauge("raystill_meta_bytes", "bytes of the meta-parameters"),
            "retries": Counter("raystill_retries", "items computed again", ("reason",)),
            "copies": Counter("raystill_copies", "copies of late items started"),
            "bytes_moved": Counter("raystill_bytes_moved", "bytes of meta-parameters and gradients sent"),
        }

    def step(self, figures: Mapping[str, float], seconds: float, outer: OuterSpec) -> None:
        """Export an applied outer step.

        Args:
            figures: `staleness` and `bytes` of the step, where it has them.
            seconds: wall time.
        """
        self.observe("step_seconds", seconds)
        self.observe("member_seconds", seconds / outer.members)
        self.observe("staleness", figures.get("staleness", float(outer.delay)))
        self.observe("meta_bytes", figures.get("bytes", 0.0))
        # each chunk gets the meta-parameters, and returns a gradient of their size
        self._bytes += 2 * figures.get("bytes", 0.0) * outer.members / outer.chunk
        self.total("bytes_moved", self._bytes)

    def observe(self, name: str, value: float) -> None:
        """Add a value to a histogram, or set a gauge."""
        if self._on:
            metric = self._of[name]
            (metric.observe if hasattr(metric, "observe") else metric.set)(value)

    def total(self, name: str, value: float, reason: str = "") -> None:
        """Set a counter's total."""
        growth = value - self._before.get((name, reason), 0.0)
        if self._on and growth > 0:
            self._before[name, reason] = value
            self._of[name].inc(growth, {"reason": reason} if reason else None)
