"""Shift images by whole pixels; the callers draw the moves."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def shifted(
    x: Tensor, down: Tensor | int, right: Tensor | int, padding: Literal["replicate", "zeros"] = "replicate"
) -> Tensor:
    """Move each image by whole pixels of its own; nothing wraps around.

    Args:
        x: (N, C, H, W).
        down, right: pixels to move by, int64 (N,) or one number for all images; negative moves up and left.
        padding: value of pixels from outside: the nearest pixel of the image, or 0.

    Returns:
        The moved images, the shape and memory format of x.
    """
    n, c, h, w = x.shape
    down, right = (torch.as_tensor(move, device=x.device).expand(n)[:, None, None, None] for move in (down, right))
    rows = torch.arange(h, device=x.device)[:, None] - down
    columns = torch.arange(w, device=x.device) - right
    samples, channels = (torch.arange(size, device=x.device) for size in (n, c))
    moved = x[samples[:, None, None, None], channels[:, None, None], rows.clamp(0, h - 1), columns.clamp(0, w - 1)]
    if padding == "zeros":
        moved = torch.where((rows >= 0) & (rows < h) & (columns >= 0) & (columns < w), moved, 0.0)
    if c > 1 and x.is_contiguous(memory_format=torch.channels_last):
        moved = moved.contiguous(memory_format=torch.channels_last)
    return moved
