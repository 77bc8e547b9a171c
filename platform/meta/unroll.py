"""The engine: the gradient of an unrolled inner loop, in memory that grows with the parameters and not with the graph.

Forward runs the inner loop and keeps the trajectory of states. The reverse sweep takes one step at a time, rebuilds
that step's graph and moves the cotangent of the state one step back (1502.03492 with exact recompute in place of
reversed dynamics). The graphs of the last steps are kept instead of rebuilt as far as a fixed budget of bytes goes.

Shapes: theta0 is [P], or [J, P] for a stack of J members; x[T, M, ...]; y[T, M] ids or [T, M, K] rows;
hyper {name: [T]}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import saved_tensors_hooks

from raystill.platform.meta import linearise, optimisers

Judge = Callable[[Tensor], tuple[Tensor, Tensor]]
"""theta -> (loss, d loss / d theta); for a stack, (loss[J], [J, P])."""

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]

GRAPH_BYTES = 64 << 20
"""Step graphs that the product's looped sweep keeps rather than rebuilds; bounded, whatever the unroll's length."""


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


class Sweep(NamedTuple):
    """What one unroll says: its loss, and the loss's cotangents; each with a leading [J] for a stack."""

    loss: Tensor
    steps: Steps
    theta0: Tensor
    final: Tensor


@dataclass(frozen=True)
class Engine:
    """The inner problem's gradient and its linearisation; see `linearise`.

    Attributes:
        keep: bytes that the graphs of the last steps may take.
    """

    gradient: linearise.Gradient
    linearise: linearise.Linearise
    keep: int = 0
    _bytes: dict[tuple[int, ...], int] = field(default_factory=dict, compare=False)

    def kept(self, theta: Tensor, x: Tensor, y: Tensor, steps: int) -> int:
        """How many of the last steps keep their graphs; depends on shapes and the budget alone."""
        if not self.keep or theta.dim() > 1:
            return 0
        key = (*x.shape, x.element_size())
        if key not in self._bytes:
            self._bytes[key] = _graph_bytes(self.linearise, theta, x, y)
        return min(steps, self.keep // max(self._bytes[key], 1))


def _graph_bytes(linear: linearise.Linearise, theta: Tensor, x: Tensor, y: Tensor) -> int:
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    held: list[Any] = []
    with saved_tensors_hooks(note, lambda tensor: tensor):
        held.append(linear(theta, x, y))
    return sum(seen.values())


def make_engine(
    loss: linearise.Loss, sweep: str = "reverse", stack: str = "loop", keep: int = 0, wrap: Wrap | None = None
) -> Engine:
    """An engine for an inner loss (theta[P], x[M, ...], y) -> scalar.

    Args:
        sweep: `reverse` or `forward`; one result, different costs.
        stack: `loop` (one member at a time) or `vmap` (theta0 is [J, P]).
        keep: bytes of step graphs kept rather than rebuilt (reverse, loop).
        wrap: changes the two pure one-step functions, as `torch.compile` does; no graphs are kept then.
    """
    if stack == "loop" and sweep == "reverse" and wrap is None:
        return Engine(linearise.gradient(loss), linearise.reverse(loss), keep)
    gradient, product = linearise.stepwise(loss, sweep)
    if stack == "vmap":
        gradient = torch.func.vmap(gradient, in_dims=(0, None, None))
        product = torch.func.vmap(product, in_dims=(0, 0, None, None))
    if wrap is not None:
        gradient, product = wrap(gradient), wrap(product)
    elif stack == "loop":
        gradient = linearise.gradient(loss)  # the same without functorch's overhead
    return Engine(gradient, linearise.rebuilt(gradient, product))


def _step_hyper(steps: Steps, t: int, theta: Tensor) -> dict[str, Tensor]:
    return {k: v[t].expand(theta.shape[0], 1) if theta.dim() > 1 else v[t] for k, v in steps.hyper.items()}


@torch.no_grad()
def train(engine: Engine, theta0: Tensor, steps: Steps) -> Tensor:
    """theta_T: the inner loop alone."""
    optimiser = optimisers.choose(steps.hyper)
    state = optimiser.begin(theta0)
    for t in range(steps.length):
        state = optimiser.update(
            state, engine.gradient(state[0], steps.x[t], steps.y[t]), _step_hyper(steps, t, theta0)
        )
    return state[0]


@torch.no_grad()
def unroll(
    engine: Engine,
    theta0: Tensor,
    steps: Steps,
    judges: Sequence[tuple[int, Judge]],
    start: int = 0,
    to_theta0: bool = True,
) -> Sweep:
    """Loss of the unrolled inner loop and its cotangents with respect to every step's x, y, rates, and theta0.

    Args:
        engine: from `make_engine`; a stacked one takes theta0[J, P].
        theta0: initial parameters.
        steps: T synthesised batches.
        judges: (number of steps taken, judge); the losses add. The unroll ends with the last of them.
        start: first step that is differentiated (truncation); the cotangents before it are zero, and so is theta0's.
        to_theta0: whether theta0's cotangent is asked for; it is zero where it is not, and the first step costs less.

    Returns:
        Sweep; `steps.y` is zero where the labels are ids.
    """
    optimiser = optimisers.choose(steps.hyper)
    stop = max(at for at, _ in judges)
    assert 0 <= start < stop <= steps.length
    keep_from = stop - engine.kept(theta0, steps.x[0], steps.y[0], stop - start)

    state = optimiser.begin(theta0)
    tape: list[tuple[optimisers.State, tuple[Tensor, linearise.Product] | None]] = []
    loss = theta0.new_zeros(theta0.shape[:-1])
    pushes: dict[int, Tensor] = {}
    for t in range(stop):
        x, y = steps.x[t], steps.y[t]
        kept = engine.linearise(state[0], x, y) if t >= max(start, keep_from) else None
        g = kept[0] if kept else engine.gradient(state[0], x, y)
        if t >= start:
            tape.append((state, kept))
        state = optimiser.update(state, g, _step_hyper(steps, t, theta0))
        for at, judge in judges:
            if at == t + 1:
                value, push = judge(state[0])
                loss = loss + value
                pushes[at] = pushes[at] + push if at in pushes else push
    final = state[0]

    lead = theta0.shape[:-1]
    d_x = steps.x.new_zeros((*lead, *steps.x.shape))
    d_y = torch.zeros((*lead, *steps.y.shape), device=steps.y.device, dtype=theta0.dtype)
    d_hyper = {k: v.new_zeros((*lead, *v.shape)) for k, v in steps.hyper.items()}
    cotangent = tuple(torch.zeros_like(z) for z in state)
    kept = None
    for t in reversed(range(start, stop)):
        if t + 1 in pushes:
            cotangent = (cotangent[0] + pushes[t + 1], *cotangent[1:])
        state, kept = tape.pop()
        g, product = kept or engine.linearise(state[0], steps.x[t], steps.y[t])
        cotangent, c, rates = optimiser.pull(state, g, _step_hyper(steps, t, theta0), cotangent)
        h, gx, gy = product(c, t > start or (start == 0 and to_theta0))
        del kept, product
        if h is not None:
            cotangent = (cotangent[0] + h, *cotangent[1:])
        row = (slice(None),) * len(lead) + (t,)
        d_x[row] = gx
        if gy is not None:
            d_y[row] = gy
        for name, rate in rates.items():
            d_hyper[name][row] = rate.reshape(lead)
    theta_cotangent = cotangent[0] if start == 0 and to_theta0 else torch.zeros_like(theta0)
    return Sweep(loss, Steps(d_x, d_y, d_hyper), theta_cotangent, final)


class _Unrolled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, engine: Engine, judges: Any, start: int, names: tuple[str, ...], theta0: Tensor, x: Tensor,
                y: Tensor, *hyper: Tensor) -> Tensor:  # fmt: skip
        sweep = unroll(engine, theta0, Steps(x, y, dict(zip(names, hyper))), judges, start, ctx.needs_input_grad[4])
        soft = (sweep.steps.y,) if y.is_floating_point() else ()
        ctx.soft = bool(soft)
        ctx.save_for_backward(sweep.theta0, sweep.steps.x, *sweep.steps.hyper.values(), *soft)
        return sweep.loss

    @staticmethod
    @once_differentiable  # what was swept is a number to autograd: a second derivative would be wrong, not slow
    def backward(ctx: Any, out: Tensor) -> Any:
        def scaled(z: Tensor) -> Tensor:
            z = z * out.reshape(*out.shape, *(1,) * (z.dim() - out.dim()))
            return z

        theta0, x, *rest = (scaled(z) for z in ctx.saved_tensors)
        y = rest.pop() if ctx.soft else None
        sum_members = (lambda z: z.sum(0)) if out.dim() else (lambda z: z)
        return (None, None, None, None, theta0, sum_members(x), None if y is None else sum_members(y),
                *map(sum_members, rest))  # fmt: skip


def unrolled_loss(
    engine: Engine, theta0: Tensor, steps: Steps, judges: Sequence[tuple[int, Judge]], start: int = 0
) -> Tensor:
    """`unroll` as a loss that autograd differentiates (once) with respect to theta0, x, y and the hyper-parameters.

    For a stack theta0[J, P] the loss is [J].
    """
    loss: Tensor = _Unrolled.apply(
        engine, judges, start, tuple(steps.hyper), theta0, steps.x, steps.y, *steps.hyper.values()
    )
    return loss
