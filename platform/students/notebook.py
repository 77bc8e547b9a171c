"""A student's result in a notebook: one line, and HTML for a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from raystill.platform.artifacts.notebook import card, curve

MOST_TERMS = 12  # terms of an objective in the table


def summary(student: nn.Module, history: Sequence[Mapping[str, float]], seconds: float) -> str:
    """One line: the network, its updates and its last loss."""
    size = sum(p.numel() for p in student.parameters())
    loss = f"{history[-1]['step']:,.0f} steps, loss {history[-1]['loss']:.4g}" if history else "not trained"
    return f"Result({type(student).__name__} of {size:,} parameters: {loss}, {seconds:.1f} s)"


def html(student: nn.Module, history: Sequence[Mapping[str, float]], cached: bool, seconds: float) -> str:
    """A table of facts and the loss curve.

    Args:
        student: the trained network.
        history: rows of step, loss and each term's mean.
        cached: whether the teacher's logits were computed once.
        seconds: of training.
    """
    facts = [("parameters", f"{sum(p.numel() for p in student.parameters()):,}"), ("seconds", f"{seconds:.1f}")]
    pictures = []
    if history:
        first, last = history[0], history[-1]
        terms = [name for name in last if name not in ("step", "time_ms")][:MOST_TERMS]
        facts.append(("steps", f"{last['step']:,.0f}"))
        facts += [(name, f"{first.get(name, np.nan):.4g} at first, {last[name]:.4g} at the end") for name in terms]
        losses = np.array([row["loss"] for row in history], float)
        pictures.append(curve(losses, f"loss, step {first['step']:,.0f} to {last['step']:,.0f}"))
    if cached:
        facts.append(("teacher", "its logits were computed once"))
    return card(f"A trained {type(student).__name__}", facts, *pictures)
