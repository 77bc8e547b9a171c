"""Distilled data on disk: a folder that is the result.

    data.parquet        one row per distilled image; opens with plain pyarrow, pandas or polars
    manifest.json       learned rates, order, where it came from, and size and sha256 of each other file
    theta0.safetensors  the starting weights, for fixed starts only: no torch version promises them from a seed
    preview.png         the images, to look at

A folder is written beside its place, synced and renamed, so what stands under its name is whole. Nothing here is
pickled, and nothing is read before its size is known to fit.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from raystill.platform import learners, registry, seeds
from raystill.platform.objectives import OBJECTIVES, Out, Step
from raystill.platform.spec import LearnerSpec

FORMAT = "raystill.distilled/1"
DATA, MANIFEST, THETA0, PREVIEW = "data.parquet", "manifest.json", "theta0.safetensors", "preview.png"
RESERVED = ("format", "shape", "rates", "order", "files")
MAX_MANIFEST = 16 * 2**20  # bytes; a million inner steps do not fit, and no unroll has them
MAX_FILE = 16 * 2**30  # bytes, of one file on disk and of the images in memory


@dataclass(frozen=True, eq=False)
class Distilled:
    """Distilled data and how to use it.

    Attributes:
        images: float32 [S, M, C, H, W], (pixel / 255 - mean) / std; S steps of M images.
        labels: int64 [S, M] ids, or float32 [S, M, K] rows, which need not sum to one.
        rates: float32 [T] each: `lr`, and `momentum` where there is one; T inner steps.
        order: int64 [T], which of the S steps' images each inner step uses.
        theta0: float32 [P] for a fixed start, else None.
        manifest: learner, initialisation, seeds, spec, normalisation (mean, std), classes, fingerprint, versions.

    Raises:
        ValueError: shapes or types that do not fit together, or numbers that are not finite.
    """

    images: np.ndarray
    labels: np.ndarray
    rates: dict[str, np.ndarray]
    order: np.ndarray
    theta0: np.ndarray | None
    manifest: dict[str, Any]

    def __post_init__(self) -> None:
        _check(self)

    def train(self, model: nn.Module | None = None) -> nn.Module:
        """Trains a model on the distilled steps in their order, each with its learned rate; in place.

        The loss is the mean of the inner objective that the data was distilled for (cross-entropy on ids or rows);
        the update is the heavy ball, v' = mu v + g, theta' = theta - lr v'.

        Args:
            model: starts from its own weights, on its own device. None takes the learner and the weights that a
                fixed start was distilled for.

        Returns:
            The model.

        Raises:
            ValueError: no model for data that was not distilled for one fixed start.
        """
        model = self.learner() if model is None else model
        weights = [p for p in model.parameters() if p.requires_grad]
        x = torch.tensor(self.images).to(weights[0])
        y = torch.tensor(self.labels, device=x.device)
        rates = {name: torch.tensor(rate, device=x.device) for name, rate in self.rates.items()}
        velocity = [torch.zeros_like(p) for p in weights]
        inner = self.manifest.get("spec", {}).get("inner", {}).get("objective", "cross_entropy")
        objective = registry.resolve("objectives", inner, OBJECTIVES, field="manifest.spec.inner.objective")
        for t, s in enumerate(self.order):
            loss = objective(Step(x[s], y[s], Out(model(x[s])))).mean()
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            with torch.no_grad():
                for p, v, g in zip(weights, velocity, gradients):
                    if g is not None:
                        if "momentum" in rates:
                            g = rates["momentum"][t].to(p.dtype) * v + g
                            v.copy_(g)
                        p.sub_(rates["lr"][t].to(p.dtype) * g)
        return model

    def learner(self) -> nn.Module:
        """The network that a fixed start was distilled for, with its starting weights.

        Raises:
            ValueError: the data was distilled for random starts, or the weights do not fit the learner.
        """
        if self.theta0 is None:
            raise ValueError("this data was distilled for random starts and has no weights of its own: give a model")
        spec = LearnerSpec(**self.manifest["learner"])
        learner = learners.build(spec, self.images.shape[2:], len(self.manifest["classes"]))
        if learner.size != len(self.theta0):
            raise ValueError(f"{THETA0}: {len(self.theta0)} weights do not fit {spec.name}, which has {learner.size}")
        return learner.load(torch.tensor(self.theta0))

    def dataset(self) -> TensorDataset:
        """All S * M images with their labels, step by step."""
        flat = self.images.reshape(-1, *self.images.shape[2:]), self.labels.reshape(-1, *self.labels.shape[2:])
        return TensorDataset(*(torch.tensor(values) for values in flat))

    def loader(self, batch_size: int | None = None, shuffle: bool = False, seed: int = 0) -> DataLoader:
        """Batches for any torch loop.

        Args:
            batch_size: None gives the T batches in their learned order, to be used with `rates`; a number gives one
                pass over the images in batches of that size.
            shuffle: with a batch size, draws the images in an order that depends on `seed` alone.
        """
        rng = seeds.torch_rng(seeds.Address(seed, stream="loader"))
        if batch_size is not None:
            return DataLoader(self.dataset(), batch_size, shuffle=shuffle, generator=rng)
        m = self.images.shape[1]
        steps = [list(range(s * m, (s + 1) * m)) for s in self.order.tolist()]
        return DataLoader(self.dataset(), batch_sampler=steps, generator=rng)


def save_distilled(path: str | Path, distilled: Distilled) -> Path:
    """Writes an artefact folder, whole or not at all.

    Raises:
        ValueError: something stands under that name already, or the folder above can not be written.
    """
    from raystill.platform.report.preview import preview  # pictures are needed only here

    path = Path(path)
    if os.path.lexists(path):
        raise ValueError(f"{path}: exists already; an artefact is written once")
    taken = sorted(set(RESERVED) & set(distilled.manifest))
    if taken:
        raise ValueError(f"manifest: {', '.join(taken)} belong to the format")
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        pq.write_table(_table(distilled), temporary / DATA, compression="zstd", use_dictionary=False)
        if distilled.theta0 is not None:
            (temporary / THETA0).write_bytes(safetensors.numpy.save({"theta0": np.ascontiguousarray(distilled.theta0)}))
        preview(distilled).save(temporary / PREVIEW, optimize=True)
        files = {file.name: _facts(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_bytes(_manifest(distilled, files))
        for file in (*temporary.iterdir(), temporary):
            _sync(file)
        temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise ValueError(f"{path}: can not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def load_distilled(path: str | Path, verify: bool = True) -> Distilled:
    """Reads an artefact folder.

    Args:
        path: the folder.
        verify: False skips the sha256 of the files; sizes and shapes are checked always.

    Raises:
        ValueError: not an artefact, a file missing, torn, changed or malformed, or another format version.
    """
    path = Path(path)
    kept = _read_manifest(path)
    for name, facts in kept["files"].items():
        file = path / name
        if not file.is_file():
            raise ValueError(f"{file}: missing; the manifest lists it")
        if file.stat().st_size != facts["bytes"]:
            raise ValueError(f"{file}: has {file.stat().st_size} bytes, the manifest says {facts['bytes']}")
        if verify and _facts(file) != facts:
            raise ValueError(f"{file}: sha256 does not match the manifest; the file was changed or torn")
    try:
        images, labels = _read_data(path / DATA, kept["shape"])
        theta0 = safetensors.numpy.load_file(path / THETA0)["theta0"] if THETA0 in kept["files"] else None
        rates = {name: np.asarray(values, np.float32) for name, values in kept["rates"].items()}
        about = {key: value for key, value in kept.items() if key not in RESERVED}
        return Distilled(images, labels, rates, np.asarray(kept["order"], np.int64), theta0, about)
    except (pa.ArrowException, SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: malformed artefact: {_one_line(error)}") from error


def _check(d: Distilled) -> None:
    """Raises ValueError unless the parts of distilled data fit together."""

    def need(holds: bool, message: str) -> None:
        if not holds:
            raise ValueError(f"distilled data: {message}")

    arrays = {"images": d.images, "order": d.order, **{f"rates.{name}": rate for name, rate in d.rates.items()}}
    need(d.images.ndim == 5 and d.images.size > 0, f"images {d.images.shape} are not [S, M, C, H, W]")
    need(d.images.dtype == np.float32, f"images are {d.images.dtype}, not float32")
    rows = d.labels.ndim == 3 and d.labels.dtype == np.float32
    need(rows or (d.labels.ndim == 2 and d.labels.dtype == np.int64), "labels are neither int64 ids nor float32 rows")
    need(d.labels.shape[:2] == d.images.shape[:2], f"labels {d.labels.shape} do not fit images {d.images.shape}")
    need(d.order.ndim == 1 and d.order.size > 0 and d.order.dtype == np.int64, "order is not int64 [T]")
    need(0 <= d.order.min() <= d.order.max() < len(d.images), f"order names a step outside 0..{len(d.images) - 1}")
    need("lr" in d.rates and set(d.rates) <= {"lr", "momentum"}, f"rates are {sorted(d.rates)}, not lr and momentum")
    for name, rate in d.rates.items():
        need(rate.shape == d.order.shape and rate.dtype == np.float32, f"rates.{name} is not float32 [T]")
    classes = d.manifest.get("classes")
    if classes is not None:
        top, count = (d.labels.shape[2], len(classes)) if rows else (int(d.labels.max()) + 1, len(classes))
        need((rows or d.labels.min() >= 0) and top <= count, f"labels do not fit the {count} classes")
    if d.theta0 is not None:
        need(d.theta0.ndim == 1 and d.theta0.dtype == np.float32, "theta0 is not float32 [P]")
        arrays["theta0"] = d.theta0
    for name, array in (*arrays.items(), ("labels", d.labels)):
        need(bool(np.isfinite(array).all()), f"{name} has numbers that are not finite")


def _table(d: Distilled) -> pa.Table:
    """One row per image; `inner_steps`, `lr` and `momentum` say when it is used and at what rates."""
    s, m = d.images.shape[:2]
    flat = np.ascontiguousarray(d.images.reshape(s * m, *d.images.shape[2:]))
    used = [np.flatnonzero(d.order == step) for step in range(s) for _ in range(m)]
    labels = d.labels.reshape(s * m, *d.labels.shape[2:])
    columns = {
        "step": pa.array(np.repeat(np.arange(s), m)),
        "position": pa.array(np.tile(np.arange(m), s)),
        "image": pa.FixedShapeTensorArray.from_numpy_ndarray(flat),
        "label": pa.array(labels) if labels.ndim == 1 else pa.array(list(labels), pa.list_(pa.float32())),
        "inner_steps": pa.array(used, pa.list_(pa.int64())),
        **{name: pa.array([rate[u] for u in used], pa.list_(pa.float32())) for name, rate in sorted(d.rates.items())},
    }
    about = {"image_shape": flat.shape[1:], **{k: d.manifest.get(k) for k in ("normalisation", "classes")}}
    return pa.table(columns).replace_schema_metadata({"raystill": json.dumps(about, sort_keys=True), "format": FORMAT})


def _read_data(file: Path, shape: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """images[S, M, C, H, W] and labels of a data file whose rows must be those of `shape`."""
    s, m, *chw = shape
    with pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        if parquet.metadata.num_rows != s * m or list(getattr(schema.field("image").type, "shape", ())) != chw:
            raise ValueError(f"{DATA} does not hold {s} x {m} images of {chw}")
        table = parquet.read(["step", "position", "image", "label"]).combine_chunks()
    step, position, image, label = (column.chunk(0) for column in table.columns)
    if any(column.null_count for column in (step, position, image, label)):
        raise ValueError(f"{DATA} has nulls")
    if not np.array_equal(step.to_numpy() * m + position.to_numpy(), np.arange(s * m)):
        raise ValueError(f"{DATA} has its rows in another order")
    if pa.types.is_list(label.type):
        labels = label.flatten().to_numpy().reshape(s, m, -1)
    else:
        labels = label.to_numpy().reshape(s, m)
    # copies: what Arrow owns is read-only, and torch must own its memory
    return image.to_numpy_ndarray().reshape(shape).copy(), labels.copy()


def _manifest(d: Distilled, files: Mapping[str, Any]) -> bytes:
    rates = {name: rate.tolist() for name, rate in d.rates.items()}
    own = {"format": FORMAT, "shape": list(d.images.shape), "rates": rates, "order": d.order.tolist(), "files": files}
    return (json.dumps({**d.manifest, **own}, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of an artefact folder, its own part checked."""
    file = path / MANIFEST
    if not file.is_file():
        raise ValueError(f"{path}: not an artefact: {MANIFEST} is missing")
    if file.stat().st_size > MAX_MANIFEST:
        raise ValueError(f"{file}: {file.stat().st_size} bytes; a manifest has at most {MAX_MANIFEST}")
    try:
        kept = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: malformed: {_one_line(error)}") from error
    form = kept.get("format") if isinstance(kept, dict) else None
    if form != FORMAT:
        raise ValueError(f"{file}: format is {str(form)[:60]!r}, this version of raystill reads {FORMAT!r}")
    files, shape = kept.get("files"), kept.get("shape")
    if not isinstance(files, dict) or not {DATA, PREVIEW} <= set(files) <= {DATA, PREVIEW, THETA0}:
        raise ValueError(f"{file}: malformed: files must be {DATA}, {PREVIEW} and for fixed starts {THETA0}")
    if not all(isinstance(f, dict) and isinstance(f.get("bytes"), int) and f["bytes"] <= MAX_FILE for f in files.values()):
        raise ValueError(f"{file}: malformed: each file needs its bytes, at most {MAX_FILE}, and its sha256")
    if not isinstance(shape, list) or len(shape) != 5 or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"{file}: malformed: shape must be five counts [S, M, C, H, W]")
    if 4 * math.prod(shape) > MAX_FILE:
        raise ValueError(f"{file}: images of {4 * math.prod(shape)} bytes; at most {MAX_FILE} are read")
    if not isinstance(kept.get("rates"), dict) or not isinstance(kept.get("order"), list):
        raise ValueError(f"{file}: malformed: rates or order are missing")
    return kept


def _facts(file: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return {"bytes": file.stat().st_size, "sha256": digest.hexdigest()}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
