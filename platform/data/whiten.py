"""ZCA whitening: pixels without their correlations, in the basis of pixels (Bell and Sejnowski 1997; Krizhevsky 2009).

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
"""e: what keeps directions that hardly vary from being blown up; in normalised units."""

MOST_IMAGES = 10_000
"""Training images that the covariance is taken of, evenly spaced; more change it little and cost minutes."""

MOST_VALUES = 3 * 64 * 64
"""Values of an image above which the matrix would not fit beside the data."""


def zca(x: np.ndarray, mean: Sequence[float], std: Sequence[float], epsilon: float = EPSILON) -> Whitening:
    """The whitening of training images.

    Args:
        x: uint8 [N, C, H, W].
        mean, std: by channel, of pixels / 255.

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
    with threadpool_limits(1):  # sums are split by thread
        values, vectors = np.linalg.eigh(flat.T @ flat / count)
        matrix = (vectors / np.sqrt(np.maximum(values, 0.0) + epsilon)) @ vectors.T
    return centre.astype(np.float32), matrix.astype(np.float32)


def kept(cache: Path, fingerprint: str, make: Whitening | None = None) -> Whitening | None:
    """A whitening that was computed before for a fingerprint, or None; `make` is put there.

    A torn or foreign file is computed again, never loaded.
    """
    path = cache / f"{fingerprint}-zca.safetensors"
    if make is not None:
        with suppress(ValueError):  # a cache that can not be written costs computing again, no more
            arrays.write(path, dict(zip(("mean", "matrix"), make)), {"data": fingerprint})
        return make
    try:
        parts, facts = arrays.read(path)
        return (parts["mean"], parts["matrix"]) if facts == {"data": fingerprint} else None
    except (ValueError, KeyError):
        return None


def whitened(flat: np.ndarray, by: Whitening) -> np.ndarray:
    """Normalised images float32 [..., C, H, W], whitened."""
    rows = flat.reshape(-1, len(by[0])).astype(np.float32) - by[0]
    out: np.ndarray = (rows @ by[1]).reshape(flat.shape)
    return out
