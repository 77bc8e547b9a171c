"""Objectives that tell a sample from others; `Out.logits` are embeddings (B, D), and they need no labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from raystill.platform.objectives.step import Facts, Number, Step, Tensors, Term, both_logits, count, need_views, number
from raystill.platform.seeds import Address, torch_rng

_NEGATIVES = "the other samples of a batch are a sample's negatives"


def nt_xent(temperature: Number = 0.5) -> Term:
    """NT-Xent of two views, cosine similarity over t, the mean of both directions (SimCLR, 2002.05709, eq. 1).

    Args:
        temperature: t > 0.

    Raises:
        ValueError: t <= 0; at a step: not one further view.
    """
    t = number("nt_xent.temperature", temperature, 0.0, above=True)

    def loss(step: Step) -> Tensor:
        z = F.normalize(torch.cat([step.student.logits, *need_views(step, 1, "nt_xent")]), dim=1)
        similar = z @ z.mT / t
        positive = similar.diagonal(len(z) // 2)
        others = similar.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
        first, second = others.logsumexp(1).chunk(2)
        return (first + second) / 2 - positive

    return Term(loss, Facts(couples=_NEGATIVES, views=1))


def info_nce(temperature: Number = 0.07, queue: int = 4096, width: int = 128) -> Term:
    """-log e^(q.k / t) / (e^(q.k / t) + sum_n e^(q.n / t)) over a queue of earlier keys n (MoCo, 1911.05722, eq. 1).

    q is the student's and k the teacher's embedding of two views, both of length one; no gradient goes to the keys.
    The queue starts with random directions, as MoCo's does; `advance` puts the batch's keys behind it and drops as
    many from its front.

    Args:
        temperature: t > 0.
        queue: N, its length, at least 1.
        width: D.

    Raises:
        ValueError: a setting out of its range; at a step: no teacher, no queue, or one of another width.
    """
    t = number("info_nce.temperature", temperature, 0.0, above=True)
    count("info_nce.queue", queue)
    count("info_nce.width", width)

    def start(address: Address) -> Tensors:
        return {"queue": F.normalize(torch.randn(queue, width, generator=torch_rng(address)), dim=1)}

    def keys(step: Step) -> tuple[Tensor, Tensor, Tensor]:
        q, k = (F.normalize(z, dim=1) for z in both_logits(step, "info_nce"))
        if "queue" not in step.state:
            raise ValueError(
                "objective.info_nce: needs its queue in the step's state, as `start` and `advance` give it"
            )
        n = step.state["queue"]
        if n.shape[-1] != q.shape[-1]:
            raise ValueError(
                f"objective.info_nce.width: {n.shape[-1]}, and the student's embeddings have {q.shape[-1]}"
            )
        return q, k.detach(), n.to(q.dtype)

    def loss(step: Step) -> Tensor:
        q, k, n = keys(step)
        positive = (q * k).sum(1, keepdim=True) / t
        return torch.cat([positive, q @ n.mT / t], 1).logsumexp(1) - positive[:, 0]

    def advance(step: Step) -> Tensors:
        _, k, n = keys(step)
        return {"queue": torch.cat([n, k])[-len(n) :]}

    facts = Facts(carries="a queue of earlier keys", teacher=True)
    return Term(loss, facts, start=start, advance=advance)


def cpc() -> Term:
    """-log e^(c_i.z_i) / sum_j e^(c_i.z_j) over the batch (Contrastive predictive coding, 1807.03748, eq. 4).

    c = W_k c_t is the student's prediction, and z the encoding that it predicts, the one further view.

    Raises:
        ValueError: at a step: not one further view.
    """

    def loss(step: Step) -> Tensor:
        scores = step.student.logits @ need_views(step, 1, "cpc")[0].mT
        return scores.logsumexp(1) - scores.diagonal()

    return Term(loss, Facts(couples=_NEGATIVES, views=1))
