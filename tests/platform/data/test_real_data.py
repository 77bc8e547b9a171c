from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest

from raystill.platform.data import load
from raystill.platform.spec import DataSpec

ROOT = os.environ.get("RAYSTILL_DATA")  # read before the fixture that hides it
pytestmark = pytest.mark.data  # left out, and said so, where the variable is not set: tests/conftest.py


def test_mnist_in_the_sources_order(capsys):
    import pyarrow.parquet as pq
    from PIL import Image

    spec = DataSpec(source="mnist", root=Path(ROOT), validation=0)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        data = load(spec)
        seconds.append(time.perf_counter() - start)
    with capsys.disabled():
        print(f"\nmnist: first load {seconds[0]:.2f} s, later {seconds[1]:.2f} s")
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.shape == (1, 28, 28)
    assert data.classes == tuple("0123456789")
    # the figures that everyone normalises MNIST with
    assert data.mean[0] == pytest.approx(0.1307, abs=1e-4)
    assert data.std[0] == pytest.approx(0.3081, abs=1e-4)
    for name, split in {"train": data.train, "test": data.test}.items():
        table = pq.read_table(next(Path(ROOT, "mnist").glob(f"{name}*.parquet")))
        assert split.y.tolist() == table["label"].to_pylist()
        for row in range(0, len(split), 997):
            oracle = Image.open(io.BytesIO(table["image"][row].as_py()["bytes"]))
            assert np.array_equal(split.x[row, 0], np.asarray(oracle))


@pytest.mark.parametrize(
    ("name", "classes", "sizes", "together"),
    [
        ("trec", 6, (4907, 545, 500), ("how", "many")),
        ("sst2", 2, (6920, 872, 1821), ("performances", "performance")),
    ],
)
def test_texts_of_the_shelf(name: str, classes: int, sizes: tuple[int, ...], together: tuple[str, str]) -> None:
    from raystill.platform.data.modality.embeddings import nearest

    data = load(DataSpec(source=name, root=Path(ROOT)))
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    assert len(data.classes) == classes
    assert data.payload is not None
    cut, count = data.payload.truncated["train"], sum(sizes[:2]) if name == "trec" else sizes[0]
    assert 0 < cut <= 0.05 * count  # the length leaves 95 % of the training texts whole
    # a word and its neighbours stand nearer than words at large do
    a, b = (data.payload.table[data.payload.words.index(word)] for word in together)
    unit = data.payload.table[2:] / np.linalg.norm(data.payload.table[2:], axis=1, keepdims=True)
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert cosine > np.quantile(unit @ (a / np.linalg.norm(a)), 0.99)
    assert nearest(a[None], data.payload.table)[0][0] == data.payload.words.index(together[0])
