"""Cells against torch's own layers, and the meta-gradient through them against finite differences, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raystill.platform import learners, objectives, seeds
from raystill.platform.learners.sequences import Recurrent, bilstm, birnn, textcnn
from raystill.platform.meta import Steps, make_engine, outer_loss, unroll
from raystill.platform.objectives import Out, Step

LENGTH, WIDTH, HIDDEN = 7, 3, 4


def drawn(*shape: int, stream: str) -> Tensor:
    return torch.randn(*shape, generator=seeds.torch_rng(seeds.Address(5, stream=stream)), dtype=torch.float64)


def twin(ours: Recurrent, kind: type[nn.RNNBase]) -> nn.RNNBase:
    """torch's layer with the same weights; its second bias is zero."""
    theirs = kind(WIDTH, HIDDEN, bidirectional=True).double()
    with torch.no_grad():
        for end in ("", "_reverse"):
            getattr(theirs, f"weight_ih_l0{end}").copy_(getattr(ours, f"weight_ih{end}"))
            getattr(theirs, f"weight_hh_l0{end}").copy_(getattr(ours, f"weight_hh{end}"))
            getattr(theirs, f"bias_ih_l0{end}").copy_(getattr(ours, f"offset{end}"))
            getattr(theirs, f"bias_hh_l0{end}").zero_()
    return theirs


@pytest.mark.parametrize(("gates", "kind"), [(1, nn.RNN), (4, nn.LSTM)])
def test_cells_are_torchs_forward_and_in_their_gradients(gates: int, kind: type[nn.RNNBase]) -> None:
    ours = Recurrent(WIDTH, HIDDEN, gates).double()
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            parameter.copy_(drawn(*parameter.shape, stream=name))
    theirs = twin(ours, kind)
    x, pull = drawn(LENGTH, 2, WIDTH, stream="x"), drawn(LENGTH, 2, 2 * HIDDEN, stream="pull")
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    found, expected = ours(mine), theirs(other)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    ends = ("", "_reverse")
    own = [getattr(ours, f"{n}{e}") for e in ends for n in ("weight_ih", "weight_hh", "offset")]
    his = [getattr(theirs, f"{n}_l0{e}") for e in ends for n in ("weight_ih", "weight_hh", "bias_ih")]
    for a, b in zip(torch.autograd.grad(found, [mine, *own], pull), torch.autograd.grad(expected, [other, *his], pull)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_textcnn_is_a_convolution_and_the_greatest_over_the_text() -> None:
    module = textcnn((1, LENGTH, WIDTH), 3, 5, None).double()
    x = drawn(2, 1, LENGTH, WIDTH, stream="x")
    parts = [torch.relu(layer(x[:, 0].transpose(1, 2))).amax(2) for layer in module.windows]
    torch.testing.assert_close(module(x), module.head(torch.cat(parts, 1)), rtol=0, atol=1e-12)


def test_the_published_sizes() -> None:
    def size(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert size(textcnn((1, 20, 50), 2, None, None)) == 100 * (3 + 4 + 5) * 50 + 300 + 300 * 2 + 2
    layer = [4 * 100 * (d + 100 + 1) for d in (50, 200)]
    assert size(bilstm((1, 20, 50), 6, None, None)) == 2 * sum(layer) + 200 * 6 + 6
    assert size(birnn((1, 20, 50), 6, None, None)) == 2 * sum(layer) // 4 + 200 * 6 + 6


def test_texts_too_short_for_a_filter_are_refused() -> None:
    with pytest.raises(ValueError, match=r"textcnn needs 5 tokens or more, these texts have 4; set data.length"):
        textcnn((1, 4, WIDTH), 2, None, None)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("make", [textcnn, birnn, bilstm])
def test_meta_gradient_by_finite_differences(make: learners.Network, mode: str) -> None:
    """d(outer loss)/d(sentences, labels, rates) after two steps, along random directions, by central differences."""
    learner = learners.wrap(make((1, LENGTH, WIDTH), 2, HIDDEN, 1), gain=2.0)

    def losses(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return objectives.make("cross_entropy")(Step(x, y, Out(learner.apply(theta, x))))

    engine = make_engine(lambda *a: losses(*a).mean(), mode, "loop")
    theta0 = learner.init(seeds.Address(1)).double()
    real = drawn(5, 1, LENGTH, WIDTH, stream="real"), torch.tensor([0, 1, 1, 0, 1])
    outer_losses = [(2, outer_loss(lambda *a: losses(*a).sum(), *real, 3))]
    x, y = drawn(2, 2, 1, LENGTH, WIDTH, stream="sentences"), drawn(2, 2, 2, stream="labels").softmax(-1)
    lr = torch.tensor([0.3, 0.2]).double()

    def loss(dx: float) -> float:
        steps = Steps(x + dx * along[0], y + dx * along[1], {"lr": lr + dx * along[2]})
        return float(unroll(engine, theta0, steps, outer_losses).loss)

    along = [drawn(*v.shape, stream=f"along {i}") for i, v in enumerate((x, y, lr))]
    found = unroll(engine, theta0, Steps(x, y, {"lr": lr}), outer_losses).steps
    slope = sum(float((g * d).sum()) for g, d in zip((found.x, found.y, found.hyper["lr"]), along))
    step = 1e-6
    assert slope == pytest.approx((loss(step) - loss(-step)) / (2 * step), rel=1e-6)
    assert abs(slope) > 1e-4
