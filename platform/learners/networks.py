"""Networks for images: functions of (shape, classes, width, depth), which raise ValueError for too small images."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, int, int]


def _need(shape: Shape, pixels: int, name: str) -> None:
    if min(shape[1:]) < pixels:
        raise ValueError(
            f"learner.name: {name} needs images of at least {pixels}x{pixels} pixels, these are {shape[1]}x{shape[2]}; "
            "take linear, mlp or convnet, or set data.size"
        )


class _Flat(nn.Module):
    """Features, flattened, and linear layers with ReLU between; a dry run gives the flattened size."""

    def __init__(self, shape: Shape, features: nn.Module, head: tuple[int, ...]) -> None:
        super().__init__()
        self.features = features
        with torch.no_grad():
            size = features(torch.zeros(1, *shape)).flatten(1).shape[1]
        sizes = (size, *head)
        self.head = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x).flatten(1)
        for layer in self.head[:-1]:
            x = F.relu(layer(x))
        return self.head[-1](x)


def linear(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """One linear map of the pixels.

    Args:
        shape: of an image, (C, H, W).
        classes: K, the number of logits.
        width: channels or hidden units; None: the network's usual width, in its description in brackets.
        depth: blocks or hidden layers; None: the usual depth.
    """
    return _Flat(shape, nn.Identity(), (classes,))


def mlp(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """`depth` (2) hidden layers of `width` (128) rectified units.

    Args:
        shape, classes, width, depth: as in `linear`.
    """
    return _Flat(shape, nn.Identity(), (*[width or 128] * (depth or 2), classes))


class _GreyConv2d(nn.Conv2d):
    """`Conv2d` of one channel, computed as a product of patches for small batches on a CPU.

    Because the images are learned, each inner step differentiates twice with respect to a single channel, in which
    oneDNN is slow: patches save a tenth of a step of ten images. The choice depends on shapes alone, so all passes
    agree to the bit.
    """

    patches_up_to = 64

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or len(x) > self.patches_up_to:
            return super().forward(x)
        assert self.bias is not None
        pad = self.padding[0]
        assert isinstance(pad, int)
        patches = F.unfold(x, self.kernel_size, padding=pad).transpose(0, 1).flatten(1)
        y = torch.addmm(self.bias[:, None], self.weight.flatten(1), patches)
        h, w = (n + 2 * pad - k + 1 for n, k in zip(x.shape[-2:], self.kernel_size))
        return y.unflatten(1, (len(x), h, w)).transpose(0, 1).contiguous()


def without_patches(module: nn.Module) -> None:
    """Use torch's own convolutions in a network, for training on images that are not learned.

    With a single derivative, and none with respect to the images, oneDNN is faster: it saves a quarter of LeNet's step.
    """
    for part in module.modules():
        if isinstance(part, _GreyConv2d):
            part.patches_up_to = 0


class MaxPool2(nn.Module):
    """`MaxPool2d(2)` and its derivatives, bit for bit, without the branch on each pixel of torch's loop for a CPU.

    That loop took 40 % of LeNet's outer pass. Here comparisons find each window's first maximum, and a gather, whose
    derivatives of any order are cheap, fetches it.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or x.stride(-1) != 1:  # one kernel there; and channels last, torch's own loop is vectorised
            return F.max_pool2d(x, 2)
        z, (h, w) = x.detach(), (n // 2 * 2 for n in x.shape[-2:])
        top, below = z[..., 0:h:2, :w], z[..., 1:h:2, :w]
        right_above, right_below = (row[..., 1::2] > row[..., 0::2] for row in (top, below))
        lower = torch.maximum(below[..., 0::2], below[..., 1::2]) > torch.maximum(top[..., 0::2], top[..., 1::2])
        right = right_above ^ (lower & (right_above ^ right_below))  # `where`, which is slow on bools
        rows, columns = torch.arange(0, h, 2, device=x.device), torch.arange(0, w, 2, device=x.device)
        first = torch.add(rows[:, None] * x.shape[-1] + columns + right, lower, alpha=x.shape[-1])
        return x.flatten(-2).gather(-1, first.flatten(-2)).unflatten(-1, first.shape[-2:])


def lenet(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """LeNet-5 with ReLU and max-pooling; 61,706 parameters on 28x28 grey images and 10 classes.

    Args:
        shape, classes, width, depth: as in `linear`.
    """
    _need(shape, 12, "lenet")
    w = width or 6
    first = _GreyConv2d if shape[0] == 1 else nn.Conv2d
    features = nn.Sequential(
        first(shape[0], w, 5, padding=2), MaxPool2(), nn.ReLU(),  # before ReLU, which commutes with it, for fewer
        nn.Conv2d(w, 16 * w // 6, 5), MaxPool2(), nn.ReLU(),  # pixels to rectify
    )  # fmt: skip
    return _Flat(shape, features, (120, 84, classes))


def alexnet(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """The AlexNet-style CIFAR network of 1811.10959; 1,756,426 parameters on 3x32x32 and 10 classes.

    Args:
        shape, classes, width, depth: as in `linear`.
    """
    _need(shape, 8, "alexnet")
    w = width or 64

    def block(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, w, 5, padding=2), nn.ReLU()]

    norm = nn.LocalResponseNorm(4, alpha=0.001 / 9.0, beta=0.75, k=1.0)
    features = nn.Sequential(
        *block(shape[0]), nn.MaxPool2d(3, 2, padding=1), norm, *block(w), norm, nn.MaxPool2d(3, 2, padding=1)
    )
    return _Flat(shape, features, (384, 192, classes))


def convnet(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """ConvNet-D-W: `depth` (3) blocks of 3x3 convolution, `width` (128) channels, instance norm, ReLU, average pool.

    Args:
        shape, classes, width, depth: as in `linear`.
    """
    w, d = width or 128, depth or 3
    _need(shape, 2**d, f"convnet of depth {d}")
    blocks: list[nn.Module] = []
    for i in range(d):
        blocks += [nn.Conv2d(w if i else shape[0], w, 3, padding=1), nn.GroupNorm(w, w), nn.ReLU(), nn.AvgPool2d(2)]
    return _Flat(shape, nn.Sequential(*blocks), (classes,))


class _Residual(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.Conv2d(b, b, 3, 1, 1, bias=False)
        groups = max(g for g in (8, 4, 2, 1) if b % g == 0)
        self.norm1, self.norm2 = nn.GroupNorm(groups, b), nn.GroupNorm(groups, b)
        self.skip = nn.Identity() if a == b and stride == 1 else nn.Conv2d(a, b, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(z + self.skip(x))


def resnet(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """Small ResNet with group norm: three stages of `depth` (1) blocks, `width` (16) channels doubled twice.

    Args:
        shape, classes, width, depth: as in `linear`.
    """
    w, d = width or 16, depth or 1
    _need(shape, 4, "resnet")
    layers: list[nn.Module] = [nn.Conv2d(shape[0], w, 3, padding=1), nn.ReLU()]
    channels = w
    for stage in range(3):
        for block in range(d):
            wide = w * 2**stage
            layers.append(_Residual(channels, wide, 2 if stage and not block else 1))
            channels = wide
    return _Flat(shape, nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), (classes,))


class _Strips(nn.Module):
    """Strips of an image from top to bottom, each encoded by an MLP, then a gated recurrent unit over the codes."""

    def __init__(self, shape: Shape, classes: int, width: int, strips: int) -> None:
        super().__init__()
        self.height = shape[1] // strips
        size = shape[0] * self.height * shape[2]
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(size, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.gates, self.candidate = nn.Linear(2 * width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, :, : x.shape[2] // self.height * self.height].split(self.height, 2)
        codes = [self.encode(row) for row in rows]
        if len(codes) == 1:
            return codes[0]
        h = torch.zeros_like(codes[0])
        for z in codes:
            update, reset = torch.sigmoid(self.gates(torch.cat([z, h], 1))).chunk(2, 1)
            h = (1 - update) * h + update * torch.tanh(self.candidate(torch.cat([z, reset * h], 1)))
        return self.head(h)


def strips(shape: Shape, classes: int, width: int | None, depth: int | None) -> nn.Module:
    """`depth` (4) strips of an image, read from top to bottom; a single strip gives its code, of `width` (64).

    A small network of contrastive predictive coding (1807.03748): with `width` outputs its head predicts the next code.

    Args:
        shape, classes, width, depth: as in `linear`.
    """
    _need(shape, depth or 4, "strips")
    return _Strips(shape, classes, width or 64, depth or 4)


NETWORKS = {
    "linear": linear,
    "mlp": mlp,
    "lenet": lenet,
    "alexnet": alexnet,
    "convnet": convnet,
    "resnet": resnet,
    "strips": strips,
}
