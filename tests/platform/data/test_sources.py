from __future__ import annotations

import bz2
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from raystill.platform.data import Portion, Raw, load
from raystill.platform.spec import DataSpec


def whole(source: str, **changes):
    """A source without holding anything out."""
    return load(DataSpec(source=source, validation=0, **changes))


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    data = whole("digits")
    assert data.shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert data.train.x.dtype == np.uint8
    rows = np.concatenate([data.train.x, data.test.x]).reshape(len(x), 64)
    got = sorted(zip(np.rint(rows * (16 / 255)).astype(int).tolist(), [*data.train.y, *data.test.y]))
    assert got == sorted(zip(x.astype(int).tolist(), y))
    assert rows.max() == 255
    assert len(data.test) == 359
    other = whole("digits", split_seed=7)
    assert np.array_equal(data.test.x, other.test.x), "the split seed must not move digits' test images"


def test_folder_is_what_torchvision_reads(shapes_folder):
    from torchvision.datasets import ImageFolder

    data = whole(f"folder:{shapes_folder}")
    for split, got in {"train": data.train, "test": data.test}.items():
        oracle = ImageFolder(str(shapes_folder / split))
        assert data.classes == tuple(oracle.classes)
        assert got.y.tolist() == oracle.targets
        for row, (image, _) in zip(got.x, oracle):
            assert np.array_equal(row, np.asarray(image.convert("L"))[None])


def test_folder_of_classes_alone_gets_a_test_cut(shapes_folder):
    data = whole(f"folder:{shapes_folder / 'train'}")
    assert (len(data.train), len(data.test)) == (26, 6)
    assert data.classes == ("a", "b", "c", "d")


def test_folder_with_validation_keeps_it(shapes_folder):
    (shapes_folder / "test").rename(shapes_folder / "valid")
    data = load(DataSpec(source=f"folder:{shapes_folder}"))
    assert len(data.validation) == 8
    assert len(data.train) + len(data.test) == 32


@pytest.mark.parametrize("form", ["folder", "pattern", "uri", "name"])
def test_parquet_in_hugging_faces_convention(form, tmp_path, pixels, png, write_parquet, monkeypatch):
    names = ["ant", "bee", "cat", "dog"]
    images, labels = [png(image) for image in pixels], [i % 4 for i in range(40)]
    write_parquet(tmp_path / "toy" / "train-00000-of-00002.parquet", images[:20], labels[:20], names)
    write_parquet(tmp_path / "toy" / "train-00001-of-00002.parquet", images[20:28], labels[20:28], names)
    write_parquet(tmp_path / "toy" / "validation-00000-of-00001.parquet", images[28:32], labels[28:32], names)
    write_parquet(tmp_path / "toy" / "test-00000-of-00001.parquet", images[32:], labels[32:], names)
    monkeypatch.setenv("RAYSTILL_DATA", str(tmp_path))
    sources = {"folder": "parquet:{}", "pattern": "parquet:{}/*.parquet", "uri": "parquet:file://{}", "name": "toy"}
    data = load(DataSpec(source=sources[form].format(tmp_path / "toy")))
    assert data.classes == tuple(names)
    assert np.array_equal(np.concatenate([data.train.x, data.validation.x, data.test.x])[:, 0], pixels)
    assert np.concatenate([data.train.y, data.validation.y, data.test.y]).tolist() == labels
    assert (len(data.train), len(data.validation), len(data.test)) == (28, 4, 8)


def test_parquet_of_other_columns_and_plain_binary(tmp_path, pixels, png):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [png(image) for image in pixels[:8]]
    table = pa.table({"img": images, "fine": pa.array([i % 2 for i in range(8)], pa.int8())})
    pq.write_table(table, tmp_path / "one.parquet")
    data = whole(f"parquet:{tmp_path / 'one.parquet'}", image_column="img", label_column="fine")
    assert len(data.train) + len(data.test) == 8
    assert {row.tobytes() for row in data.train.x} < {image.tobytes() for image in pixels[:8]}


def test_size_resizes_as_pillow_does_with_antialiasing(shapes_folder, pixels):
    from PIL import Image

    data = whole(f"folder:{shapes_folder}", size=4)
    oracle = np.asarray(Image.fromarray(pixels[0]).resize((4, 4), Image.Resampling.BILINEAR))
    assert data.shape == (1, 4, 4)
    assert np.array_equal(data.train.x[0, 0], oracle)


def test_palette_and_transparent_images_are_colour(tmp_path, pixels):
    from PIL import Image

    for i, mode in enumerate(["RGB", "P", "RGBA", "RGB", "RGBA", "P"]):
        path = tmp_path / "mixed" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack([pixels[i] & 0xF0] * 3, -1)).convert(mode).save(path)
    assert whole(f"folder:{tmp_path / 'mixed'}").shape == (3, 6, 5)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_a_callers_own_source(axes):
    x = np.random.Generator(np.random.Philox(2)).integers(0, 256, (12, 5, 5, 3), np.uint8)
    y = np.arange(12) % 3
    own = {"sources": {"mine": lambda spec: Raw({"train": (x.transpose(axes), y), "test": Portion(x[:3], y[:3])})}}
    data = load(DataSpec(source="mine:anything", validation=0), plugins=own)
    assert np.array_equal(data.train.x, x.transpose(0, 3, 1, 2))
    assert np.array_equal(data.test.y, y[:3])


def _idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes())


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashionmnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_torchvisions_idx_files(name, folder, tmp_path, pixels):
    labels = (np.arange(40) % 10).astype(np.uint8)
    for stem, rows in {"train": slice(30), "t10k": slice(30, 40)}.items():
        _idx(tmp_path / folder / "raw" / f"{stem}-images-idx3-ubyte", pixels[rows])
        _idx(tmp_path / folder / "raw" / f"{stem}-labels-idx1-ubyte", labels[rows])
    data = whole(name, root=tmp_path)
    assert np.array_equal(data.train.x[:, 0], pixels[:30])
    assert np.array_equal(data.test.y, labels[30:])
    assert len(data.classes) == 10


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_torchvisions_cifar10(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    x = np.random.Generator(np.random.Philox(3)).integers(0, 256, (20, 3, 32, 32), np.uint8)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    content = {
        "data_batch_1": {"data": x.reshape(20, -1), "labels": [i % 10 for i in range(20)]},
        "test_batch": {"data": x[:5].reshape(5, -1), "labels": list(range(5))},
        "batches.meta": {"label_names": list("abcdefghij")},
    }
    for name, value in content.items():
        (folder / name).write_bytes(pickle.dumps(value))
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", _md5(folder / "data_batch_1")]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", _md5(folder / "test_batch")]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": _md5(folder / "batches.meta")})
    data = whole("cifar10", root=tmp_path)
    assert np.array_equal(data.train.x, x)
    assert np.array_equal(data.test.x, x[:5])
    assert data.classes == tuple("abcdefghij")


def test_torchvisions_svhn_and_usps(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN, USPS

    x = np.random.Generator(np.random.Philox(4)).integers(0, 256, (20, 32, 32, 3), np.uint8)
    y = np.arange(20) % 10
    lists = {"svhn": {}, "usps": {}}
    for split, rows, stem in [("train", slice(20), ""), ("test", slice(10), ".t")]:
        mat = tmp_path / f"{split}_32x32.mat"
        savemat(mat, {"X": x[rows].transpose(1, 2, 3, 0), "y": np.where(y[rows] == 0, 10, y[rows])[:, None]})
        lists["svhn"][split] = ["", mat.name, _md5(mat)]
        grey = x[rows, :16, :16, 0] / 127.5 - 1
        lines = [f"{k + 1} " + " ".join(f"{i + 1}:{v}" for i, v in enumerate(g.ravel())) for k, g in zip(y[rows], grey)]
        usps = tmp_path / f"usps{stem}.bz2"
        usps.write_bytes(bz2.compress("\n".join(lines).encode()))
        lists["usps"][split] = ["", usps.name, _md5(usps)]
    monkeypatch.setattr(SVHN, "split_list", lists["svhn"])
    monkeypatch.setattr(USPS, "split_list", lists["usps"])
    svhn, usps = whole("svhn", root=tmp_path), whole("usps", root=tmp_path)
    assert np.array_equal(svhn.train.x, x.transpose(0, 3, 1, 2))
    assert svhn.test.y.tolist() == y[:10].tolist()
    assert usps.shape == (1, 16, 16)
    assert np.abs(usps.train.x[:, 0].astype(int) - x[:, :16, :16, 0]).max() <= 1  # torchvision truncates
    assert usps.train.y.tolist() == y.tolist()


def test_a_folder_of_parquet_goes_before_torchvisions_files(tmp_path, pixels, png, write_parquet):
    write_parquet(tmp_path / "mnist" / "train.parquet", [png(image) for image in pixels], [i % 2 for i in range(40)])
    assert whole("mnist", root=tmp_path).classes == ("0", "1")


def test_the_contract_imports_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import sys, raystill.platform.data; print(*{'torch', 'torchvision', 'sklearn', 'pyarrow'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""
