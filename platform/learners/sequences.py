"""Networks for texts: an example x[B, 1, L, D] is a sequence of L vectors of D numbers.

An image [B, C, H, W] is read row by row, from the top: H vectors of C * W numbers. Cells are written out in products
and elementwise functions, which differentiate any number of times and work under vmap; cuDNN's do neither.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raystill.platform.learners.networks import Shape

_WINDOWS = (3, 4, 5)  # widths of the filters of TextCNN, in tokens


def _sequence(x: Tensor) -> Tensor:
    """x[B, C, L, D] -> [L, B, C * D]."""
    return x.permute(2, 0, 1, 3).flatten(2)


class _TextCNN(nn.Module):
    def __init__(self, features: int, filters: int, classes: int) -> None:
        super().__init__()
        self.windows = nn.ModuleList(nn.Conv1d(features, filters, k) for k in _WINDOWS)
        self.head = nn.Linear(len(_WINDOWS) * filters, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = _sequence(x).transpose(0, 1)  # [B, L, D]
        maxima = []
        for layer in self.windows:
            # one product with every position, and sums of its shifts: a convolution whose derivatives are products too
            weight, bias = layer.weight, layer.bias  # [filters, D, k]
            assert isinstance(weight, Tensor)
            assert isinstance(bias, Tensor)
            filters, _, k = weight.shape
            parts = (x @ weight.permute(1, 2, 0).flatten(1)).unflatten(2, (k, filters))  # [B, L, k, filters]
            stop = x.shape[1] - k + 1
            maxima.append(F.relu(sum(parts[:, j : stop + j, j] for j in range(k)).amax(1) + bias))
        return self.head(torch.cat(maxima, 1))


class Recurrent(nn.Module):
    """One bidirectional layer of RNN (tanh) or LSTM cells: [L, B, D] -> [L, B, 2 * H].

    Parameters are named and shaped as torch's own layers have them (gates in the order i, f, g, o), with one bias in
    place of two that are only added. Both directions run in one loop, as two rows of a batched product.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    offset: Tensor
    weight_ih_reverse: Tensor
    weight_hh_reverse: Tensor
    offset_reverse: Tensor

    def __init__(self, features: int, hidden: int, gates: int) -> None:
        super().__init__()
        self.hidden, self.gates = hidden, gates
        for name in ("", "_reverse"):
            self.register_parameter(f"weight_ih{name}", nn.Parameter(torch.empty(gates * hidden, features)))
            self.register_parameter(f"weight_hh{name}", nn.Parameter(torch.empty(gates * hidden, hidden)))
            bias = torch.zeros(gates * hidden)
            if gates == 4:
                bias[hidden : 2 * hidden] = 1.0  # forget gates start open (Jozefowicz et al. 2015)
            self.register_parameter(f"offset{name}", nn.Parameter(bias))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.stack([x @ self.weight_ih.T + self.offset,
                            x.flip(0) @ self.weight_ih_reverse.T + self.offset_reverse])  # fmt: skip
        recurrent = torch.stack([self.weight_hh.T, self.weight_hh_reverse.T])  # [2, H, gates * H]
        h = c = both.new_zeros(2, x.shape[1], self.hidden)
        states = []
        for z in both.unbind(1):  # [2, B, gates * H]
            z = torch.baddbmm(z, h, recurrent)
            if self.gates == 4:
                i, f, g, o = z.chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                h = torch.tanh(z)
            states.append(h)
        forward, backward = torch.stack(states).unbind(1)
        return torch.cat([forward, backward.flip(0)], -1)


class _Bidirectional(nn.Module):
    """Layers of cells, the greatest value of each unit over the tokens (Conneau et al. 2017), one linear map."""

    def __init__(self, features: int, hidden: int, depth: int, gates: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Recurrent(2 * hidden if i else features, hidden, gates) for i in range(depth))
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = _sequence(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.amax(0))


def textcnn(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """TextCNN (Kim 2014): `width` (100) filters each of 3, 4 and 5 tokens, ReLU, the greatest of each, a linear map.

    Args:
        shape, classes, width, depth: as in `networks.linear`; C * W numbers in each of H tokens.
    """
    if shape[1] < max(_WINDOWS):
        raise ValueError(f"learner.name: textcnn needs {max(_WINDOWS)} tokens or more, these texts have {shape[1]}; "
                         "set data.length, or take bilstm or linear")  # fmt: skip
    return _TextCNN(shape[0] * shape[2], width or 100, classes)


def birnn(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """`depth` (2) bidirectional layers of `width` (100) tanh units, the greatest over the text, a linear map.

    Args:
        shape, classes, width, depth: as in `networks.linear`; C * W numbers in each of H tokens.
    """
    return _Bidirectional(shape[0] * shape[2], width or 100, depth or 2, 1, classes)


def bilstm(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """`depth` (2) bidirectional layers of `width` (100) LSTM units, the greatest over the text, a linear map.

    Args:
        shape, classes, width, depth: as in `networks.linear`; C * W numbers in each of H tokens.
    """
    return _Bidirectional(shape[0] * shape[2], width or 100, depth or 2, 4, classes)


SEQUENCES = {"textcnn": textcnn, "birnn": birnn, "bilstm": bilstm}
