"""Distilled data on disk: what is written is what is read, plain tools open it, and nothing wrong is loaded."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from raystill.platform import learners, seeds
from raystill.platform.artifacts import files as artifacts
from raystill.platform.artifacts.files import Distilled, load_distilled, save_distilled
from raystill.platform.spec import LearnerSpec

S, M, K, EPOCHS, SHAPE = 2, 4, 4, 3, (1, 8, 8)
SPEC = LearnerSpec(name="mlp", width=8)


def made(soft: bool = False, fixed: bool = False, momentum: bool = False, shape: tuple[int, ...] = SHAPE) -> Distilled:
    rng = seeds.numpy_rng(seeds.Address(3))
    labels = np.tile(np.arange(M) % K, (S, 1)).astype(np.int64)
    rates = {"lr": rng.uniform(0.01, 0.1, S * EPOCHS).astype(np.float32)}
    if momentum:
        rates["momentum"] = rng.uniform(0.3, 0.7, S * EPOCHS).astype(np.float32)
    learner = learners.build(SPEC, SHAPE, K)
    return Distilled(
        images=rng.standard_normal((S, M, *shape)).astype(np.float32),
        labels=rng.uniform(-0.1, 1.0, (S, M, K)).astype(np.float32) if soft else labels,
        rates=rates,
        order=np.tile(np.arange(S), EPOCHS).astype(np.int64),
        theta0=learner.init(seeds.Address(5)).numpy() if fixed else None,
        manifest={
            "learner": SPEC.model_dump(mode="json"),
            "classes": ["a", "b", "c", "d"],
            "normalisation": {"mean": [0.5] * shape[0], "std": [0.25] * shape[0]},
            "seeds": {"run": 3},
            "fingerprint": "0" * 64,
        },
    )


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
def test_what_is_written_is_what_is_read(tmp_path: Path, soft: bool, fixed: bool, shape: tuple[int, ...]) -> None:
    before = made(soft, fixed, momentum=soft, shape=shape)
    after = load_distilled(save_distilled(tmp_path / "a", before))
    for name in ("images", "labels", "order", "theta0"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.rates.keys() == before.rates.keys()
    for name, rate in before.rates.items():
        np.testing.assert_array_equal(after.rates[name], rate)
    assert after.manifest == before.manifest
    assert after.images.flags.writeable
    assert after.images.dtype == np.float32


def test_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (save_distilled(tmp_path / name, made(soft=True)) for name in "ab")
    assert (one / "data.parquet").read_bytes() == (two / "data.parquet").read_bytes()
    assert (one / "manifest.json").read_bytes() == (two / "manifest.json").read_bytes()


def test_the_manifest_holds_the_sha256_of_each_other_file(tmp_path: Path) -> None:
    path = save_distilled(tmp_path / "a", made(fixed=True))
    files = json.loads((path / "manifest.json").read_text())["files"]
    assert set(files) == {file.name for file in path.iterdir()} - {"manifest.json"}
    for name, facts in files.items():
        assert facts["sha256"] == hashlib.sha256((path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_train_does_what_torch_sgd_does(soft: bool, momentum: bool) -> None:
    d = made(soft, fixed=True, momentum=momentum)
    oracle = learners.build(SPEC, SHAPE, K).load(torch.tensor(d.theta0))
    optimiser = torch.optim.SGD(oracle.parameters(), lr=1.0, momentum=0.5 if momentum else 0.0)
    for t, s in enumerate(d.order):
        optimiser.param_groups[0]["lr"] = float(d.rates["lr"][t])
        if momentum:
            optimiser.param_groups[0]["momentum"] = float(d.rates["momentum"][t])
        optimiser.zero_grad()
        F.cross_entropy(oracle(torch.tensor(d.images[s])), torch.tensor(d.labels[s])).backward()
        optimiser.step()
    ours = d.train()
    for mine, theirs in zip(ours.parameters(), oracle.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_train_starts_from_the_weights_of_the_model_it_is_given() -> None:
    d = made(fixed=True)
    model = learners.build(SPEC, SHAPE, K).load(torch.zeros(len(d.theta0)))
    trained = d.train(model)
    assert trained is model
    first = next(model.parameters())
    assert not torch.equal(first, next(d.train().parameters()))


def test_train_in_double_precision_keeps_it() -> None:
    model = learners.build(SPEC, SHAPE, K).module.double()
    assert next(made().train(model).parameters()).dtype == torch.float64


def test_train_without_a_model_needs_a_fixed_start() -> None:
    with pytest.raises(ValueError, match="random starts"):
        made().train()


def test_dataset_and_loader() -> None:
    d = made()
    x, y = d.dataset()[M]
    np.testing.assert_array_equal(x, d.images[1, 0])
    assert y == d.labels[1, 0]
    batches = list(d.loader())
    assert len(batches) == len(d.order)
    for t, (x, y) in enumerate(batches):
        np.testing.assert_array_equal(x, d.images[d.order[t]])
        np.testing.assert_array_equal(y, d.labels[d.order[t]])
    assert [len(y) for _, y in d.loader(batch_size=3)] == [3, 3, 2]
    one, two = (torch.cat([x for x, _ in d.loader(3, shuffle=True, seed=7)]) for _ in range(2))
    assert torch.equal(one, two)


def test_pandas_and_polars_read_it(tmp_path: Path) -> None:
    d = made(soft=True, momentum=True)
    file = save_distilled(tmp_path / "a", d) / "data.parquet"
    panda, polar = pd.read_parquet(file), pl.read_parquet(file)
    flat = d.images.reshape(S * M, -1)
    np.testing.assert_array_equal(np.stack(panda["image"]), flat)
    np.testing.assert_array_equal(polar["image"].to_numpy(), flat)
    np.testing.assert_array_equal(np.stack(panda["label"]), d.labels.reshape(S * M, K))
    assert polar["step"].to_list() == [0] * M + [1] * M
    assert polar["inner_steps"].to_list()[-1] == [1, 3, 5]
    np.testing.assert_array_equal(panda["lr"].iloc[-1], d.rates["lr"][[1, 3, 5]])
    np.testing.assert_array_equal(panda["momentum"].iloc[0], d.rates["momentum"][[0, 2, 4]])


@pytest.mark.parametrize(
    "reading",
    [
        "import pyarrow.parquet as pq; t = pq.read_table(p); x = t['image'].combine_chunks().to_numpy_ndarray()",
        "import pandas as pd, numpy as np; x = np.stack(pd.read_parquet(p)['image']).reshape(8, 1, 8, 8)",
        "import polars as pl; x = pl.read_parquet(p)['image'].to_numpy().reshape(8, 1, 8, 8)",
    ],
)
def test_plain_tools_open_it_without_raystill(tmp_path: Path, reading: str) -> None:
    d = made()
    file = save_distilled(tmp_path / "a", d) / "data.parquet"
    code = (
        f"import sys; p = sys.argv[1]; {reading}; assert x.shape == (8, 1, 8, 8), x.shape; "
        "assert not any(m.startswith('raystill') for m in sys.modules); print(float(x.astype('f8').sum()))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert out.returncode == 0, out.stderr
    assert float(out.stdout) == pytest.approx(float(d.images.astype("f8").sum()), rel=1e-9)


def test_the_data_file_says_its_shape_and_normalisation(tmp_path: Path) -> None:
    schema = pq.read_schema(save_distilled(tmp_path / "a", made()) / "data.parquet")
    assert schema.field("image").type.shape == list(SHAPE)
    assert json.loads(schema.metadata[b"raystill"])["normalisation"] == {"mean": [0.5], "std": [0.25]}


def test_the_preview_is_a_picture(tmp_path: Path) -> None:
    with Image.open(save_distilled(tmp_path / "a", made()) / "preview.png") as picture:
        assert picture.width > 300


def test_an_artefact_is_written_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = save_distilled(tmp_path / "a", made())
    with pytest.raises(ValueError, match="exists already"):
        save_distilled(path, made())
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts.pq, "write_table", full)
    with pytest.raises(ValueError, match="a: can not be written: No space left"):
        save_distilled(tmp_path / "a", made())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="can not be written"):
        save_distilled(tmp_path / "file" / "a", made())


@pytest.mark.parametrize("name", ["data.parquet", "preview.png", "theta0.safetensors"])
def test_one_changed_bit_is_found(tmp_path: Path, name: str) -> None:
    file = save_distilled(tmp_path / "a", made(fixed=True)) / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name}: sha256 does not match"):
        load_distilled(tmp_path / "a")


@pytest.mark.parametrize("name", ["data.parquet", "preview.png", "theta0.safetensors"])
@pytest.mark.parametrize("verify", [True, False])
def test_torn_and_missing_files_are_named(tmp_path: Path, name: str, verify: bool) -> None:
    file = save_distilled(tmp_path / "a", made(fixed=True)) / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{name}: has \d+ bytes"):
        load_distilled(tmp_path / "a", verify)
    file.unlink()
    with pytest.raises(ValueError, match=rf"{name}: missing"):
        load_distilled(tmp_path / "a", verify)


def test_not_an_artefact(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ValueError, match="not an artefact"):
            load_distilled(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "malformed"),
        ("[" * 100_000, "malformed"),
        ("[]", "format is 'None'"),
        ('{"format": "raystill.distilled/2"}', "format is 'raystill.distilled/2', this version"),
        (b"\xff\xfe\xfd", "malformed"),
    ],
)
def test_foreign_manifests(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = save_distilled(tmp_path / "a", made())
    (path / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        load_distilled(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [1, 1, 1, 1]),
        ("shape", [2, 4, 1, 8, -8]),
        ("shape", [2, 4, 1, 80_000, 80_000]),
        ("shape", [2, 2, 1, 8, 16]),
        ("shape", [4, 2, 1, 8, 8]),
        ("files", {"../../etc/passwd": {"bytes": 1, "sha256": ""}}),
        ("files", None),
        ("order", [0, 1, 2]),
        ("order", None),
        ("rates", {"lr": ["x"]}),
        ("rates", {"lr": [1.0]}),
        ("rates", {}),
    ],
)
def test_manifests_that_do_not_fit(tmp_path: Path, key: str, value: object) -> None:
    path = save_distilled(tmp_path / "a", made())
    kept = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**kept, key: value}))
    with pytest.raises(ValueError, match=r"malformed|at most") as caught:
        load_distilled(path)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_too_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_distilled(tmp_path / "a", made())
    monkeypatch.setattr(artifacts, "MAX_MANIFEST", 100)
    with pytest.raises(ValueError, match="at most 100"):
        load_distilled(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((2, 4, 8, 8), np.float32)}, r"\[S, M, C, H, W\]"),
        ({"images": np.full((2, 4, 1, 8, 8), np.nan, np.float32)}, "images has numbers that are not finite"),
        ({"labels": np.full((2, 4), 4, np.int64)}, "4 classes"),
        ({"labels": np.zeros((2, 3), np.int64)}, "do not fit images"),
        ({"order": np.array([0, 2, 0, 1, 0, 1])}, "outside 0..1"),
        ({"rates": {"lr": np.zeros(5, np.float32)}}, "rates.lr"),
        ({"theta0": np.zeros((2, 2), np.float32)}, "theta0"),
        ({"manifest": {"spec": "x"}}, "manifest.spec is not a mapping"),
        ({"manifest": {"normalisation": {"mean": [0.5, 0.5]}}}, "normalisation.mean"),
    ],
)
def test_parts_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(made(), **changes)


def test_weights_of_another_learner() -> None:
    with pytest.raises(ValueError, match="do not fit mlp"):
        replace(made(), theta0=np.zeros(3, np.float32)).train()


def test_a_generator_travels_with_its_images(tmp_path: Path) -> None:
    weights = {"latents": np.ones((2, 4, 3), np.float32), "hidden/v": np.zeros((2, 2), np.float32)}
    path = save_distilled(tmp_path / "a", replace(made(), generator=weights))
    after = load_distilled(path).generator
    assert after is not None
    assert {k: v.tolist() for k, v in after.items()} == {k: v.tolist() for k, v in weights.items()}
    (path / "generator.safetensors").unlink()
    with pytest.raises(ValueError, match=r"generator\.safetensors: missing; the manifest lists it"):
        load_distilled(path)


def test_a_generator_of_another_type_or_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match=r"generator\.w is float64, not float32"):
        replace(made(), generator={"w": np.zeros(2)})
    with pytest.raises(ValueError, match=r"generator\.w has numbers that are not finite"):
        replace(made(), generator={"w": np.full(2, np.nan, np.float32)})


def test_a_model_of_another_shape_or_class_count_is_refused_in_one_line() -> None:
    small, few = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(49, 4)), torch.nn.Linear(8, 3)
    with pytest.raises(ValueError, match=r"the model does not take images of 1x8x8: mat1 and mat2"):
        made().train(small)
    with pytest.raises(ValueError, match=r"the model gives \(3,\) outputs, this data has 4 classes"):
        made().train(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)))
    with pytest.raises(ValueError, match=r"the model gives .* outputs, this data has 4 classes"):
        made(soft=True).train(few)
    made().fits((1, 8, 8), 4)
    with pytest.raises(ValueError, match=r"images of 1x8x8 and 4 classes, the data has 3x8x8 and 4"):
        made().fits((3, 8, 8), 4)
    with pytest.raises(ValueError, match=r"images of 1x8x8 and 4 classes, the data has 1x8x8 and 10"):
        made().fits((1, 8, 8), 10)
