"""Exports are read back with the tools that they are for: Pillow, numpy, pyarrow, safetensors, our own source."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
from PIL import Image
from torch.utils.data import TensorDataset

from raystill.platform.artifacts import export as exports
from raystill.platform.artifacts.distilled import Distilled
from raystill.platform.artifacts.export import ABOUT, FORMS, export, quantised
from raystill.platform.artifacts.files import save_distilled
from raystill.platform.cli import main
from raystill.platform.data import load
from raystill.platform.seeds import Address, numpy_rng
from raystill.platform.spec import DataSpec

S, M, K = 2, 6, 3


def made(channels: int = 3, soft: bool = True, theta0: bool = False) -> Distilled:
    rng = numpy_rng(Address(0, stream="export"))
    images = rng.standard_normal((S, M, channels, 4, 5)).astype(np.float32) * 3
    rows = rng.random((S, M, K)).astype(np.float32)
    manifest = {
        "name": "tiny",
        "classes": ["ape", "bee", "cow"],
        "normalisation": {"mean": [0.5] * channels, "std": [0.2] * channels},
        "source": {"name": "made", "images": 1000, "bytes": 60_000},
    }
    rates = {"lr": np.full(4, 0.1, np.float32)}
    order = np.array([0, 1, 0, 1])
    labels = rows if soft else rows.argmax(2)
    return Distilled(images, labels, rates, order, np.ones(7, np.float32) if theta0 else None, manifest)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_codes_are_off_by_at_most_half_a_level(bits: int) -> None:
    x = made().images
    codes = quantised(x, bits)
    assert codes.codes.max() == 2**bits - 1
    assert codes.codes.min() == 0
    level = (x.max((1, 3, 4)) - x.min((1, 3, 4))) / (2**bits - 1)
    assert (np.abs(codes.restored() - x).max((1, 3, 4)) <= level / 2 + 1e-5).all()


def test_an_even_image_survives() -> None:
    x = np.full((1, 1, 1, 2, 2), -3.25, np.float32)
    assert np.array_equal(quantised(x).restored(), x)


def _scaled(about: dict[str, object], pixels: np.ndarray, step: int) -> np.ndarray:
    scale, offset = (np.asarray(about[k], np.float32)[step][:, None, None] for k in ("scale", "offset"))
    return pixels * scale + offset


@pytest.mark.parametrize("channels", [1, 3])
def test_png_files_hold_the_images_to_half_a_level(tmp_path: Path, channels: int) -> None:
    d = made(channels)
    export(d, "png", tmp_path / "out")
    about = json.loads((tmp_path / "out" / ABOUT).read_text())
    lines = [json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert len(lines) == S * M
    for row in lines:
        s, m = row["step"], row["position"]
        pixels = np.asarray(Image.open(tmp_path / "out" / row["file_name"]))
        pixels = pixels[None] if channels == 1 else np.moveaxis(pixels, -1, 0)
        half = np.asarray(about["scale"])[s].max() / 2
        assert np.abs(_scaled(about, pixels, s) - d.images[s, m]).max() <= half + 1e-5
        assert row["label"] == d.labels[s, m].argmax()
        np.testing.assert_allclose(row["soft_label"], d.labels[s, m])
    assert about["order"] == d.order.tolist()
    assert about["rates"]["lr"] == d.rates["lr"].tolist()


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("theta0", [True, False])
def test_npz_opens_without_pickle_and_keeps_every_bit(tmp_path: Path, soft: bool, theta0: bool) -> None:
    d = made(soft=soft, theta0=theta0)
    export(d, "npz", tmp_path / "out")
    with np.load(tmp_path / "out" / "distilled.npz", allow_pickle=False) as found:
        for name, array in {"images": d.images, "labels": d.labels, "order": d.order, **d.rates}.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)
        assert found["classes"].tolist() == d.manifest["classes"]
        assert ("theta0" in found) == theta0
        np.testing.assert_allclose(found["mean"], 0.5)


def test_torch_tensors_make_a_tensor_dataset(tmp_path: Path) -> None:
    d = made()
    export(d, "torch", tmp_path / "out")
    found = safetensors.torch.load_file(tmp_path / "out" / "dataset.safetensors")
    dataset = TensorDataset(found["images"], found["labels"])
    assert len(dataset) == S * M
    x, y = dataset[M + 2]
    assert np.array_equal(x.numpy(), d.images[1, 2])
    assert np.array_equal(y.numpy(), d.labels[1, 2])


@pytest.mark.parametrize("form", ["npz", "torch"])
def test_eight_bits_take_a_quarter_and_come_back(tmp_path: Path, form: str) -> None:
    d = made()
    export(d, form, tmp_path / "out", bits=8)
    if form == "npz":
        found = dict(np.load(tmp_path / "out" / "distilled.npz", allow_pickle=False))
    else:
        found = {k: v.numpy() for k, v in safetensors.torch.load_file(tmp_path / "out" / "dataset.safetensors").items()}
        found["images"] = found["images"].reshape(d.images.shape)
    assert found["images"].dtype == np.uint8
    codes = exports.Codes(found["images"], found["scale"], found["offset"])
    assert np.array_equal(codes.restored(), quantised(d.images).restored())


def test_the_hugging_face_layout_is_one_that_we_read_ourselves(tmp_path: Path) -> None:
    d = made(soft=False)
    export(d, "hf", tmp_path / "out")
    (file,) = (tmp_path / "out" / "data").glob("*.parquet")
    table = pq.read_table(file)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": ["ape", "bee", "cow"], "_type": "ClassLabel"}
    first = np.asarray(Image.open(io.BytesIO(table["image"][0].as_py()["bytes"])))
    codes = quantised(d.images).codes
    assert np.array_equal(np.moveaxis(first, -1, 0), codes[0, 0])
    data = load(DataSpec(source=f"parquet:{tmp_path / 'out'}", cache=tmp_path / "cache", validation=0.0))
    assert data.classes == ("ape", "bee", "cow")
    known = {image.tobytes(): int(y) for image, y in zip(codes.reshape(-1, 3, 4, 5), d.labels.ravel())}
    assert {image.tobytes(): int(y) for image, y in zip(data.train.x, data.train.y)}.items() <= known.items()


def test_soft_labels_go_along_in_the_hugging_face_layout(tmp_path: Path) -> None:
    d = made()
    export(d, "hf", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "data")
    np.testing.assert_allclose(np.array(table["soft_label"].to_pylist()), d.labels.reshape(S * M, K), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_data_gives_the_same_bytes(tmp_path: Path, form: str) -> None:
    for name in ("a", "b"):
        export(made(), form, tmp_path / name)
    files = {p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()}
    if form != "npz":  # a zip holds the time
        assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    assert files == {p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file()}


def test_the_command_says_the_size_against_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_distilled(tmp_path / "run" / "artefact", made())
    assert main(["export", str(tmp_path / "run"), "--to", "npz"]) == 0
    said = capsys.readouterr().out
    size = (tmp_path / "run" / "export-npz" / "distilled.npz").stat().st_size
    assert f"{size:,} bytes; its source, 1,000 training images, has 60,000: {60_000 / size:,.0f} times" in said
    assert "images in float32" in said
    rows = [
        {"name": "distilled", "accuracy_mean": 90.5},
        {"name": "distilled, images in 8 bits", "accuracy_mean": 90.25},
    ]
    (tmp_path / "run" / "assessment.json").write_text(json.dumps({"rows": rows}))
    assert main(["export", str(tmp_path / "run"), "--to", "png"]) == 0
    assert "images in 8 bits: 90.25 % on test data, against 90.50 % in float32" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "run"), "--to", "torch", "--bits", "4"]) == 0
    assert "--assess.bits 4" in capsys.readouterr().out


def test_wrong_exports_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_distilled(tmp_path / "run" / "artefact", made())
    for argv, words in [
        (["--to", "jpeg"], "invalid choice: 'jpeg'"),
        (["--to", "npz", "--bits", "9"], "'9' is not 1 to 8"),
        (["--to", "npz", "--out", str(tmp_path)], "exists already"),
    ]:
        assert main(["export", str(tmp_path / "run"), *argv]) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    assert main(["export", str(tmp_path / "none"), "--to", "npz"]) == 2
    assert "not an artefact" in capsys.readouterr().err
    with pytest.raises(ValueError, match="png stores images of 1 or 3 channels, these have 2"):
        export(made(2), "png", tmp_path / "two")
    assert not list(tmp_path.glob(".two*"))
