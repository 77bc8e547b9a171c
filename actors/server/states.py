"""What a shard remembers, and how it is laid out as the groups of a checkpoint."""

from __future__ import annotations

from typing import NamedTuple

from raystill.actors.messages import Arrays
from raystill.platform import outer


class Score(NamedTuple):
    """Validation of one snapshot: mean and spread over networks, in percent."""

    step: int
    accuracy: float
    spread: float
    attempt: int = 0


class Anchor(NamedTuple):
    """A state that a rollback can return to, and the earlier meta-parameters that its next steps work on."""

    state: outer.OuterState
    recent: dict[int, Arrays]


def groups_of(state: outer.OuterState, recent: dict[int, Arrays], prefix: str = "") -> dict[str, Arrays]:
    """A state and the meta-parameters before it as groups of a checkpoint."""
    groups = {f"{prefix}meta": state.meta, f"{prefix}average": state.average}
    groups |= {f"{prefix}memory-{name}": arrays for name, arrays in state.memory.items()}
    return groups | {f"{prefix}recent-{step}": meta for step, meta in recent.items() if step != state.step}


def numbered(groups: dict[str, Arrays], prefix: str) -> dict[int, Arrays]:
    """Groups that are called by a prefix and a step, by step."""
    steps = {name: name.removeprefix(prefix) for name in groups if name.startswith(prefix)}
    return {int(step): groups[name] for name, step in steps.items()}


def read_state(groups: dict[str, Arrays], step: int, norm: float, prefix: str = "") -> Anchor:
    """Read a state from a checkpoint's groups, the inverse of `groups_of`.

    Args:
        groups: arrays by group and name.
        step: outer steps that were applied.
        norm: the usual norm of a chunk's gradient, which a checkpoint keeps among its facts.
        prefix: of the groups' names.

    Returns:
        The state, and the meta-parameters of recent steps.
    """
    start = f"{prefix}memory-"
    memory = {name.removeprefix(start): arrays for name, arrays in groups.items() if name.startswith(start)}
    state = outer.OuterState(step, groups[f"{prefix}meta"], memory, groups[f"{prefix}average"], norm)
    return Anchor(state, {**numbered(groups, f"{prefix}recent-"), step: state.meta})
