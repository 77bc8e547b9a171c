"""Charts put points where arithmetic says and ticks on round numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from raystill.platform.report import curves
from raystill.platform.report.curves import Line, chart, smoothed, thinned, ticks


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 100, False, [0, 20, 40, 60, 80, 100]),
        (-0.3, 2.6, False, [0, 1, 2]),
        (0, 0.037, False, [0, 0.01, 0.02, 0.03]),
        (1, 3, True, [1, 2, 3]),
        (0, 399, True, [0, 100, 200, 300]),
    ],
)
def test_ticks(low: float, high: float, whole: bool, expected: list[float]) -> None:
    np.testing.assert_allclose(ticks(low, high, whole=whole), expected, atol=1e-12)


def test_smoothed_is_the_mean_of_the_neighbours() -> None:
    y = np.arange(100.0) ** 2
    expected = [y[max(0, i - 2) : i + 3].mean() for i in range(100)]
    np.testing.assert_allclose(smoothed(y, 0.05), expected)


def test_thinned_keeps_the_mean() -> None:
    x, y = thinned(np.arange(1200.0), np.arange(1200.0) % 7, 600)
    assert len(x) == len(y) == 600
    np.testing.assert_allclose(x[:2], [0.5, 2.5])
    assert y.mean() == pytest.approx((np.arange(1200) % 7).mean())


def test_a_line_goes_from_corner_to_corner() -> None:
    svg = chart([Line(np.array([0.0, 10.0]), np.array([0.0, 1.0]))], "t", "x", "w")
    points = re.search(r'class="line main" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', svg)
    assert points
    x0, y0, x1, y1 = (float(value) for value in points.groups())
    assert (x0, y0) == (curves.LEFT, curves.HEIGHT - curves.BOTTOM)
    assert x1 == curves.WIDTH - curves.RIGHT
    assert y1 == pytest.approx(curves.TOP + 0.04 / 1.04 * (curves.HEIGHT - curves.TOP - curves.BOTTOM), abs=0.06)


@pytest.mark.parametrize("y", [[0.0], [5.0], [0.0, 0.0], [-1.0, -1.0], [1e30, 1.0]])
def test_flat_and_single_points(y: list[float]) -> None:
    svg = chart([Line(np.arange(1.0, 1 + len(y)), np.array(y))], "t", "x", "w")
    assert "nan" not in svg
    assert "inf" not in svg


def test_titles_are_escaped() -> None:
    assert "<b>" not in chart([Line(np.array([0.0, 1]), np.array([0.0, 1]))], "<b>", "<b>", '"<b>')
