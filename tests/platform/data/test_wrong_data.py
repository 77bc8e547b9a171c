"""Each mistake of a user's is one line: the field, what, where, and what is valid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raystill.platform.data import Raw, load
from raystill.platform.spec import DataSpec


def refusal(spec: DataSpec, plugins=None) -> str:
    with pytest.raises(ValueError, match=r"^data\.\w+: ") as caught:
        load(spec, plugins=plugins)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def refused(splits, classes=None, **changes) -> str:
    return refusal(DataSpec(source="mine", **changes), {"sources": {"mine": lambda spec: Raw(splits, classes)}})


@pytest.fixture
def x() -> np.ndarray:
    return np.zeros((40, 4, 4), np.uint8)


@pytest.fixture
def y() -> np.ndarray:
    return np.arange(40) % 4


@pytest.fixture
def toy(tmp_path, pixels, png, write_parquet):
    """Writes a Parquet data set with some images and labels replaced."""

    def make(images=None, labels=None, names=None, file="train-00000-of-00001.parquet"):
        good = {**{i: png(image) for i, image in enumerate(pixels)}, **(images or {})}
        marks = {**{i: i % 4 for i in range(40)}, **(labels or {})}
        write_parquet(tmp_path / "toy" / file, list(good.values()), list(marks.values()), names)
        return DataSpec(source=f"parquet:{tmp_path / 'toy'}")

    return make


def test_an_unknown_source_names_the_nearest(tmp_path, toy, monkeypatch):
    toy()
    monkeypatch.setenv("RAYSTILL_DATA", str(tmp_path))
    text = refusal(DataSpec(source="mnits"))
    assert "did you mean 'mnist'?" in text
    assert "toy" in text  # what lies under the data root is a valid name
    assert str(tmp_path) in text


@pytest.mark.parametrize("name", ["mnist", "fashionmnist", "kmnist", "usps", "svhn", "cifar10", "cifar100"])
def test_a_named_set_that_is_not_there(name, tmp_path):
    text = refusal(DataSpec(source=name, root=tmp_path))
    for word in (str(tmp_path), "data.root", "RAYSTILL_DATA", "data.download", f"{name}/*.parquet"):
        assert word in text


def test_a_torchvision_file_that_is_corrupt(tmp_path):
    (tmp_path / "train_32x32.mat").write_bytes(b"broken")
    assert "torchvision cannot read svhn" in refusal(DataSpec(source="svhn", root=tmp_path))


def test_parquet_without_the_columns(toy, tmp_path):
    spec = toy()
    for field in ("image_column", "label_column"):
        text = refusal(spec.model_copy(update={field: "nope"}))
        assert text.startswith(f"data.{field}: no column 'nope'")
        assert text.endswith("it has image, label")


def test_a_later_parquet_file_without_the_columns(toy, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    spec = toy()
    pq.write_table(pa.table({"other": [1]}), tmp_path / "toy" / "train-00009.parquet")
    assert "train-00009.parquet; it has other" in refusal(spec)


def test_parquet_columns_of_the_wrong_kind(toy):
    spec = toy()
    assert "is int64, expected struct<bytes" in refusal(spec.model_copy(update={"image_column": "label"}))
    assert "expected integers" in refusal(spec.model_copy(update={"label_column": "image"}))
    assert "is double, expected integers" in refusal(toy(labels={3: 0.5}))


@pytest.mark.parametrize("source", ["parquet:/no/such/place", "parquet:nothing/*.parquet", "parquet:", "folder:"])
def test_a_path_that_is_missing(source):
    assert refusal(DataSpec(source=source)).startswith("data.source: ")


def test_a_folder_that_is_missing_or_empty(tmp_path):
    assert "no folder" in refusal(DataSpec(source=f"folder:{tmp_path / 'no'}"))
    assert "no class folders" in refusal(DataSpec(source=f"folder:{tmp_path}"))
    (tmp_path / "a").mkdir()
    assert "no images" in refusal(DataSpec(source=f"folder:{tmp_path}"))


def test_parquet_that_is_not_parquet_or_of_no_split(toy, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "train.parquet").write_bytes(b"PAR1 but not really")
    assert "cannot read" in refusal(DataSpec(source=f"parquet:{tmp_path / 'odd'}"))
    toy()
    assert "belongs to no split" in refusal(toy(file="leftover.parquet"))


def test_parquet_with_test_alone(toy):
    assert "test but no train" in refusal(toy(file="test.parquet"))


def test_a_corrupt_image_is_named_by_file_and_row(toy, png, pixels, tmp_path):
    whole = png(pixels[0])
    for bad in (b"", b"noise", whole[: len(whole) // 2], whole[:40] + b"\xff" * 8 + whole[48:]):
        text = refusal(toy(images={17: bad}))
        assert f"cannot decode {tmp_path}/toy/train-00000-of-00001.parquet row 17: " in text
    assert "no bytes of an image in" in refusal(toy(images={17: None}))


def test_a_corrupt_image_is_named_by_its_path(shapes_folder):
    bad = shapes_folder / "train" / "b" / "005.png"
    bad.write_bytes(bad.read_bytes()[:50])
    assert f"cannot decode {bad}: " in refusal(DataSpec(source=f"folder:{shapes_folder}"))


def test_mixed_sizes_name_both_and_suggest_resizing(toy, png, pixels, tmp_path):
    spec = toy(images={9: png(np.zeros((8, 7), np.uint8))})
    text = refusal(spec)
    assert text.startswith("data.size: images of mixed sizes, 5x6 at ")
    assert "7x8 at " in text
    assert "row 9" in text
    assert load(spec.model_copy(update={"size": 6})).shape == (1, 6, 6)


def test_mixed_sizes_between_splits(x, y):
    text = refused({"train": (x, y), "test": (np.zeros((4, 5, 4), np.uint8), y[:4])})
    assert "4x4 at train row 0 and 4x5 at test row 0" in text


def test_grey_beside_colour(toy, png):
    assert "row 0 is grey but" in refusal(toy(images={9: png(np.zeros((6, 5, 3), np.uint8))}))


def test_sixteen_bit_images(toy, png):
    assert "of mode I;16" in refusal(toy(images={0: png(np.zeros((6, 5), np.uint16))}))


def test_labels_out_of_range(toy):
    names = ["a", "b", "c", "d"]
    assert "row 5 is not in 0..3" in refusal(toy(labels={5: 4}, names=names))
    assert "label -1 at " in refusal(toy(labels={5: -1}))
    assert "no label in" in refusal(toy(labels={5: None}))


def test_labels_of_the_wrong_number_or_kind(x, y):
    assert "40 images but labels of shape [39]" in refused({"train": (x, y[:39])})
    assert "labels are float64" in refused({"train": (x, y / 2)})


def test_an_empty_class(x, y, toy):
    assert "class '1' has no training image" in refused({"train": (x, y // 2 * 2)})
    assert "class 'e' has no training image" in refusal(toy(names=list("abcde")))


def test_a_holdout_that_empties_a_class(x, y):
    y = np.where(np.arange(40) == 0, 4, y)
    text = refused({"train": (x, y), "test": (x, y)}, list("abcde"))
    assert text == "data.validation: holding out 0.1 of train leaves class 'e' (images: 1) empty"


def test_a_limit_below_the_classes(x, y):
    assert refused({"train": (x, y)}, limit=3) == "data.limit: 3 images are fewer than the 4 classes"


def test_sources_that_break_their_contract(x, y):
    assert "returned tuple" in refusal(DataSpec(source="mine"), {"sources": {"mine": lambda spec: (x, y)}})
    assert "expected train" in refused({"test": (x, y)})
    assert "expected train" in refused({"train": (x, y), "extra": (x, y)})
    assert "images are float64" in refused({"train": (x / 1.0, y)})
    assert "images of shape [40, 4, 4, 2]" in refused({"train": (np.stack([x, x], -1), y)})
    assert "split test has no images" in refused({"train": (x, y), "test": (x[:0], y[:0])})
    assert "cannot read" in refused({"train": ([Path("/no/such.png")] * 40, y)})
