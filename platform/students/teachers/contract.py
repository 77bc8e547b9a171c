"""Teachers: functions of inputs and labels that answer as a network does.

A teacher never decides about gradients: the loop does, since the Wasserstein ball's go through it. What makes its
answers to one sample differ from step to step it declares (`changes`), and a loop then keeps none of them.
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
        answer: x (B, ...), y ids (B,) or rows (B, K), and the address that its random numbers come from -> Out.
        changes: why its answers to one sample differ from step to step; empty where they do not.
        module: its networks, None where it has none; moved to the student's device.
        update: (student, updates made so far) -> nothing; after each step of the student, for moving averages.
    """

    answer: Callable[[Tensor, Tensor, Address], Out]
    changes: str = ""
    module: nn.Module | None = None
    update: Callable[[nn.Module, int], None] | None = None

    def __call__(self, x: Tensor, y: Tensor, address: Address) -> Out:
        """The teacher's answers."""
        return self.answer(x, y, address)


def mean_answer(outs: Sequence[Out], of: Mean) -> Out:
    """The mean of several answers (B, K): of their logits, or of their probabilities as logarithms."""
    if of == "logits":
        return Out(torch.stack([out.logits for out in outs]).mean(0))
    logs = torch.stack([F.log_softmax(out.logits, 1) for out in outs])
    return Out(logs.logsumexp(0) - torch.tensor(float(len(outs)), device=logs.device).log())
