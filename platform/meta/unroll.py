"""The engine: the gradient of an unrolled inner loop, in memory that grows with the parameters and not with the graph.

The forward pass runs the inner loop and stores its states. The backward pass takes one step at a time, rebuilds that
step's graph and carries the state's cotangent one step back (1502.03492 with exact recompute in place of reversed
dynamics). The graphs of the last steps are stored instead, within a budget of bytes; for states see `trajectory`.

Shapes: theta0 is [P], or [J, P] for a stack of J members; x[T, M, ...]; y[T, M] ids or [T, M, K] rows;
hyper {name: [T]}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raystill.platform import training
from raystill.platform.meta import linearise, optimisers
from raystill.platform.meta.engine import Engine
from raystill.platform.meta.trajectory import Tape, slots

OuterLoss = Callable[[Tensor], tuple[Tensor, Tensor]]
"""theta -> (loss, d loss / d theta); for a stack, (loss[J], [J, P])."""


class Steps(NamedTuple):
    """The synthesised batches of one unroll, in order of use, and the hyper-parameters of each step."""

    x: Tensor
    y: Tensor
    hyper: dict[str, Tensor]

    @property
    def length(self) -> int:
        """T."""
        return self.x.shape[0]

    def map(self, change: Callable[[Tensor], Tensor]) -> Steps:
        """The same steps with each tensor changed."""
        return Steps(change(self.x), change(self.y), {k: change(v) for k, v in self.hyper.items()})


class MetaGradient(NamedTuple):
    """The loss of one unroll, its cotangents with respect to steps and theta0, and theta_T; [J, ...] for a stack."""

    loss: Tensor
    steps: Steps
    theta0: Tensor
    final: Tensor


def _step_hyper(steps: Steps, t: int, theta: Tensor) -> dict[str, Tensor]:
    return {k: v[t].expand(theta.shape[0], 1) if theta.dim() > 1 else v[t] for k, v in steps.hyper.items()}


@torch.no_grad()
def train(engine: Engine, theta0: Tensor, steps: Steps) -> Tensor:
    """theta_T: the inner loop alone."""
    optimiser = engine.optimiser or optimisers.choose(steps.hyper)
    batches = (((steps.x[t], steps.y[t]), _step_hyper(steps, t, theta0)) for t in range(steps.length))
    return training.descend(optimiser.init(theta0), batches, engine.gradient, optimiser.update)[0]


@torch.no_grad()
def unroll(
    engine: Engine,
    theta0: Tensor,
    steps: Steps,
    outer_losses: Sequence[tuple[int, OuterLoss]],
    start: int = 0,
    to_theta0: bool = True,
) -> MetaGradient:
    """Loss of the unrolled inner loop and its cotangents with respect to every step's x, y, rates, and theta0.

    Args:
        engine: from `make_engine`; a stacked one takes theta0[J, P].
        theta0: initial parameters.
        steps: T synthesised batches.
        outer_losses: (number of steps taken, outer loss); the losses add. The unroll ends with the last of them.
        start: first step that is differentiated (truncation); the cotangents before it are zero, and so is theta0's.
        to_theta0: whether to compute theta0's cotangent; without it, it is zero and the first step costs less.

    Returns:
        MetaGradient; `steps.y` is zero where the labels are ids.

    Raises:
        ValueError: the engine's memory does not allow one state.
    """
    optimiser = engine.optimiser or optimisers.choose(steps.hyper)
    stop = max(at for at, _ in outer_losses)
    assert 0 <= start < stop <= steps.length

    # with its graph a gradient may have other last bits (group norm's has): a budget must not change where that begins
    graphs_from = keep_from = stop - engine.graph_steps(theta0, steps.x[0], steps.y[0], stop - start)

    def advance(state: training.State, t: int, g: Tensor | None = None) -> training.State:
        if g is None:
            one_step = (state[0], steps.x[t], steps.y[t])
            g = engine.gradient(*one_step) if t < graphs_from else engine.linearise(*one_step)[0]
        return optimiser.update(state, g, _step_hyper(steps, t, theta0))

    state = optimiser.init(theta0)
    room, used = slots(engine.memory, state, stop - start, engine.trajectory)
    tape = Tape(start, stop, room, advance, engine.trajectory)
    if engine.memory is not None:
        keep_from = stop - engine.graph_steps(theta0, steps.x[0], steps.y[0], stop - start, engine.memory - used)
    graphs: list[tuple[Tensor, linearise.Product]] = []
    loss = theta0.new_zeros(theta0.shape[:-1])
    outer_gradients: dict[int, Tensor] = {}
    for t in range(stop):
        tape.put(t, state)
        if t >= keep_from:
            graphs.append(engine.linearise(state[0], steps.x[t], steps.y[t]))
        state = advance(state, t, graphs[-1][0] if t >= keep_from else None)
        for at, outer_loss in outer_losses:
            if at == t + 1:
                value, gradient = outer_loss(state[0])
                loss = loss + value
                outer_gradients[at] = outer_gradients[at] + gradient if at in outer_gradients else gradient
    final = state[0]

    lead = theta0.shape[:-1]
    d_x = steps.x.new_zeros((*lead, *steps.x.shape))
    d_y = torch.zeros((*lead, *steps.y.shape), device=steps.y.device, dtype=theta0.dtype)
    d_hyper = {k: v.new_zeros((*lead, *v.shape)) for k, v in steps.hyper.items()}
    cotangent = tuple(torch.zeros_like(z) for z in state)
    for t in reversed(range(start, stop)):
        if t + 1 in outer_gradients:
            cotangent = (cotangent[0] + outer_gradients[t + 1], *cotangent[1:])
        state = tape.take(t)
        g, product = graphs.pop() if graphs else engine.linearise(state[0], steps.x[t], steps.y[t])
        cotangent, c, rates = optimiser.vjp(state, g, _step_hyper(steps, t, theta0), cotangent)
        h, gx, gy = product(c, t > start or (start == 0 and to_theta0))
        del product
        if h is not None:
            cotangent = (cotangent[0] + h, *cotangent[1:])
        row = (slice(None),) * len(lead) + (t,)
        d_x[row] = gx
        if gy is not None:
            d_y[row] = gy
        for name, rate in rates.items():
            d_hyper[name][row] = rate.reshape(lead)
    theta_cotangent = cotangent[0] if start == 0 and to_theta0 else torch.zeros_like(theta0)
    return MetaGradient(loss, Steps(d_x, d_y, d_hyper), theta_cotangent, final)


class _Unrolled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, engine: Engine, outer_losses: Any, start: int, names: tuple[str, ...], theta0: Tensor,
                x: Tensor, y: Tensor, *hyper: Tensor) -> Tensor:  # fmt: skip
        meta_gradient = unroll(
            engine, theta0, Steps(x, y, dict(zip(names, hyper))), outer_losses, start, ctx.needs_input_grad[4]
        )
        soft = (meta_gradient.steps.y,) if y.is_floating_point() else ()
        ctx.soft = bool(soft)
        ctx.save_for_backward(meta_gradient.theta0, meta_gradient.steps.x, *meta_gradient.steps.hyper.values(), *soft)
        return meta_gradient.loss

    @staticmethod
    @once_differentiable  # the result is a number to autograd: a second derivative would be wrong, not slow
    def backward(ctx: Any, out: Tensor) -> Any:
        def scaled(z: Tensor) -> Tensor:
            return z * out.reshape(*out.shape, *(1,) * (z.dim() - out.dim()))

        theta0, x, *rest = (scaled(z) for z in ctx.saved_tensors)
        y = rest.pop() if ctx.soft else None
        sum_members = (lambda z: z.sum(0)) if out.dim() else (lambda z: z)
        return (None, None, None, None, theta0, sum_members(x), None if y is None else sum_members(y),
                *map(sum_members, rest))  # fmt: skip


def unrolled_loss(
    engine: Engine, theta0: Tensor, steps: Steps, outer_losses: Sequence[tuple[int, OuterLoss]], start: int = 0
) -> Tensor:
    """`unroll` as a loss that autograd differentiates (once) with respect to theta0, x, y and the hyper-parameters.

    Args:
        engine, theta0, steps, outer_losses, start: as in `unroll`.

    Returns:
        A scalar; for a stack [J].
    """
    loss: Tensor = _Unrolled.apply(
        engine, outer_losses, start, tuple(steps.hyper), theta0, steps.x, steps.y, *steps.hyper.values()
    )
    return loss
