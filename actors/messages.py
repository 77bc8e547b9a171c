"""What travels between processes: frozen dataclasses of numpy arrays, numbers, strings and typed options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raystill.platform.seeds import Address

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A piece of work that any process can do, again, anywhere: what, under which address, on which inputs.

    Attributes:
        kind: a key of `raystill.platform.work.kinds.KINDS`.
        address: names every random number that the work draws.
        version: outer step of the meta-parameters that it works on.
        inputs: name of the input arrays; tells items apart that differ in nothing else.
        options: the kind's own frozen dataclass (`Kind.options`).
    """

    kind: str
    address: Address
    version: int
    inputs: str
    options: Any = None

    def __str__(self) -> str:
        return f"{self.kind} [{self.address}]"

    def reproducer(self, folder: str) -> str:
        """The command that does this item alone, in one process."""
        at = self.address
        return (
            f"raystill replay {folder} --kind {self.kind} --attempt {at.attempt} --step {at.step} --member {at.member}"
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try at an item, small enough to travel by value; the arrays stay where they are.

    Attributes:
        status: `ok`, `not finite`, `failed` (an exception of the work's own), `lost` (its process is gone) or
            `returned` (it waited in that process behind another item).
        evaluator: who tried; -1 for this process.
        seconds, cpu_seconds: wall and processor time of the work alone.
    """

    item: WorkItem
    status: str
    evaluator: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    numbers: dict[str, float] = field(default_factory=dict)
    error: str = ""
