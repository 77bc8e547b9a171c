"""The shift against a loop over pixels, and what enters at the border."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from raystill.platform.data.shift import shifted
from raystill.platform.seeds import Address, torch_rng

X = torch.randn(4, 3, 5, 6, generator=torch_rng(Address(0, stream="shift")))


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_each_pixel_comes_from_where_it_was_and_none_from_the_other_side(
    padding: Literal["replicate", "zeros"],
) -> None:
    down, right = torch.tensor([0, 2, -1, 7]), torch.tensor([0, -3, 1, 0])
    moved = shifted(X, down, right, padding)
    for n, c, i, j in torch.cartesian_prod(*(torch.arange(size) for size in X.shape)).tolist():
        row, column = i - int(down[n]), j - int(right[n])
        outside = not (0 <= row < 5 and 0 <= column < 6)
        expected = X[n, c, min(max(row, 0), 4), min(max(column, 0), 5)]
        assert moved[n, c, i, j] == (0 if outside and padding == "zeros" else expected)


def test_one_number_moves_all_images_and_the_memory_format_stays() -> None:
    assert torch.equal(shifted(X, 1, 0)[:, :, 1:], X[:, :, :-1])
    last = X.contiguous(memory_format=torch.channels_last)
    assert shifted(last, 1, 0).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(shifted(last, -1, 2), shifted(X, -1, 2))


def test_a_gradient_goes_back_to_the_pixel_that_it_came_from() -> None:
    assert torch.autograd.gradcheck(lambda x: shifted(x, 1, -2, "zeros"), X.double().requires_grad_())
