"""Counts, durations and values as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_WORDS = 24  # shown of a list


def plural(count: int, thing: str) -> str:
    """`1 image`, `1,000 images`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """`90 s`, `2.5 min`, `2.1 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def value(item: Any) -> str:
    """A JSON-able value in one line; long lists are cut."""
    if isinstance(item, Mapping):
        return ", ".join(f"{key} {value(inner)}" for key, inner in item.items() if inner is not None)
    if isinstance(item, (list, tuple)):
        words = [value(inner) for inner in item]
        return ", ".join(words if len(words) <= MOST_WORDS else [*words[:20], f"… {len(words) - 20} more"])
    return f"{item:.6g}" if isinstance(item, float) else str(item)
