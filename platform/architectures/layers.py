"""The layers of architectures; each image is computed independently of the others in its batch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def norm(channels: int) -> nn.Module:
    """Group norm over groups of four channels (of all, where four do not divide them).

    The published spaces have batch norm in its place. Here an image's logits must not depend on the rest of its batch,
    since the outer loss is computed in chunks, and statistics of a batch sorted by class mislead a ranking.
    """
    return nn.GroupNorm(channels // 4 if channels % 4 == 0 else 1, channels)


def conv(a: int, b: int, kernel: int | tuple[int, int], stride: int = 1) -> nn.Sequential:
    """ReLU, convolution, norm: x[B, a, H, W] -> [B, b, ceil(H / stride), ceil(W / stride)].

    Args:
        a, b: channels in and out.
        kernel: its odd side in pixels, or (height, width).
        stride: pixels between outputs.
    """
    h, w = (kernel, kernel) if isinstance(kernel, int) else kernel
    layer = nn.Conv2d(a, b, (h, w), stride, (h // 2, w // 2), bias=False)
    return nn.Sequential(nn.ReLU(), layer, norm(b))


class Pool(nn.Module):
    """Max or average over k x k pixels: x[B, C, H, W] -> [B, C, ceil(H / stride), ceil(W / stride)].

    An even kernel reaches one pixel further to the right and below; there the border is replicated.
    """

    def __init__(self, kind: str, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kind, self.kernel, self.stride = kind, kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        pad = self.kernel // 2
        if self.kernel % 2 == 0:
            x, pad = F.pad(x, (0, 1, 0, 1), mode="replicate"), 0
        if self.kind == "max":
            return F.max_pool2d(x, self.kernel, self.stride, pad)
        return F.avg_pool2d(x, self.kernel, self.stride, pad, count_include_pad=False)


class Residual(nn.Module):
    """The step between stages of NAS-Bench-201: two convolutions that halve the image, beside a pooled 1x1 one."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.main = nn.Sequential(conv(a, b, 3, 2), conv(b, b, 3))
        self.skip = nn.Sequential(Pool("avg", 2, 2), nn.Conv2d(a, b, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.main(x) + self.skip(x)
        return y


class Head(nn.Module):
    """Norm, ReLU, global average and a linear map: x[B, C, H, W] -> logits[B, K]."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm, self.act, self.linear = norm(channels), nn.ReLU(), nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.act(self.norm(x)).mean((2, 3)))
        return logits
