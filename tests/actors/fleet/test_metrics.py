"""What Ray's metrics are given."""

from __future__ import annotations

from typing import Any

import pytest

from raystill.actors.fleet.metrics import Metrics
from raystill.platform.spec import OuterSpec


class Recorded:
    """Stands for Ray's Counter, Gauge and Histogram."""

    made: dict[str, Recorded] = {}  # noqa: RUF012

    def __init__(self, name: str, *_: Any, **__: Any) -> None:
        self.values: list[Any] = []
        self.made[name] = self

    def inc(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values.append((value, tags))


class Observed(Recorded):
    def observe(self, value: float) -> None:
        self.values.append(value)


class Set(Recorded):
    def set(self, value: float) -> None:
        self.values.append(value)


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    import ray.util.metrics

    Recorded.made = {}
    for name, kind in (("Counter", Recorded), ("Gauge", Set), ("Histogram", Observed)):
        monkeypatch.setattr(ray.util.metrics, name, kind)
    return Metrics(True)


def values(name: str) -> list[Any]:
    return Recorded.made[f"raystill_{name}"].values


def test_a_step_is_measured(metrics: Metrics) -> None:
    metrics.step({"bytes": 1000.0}, 2.0, OuterSpec(members=4, chunk=2, delay=1))
    metrics.step({"bytes": 1000.0, "staleness": 0.5}, 1.0, OuterSpec(members=4, chunk=2))
    assert values("step_seconds") == [2.0, 1.0]
    assert values("member_seconds") == [0.5, 0.25]
    assert values("staleness") == [1.0, 0.5]
    assert values("bytes_moved") == [(4000.0, None), (4000.0, None)], "two chunks, there and back"


def test_totals_are_counted_once_by_reason(metrics: Metrics) -> None:
    for total in (2, 2, 5):
        metrics.total("retries", total, "lost")
    metrics.total("retries", 1, "failed")
    assert values("retries") == [(2, {"reason": "lost"}), (3, {"reason": "lost"}), (1, {"reason": "failed"})]


def test_without_ray_nothing_is_measured() -> None:
    off = Metrics(False)
    off.step({}, 1.0, OuterSpec())
    off.observe("in_flight", 1.0)
    off.total("copies", 1.0)
    assert not hasattr(off, "_of"), "no metric was made, so Ray was not asked for one"
