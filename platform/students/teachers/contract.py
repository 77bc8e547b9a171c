"""The contract of a teacher: a function of inputs and labels with the output of a network.

The loop, not the teacher, switches gradients off, since the Wasserstein ball differentiates through the teacher. A
teacher whose answers to a sample differ from step to step declares it (`changes`), and the loop does not cache them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raystill.platform.objectives import Out
from raystill.platform.seeds import Address

Mean = Literal["logits", "probabilities"]


@dataclass(frozen=True, eq=False)
class Teacher:
    """Call it with (x, y, address) for an `Out`.

    Attributes:
        answer: (x (B, ...), y ids (B,) or rows (B, K), address of its random numbers) -> Out.
        changes: why its answers to a sample differ from step to step, or "".
        module: its networks, or None; moved to the student's device.
        update: (student, number of updates) -> None; called after each step of the student, for moving averages.
    """

    answer: Callable[[Tensor, Tensor, Address], Out]
    changes: str = ""
    module: nn.Module | None = None
    update: Callable[[nn.Module, int], None] | None = None

    def __call__(self, x: Tensor, y: Tensor, address: Address) -> Out:
        """The teacher's answers."""
        return self.answer(x, y, address)


def mean_answer(outs: Sequence[Out], of: Mean) -> Out:
    """The mean of several answers' logits (B, K), or the logarithm of their mean probabilities."""
    if of == "logits":
        return Out(torch.stack([out.logits for out in outs]).mean(0))
    logs = torch.stack([F.log_softmax(out.logits, 1) for out in outs])
    return Out(logs.logsumexp(0) - torch.tensor(float(len(outs)), device=logs.device).log())
