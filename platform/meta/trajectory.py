"""The states that an unroll stores in its forward pass: all of them, or as many as a budget of bytes allows.

Where the budget allows fewer states than there are steps, the others are computed again from the nearest one before
them. Checkpoints lie where Griewank and Walther's binomial schedule ("revolve", 2000) puts them: no schedule in as many
slots computes fewer steps. With s slots up to C(s + r, s) steps are computed at most r times each, the first included:
T = 1000 takes 44 slots for r = 2, where the square-root schedule takes 2 sqrt(T) = 64.

A step that is computed again is computed from the same numbers by the same function, so the bits do not change.
Storing states in bfloat16 does change them: each is stored as its rounded difference from the sum of those before, so
that rounding errors do not add up. The differences are small, and so are their errors.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import torch

from raystill.platform.training import State

Advance = Callable[[State, int], State]
"""(state before step t, t) -> state after it."""


def state_bytes(state: State, dtype: torch.dtype | None = None) -> int:
    """Bytes of one state, as it is or rounded to a type."""
    return sum(z.numel() * (z.element_size() if dtype is None else dtype.itemsize) for z in state)


def slots(memory: int | None, state: State, steps: int, dtype: torch.dtype | None = None) -> tuple[int, int]:
    """How many states a budget of bytes allows.

    Args:
        memory: the budget; None allows a state for each step.
        state: a state of the unroll's shapes.
        steps: the most states that are needed.
        dtype: type in which all states but the first are stored; None: their own.

    Returns:
        The number of states, at most `steps`, and the bytes that they take.

    Raises:
        ValueError: the budget does not allow one state.
    """
    whole, size = state_bytes(state), state_bytes(state, dtype)
    if memory is not None and memory < whole:
        raise ValueError(
            f"meta.memory: {memory:,} bytes are too small for one step, which takes {whole:,}: the parameters, "
            "twice with momentum, of each member that is computed at once"
        )
    room = steps if memory is None else min(steps, 1 + (memory - whole) // size)
    return room, whole + (room - 1) * size


def repetitions(steps: int, slots: int) -> int:
    """The least r with C(slots + r, slots) >= steps: how often any step is computed at most."""
    r = 0
    while comb(slots + r, slots) < steps:
        r += 1
    return r


def split(steps: int, slots: int) -> int:
    """Steps from a segment's first checkpoint to its second, where `slots` hold its checkpoints, both counted.

    The left part, which is reversed last and in all the slots, must be within what r - 1 repetitions reach, and the
    right one not below what they reach in a slot less; any such cut is optimal, and the longest is taken.
    """
    r = repetitions(steps, slots)
    return max(1, min(comb(slots + r - 1, slots), steps - comb(slots + r - 2, slots - 1)))


def checkpoints(first: int, last: int, slots: int) -> list[int]:
    """The steps before which a state is stored, from `first`, which is one of them, to `last`."""
    marks = [first]
    while slots > 1 and first < last:
        steps = last - first + 1
        first += 1 if steps <= slots else split(steps, slots)
        slots -= 1
        marks.append(first)
    return marks


class Tape:
    """The states before steps start..stop-1: put in order, taken in reverse, at most `slots` stored at a time."""

    def __init__(self, start: int, stop: int, slots: int, advance: Advance, dtype: torch.dtype | None = None) -> None:
        """Start with no state.

        Args:
            slots: largest number of stored states; the others are computed again.
            advance: one step of the inner loop.
            dtype: type that the differences between stored states are rounded to; None stores the states themselves.
        """
        self._advance, self._slots, self._dtype = advance, slots, dtype
        self._marks = set(checkpoints(start, stop - 1, slots))
        self._states: list[tuple[int, State]] = []
        self._top: State = ()
        self._rows: State = ()

    def put(self, t: int, state: State) -> None:
        """The state before step t, if the schedule has a checkpoint there."""
        if t in self._marks:
            self._keep(t, state)

    def take(self, t: int) -> State:
        """The state before step t, which is then dropped; t falls by one from call to call."""
        at, checkpoint = self._states[-1]
        state = self._top if self._dtype else checkpoint
        if at == t:
            self._states.pop()
            if self._dtype and self._states:
                self._top = tuple(z - rows[len(self._states) - 1] for z, rows in zip(state, self._rows))
            return state
        marks = checkpoints(at, t, self._slots - len(self._states) + 1)
        del checkpoint
        for i in range(at, t):
            state = self._advance(state, i)
            if i + 1 in marks and i + 1 < t:
                self._keep(i + 1, state)
        return state

    def _keep(self, t: int, state: State) -> None:
        if self._dtype:
            self._round(state)
        self._states.append((t, () if self._dtype else state))

    def _round(self, state: State) -> None:
        if not self._states:
            self._top = tuple(z.clone() for z in state)
            # one block: pieces of half a state's size, freed one by one, would leave the heap full of holes
            self._rows = tuple(z.new_empty((self._slots - 1, *z.shape), dtype=self._dtype) for z in state)
            return
        for z, top, rows in zip(state, self._top, self._rows):
            row = rows[len(self._states) - 1]
            row.copy_(z - top)  # the difference from the sum of the others, so that rounding errors do not add up
            top.add_(row)
