"""ZCA whitening removes the correlations between pixels (Bell and Sejnowski 1997; Krizhevsky 2009).

With x normalised by channel, m its mean and C = U diag(s) U^T its covariance over training images:
x' = (x - m) U diag((s + e)^-1/2) U^T.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from raystill.platform.files import arrays

Whitening = tuple[np.ndarray, np.ndarray]
"""m float32 [D] and the symmetric matrix float32 [D, D], with D = C H W."""

EPSILON = 0.1
"""e, in squared normalised units: bounds how much directions of little variance are amplified."""

MOST_IMAGES = 10_000
"""The covariance is computed from at most this many training images, evenly spaced; more cost minutes."""

MOST_VALUES = 3 * 64 * 64
"""Largest C H W of an image; the D x D matrix of larger ones would take too much memory."""


def zca(x: np.ndarray, mean: Sequence[float], std: Sequence[float], epsilon: float = EPSILON) -> Whitening:
    """Compute the whitening of training images.

    Args:
        x: uint8 [N, C, H, W].
        mean, std: by channel, of pixels / 255.
        epsilon: e above.

    Raises:
        ValueError: images too large for a matrix of all pairs of pixels.
    """
    size = int(np.prod(x.shape[1:]))
    if size > MOST_VALUES:
        raise ValueError(f"data.whiten: images of {size} values are too large to whiten; at most {MOST_VALUES}")
    from threadpoolctl import threadpool_limits

    count = min(len(x), MOST_IMAGES)
    few = x[np.arange(count) * len(x) // count].astype(np.float64) / 255
    m, s = (np.asarray(v)[:, None, None] for v in (mean, std))
    flat = ((few - m) / s).reshape(count, size)
    centre = flat.mean(0)
    flat -= centre
    with threadpool_limits(1):  # the number of threads would change the order of sums
        values, vectors = np.linalg.eigh(flat.T @ flat / count)
        matrix = (vectors / np.sqrt(np.maximum(values, 0.0) + epsilon)) @ vectors.T
    return centre.astype(np.float32), matrix.astype(np.float32)


def cached(cache: Path, fingerprint: str, new: Whitening | None = None) -> Whitening | None:
    """Read the whitening of a data set from the cache; None where there is no whole file. `new` is written first."""
    path = cache / f"{fingerprint}-zca.safetensors"
    if new is not None:
        with suppress(ValueError):  # an unwritable cache only costs computing it again
            arrays.write(path, dict(zip(("mean", "matrix"), new)), {"data": fingerprint})
        return new
    try:
        parts, facts = arrays.read(path)
        return (parts["mean"], parts["matrix"]) if facts == {"data": fingerprint} else None
    except (ValueError, KeyError):
        return None


def whitened(flat: np.ndarray, by: Whitening) -> np.ndarray:
    """Whiten normalised images float32 [..., C, H, W]."""
    rows = flat.reshape(-1, len(by[0])).astype(np.float32) - by[0]
    out: np.ndarray = (rows @ by[1]).reshape(flat.shape)
    return out
