"""Distilled data on disk: a folder that is the result.

    data.parquet           one row per distilled image; opens with plain pyarrow, pandas or polars
    manifest.json          learned rates, order, where it came from, and size and sha256 of each other file
    theta0.safetensors     the starting weights, for fixed starts only: no torch version promises them from a seed
    generator.safetensors  what made the images, where it can make more of them
    words.parquet          of texts only: the vocabulary and its vectors, to embed real texts alike
    preview.png            the images, to look at

A folder is written beside its place, synced and renamed, so what stands under its name is whole. Nothing here is
pickled, and nothing is read before its size is known to fit.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from safetensors import SafetensorError

from raystill.platform.artifacts.distilled import Distilled
from raystill.platform.data.modality import IMAGE, Modality, of_manifest
from raystill.platform.files.digests import file_digest
from raystill.platform.files.storage import sync
from raystill.platform.registry import Plugins

__all__ = ["Distilled", "load_distilled", "save_distilled"]

FORMAT = "raystill.distilled/1"
DATA, MANIFEST, THETA0, PREVIEW = "data.parquet", "manifest.json", "theta0.safetensors", "preview.png"
GENERATOR = "generator.safetensors"
RESERVED = ("format", "shape", "rates", "order", "files", "modality")
MAX_MANIFEST = 16 * 2**20  # bytes; a million inner steps do not fit, and no unroll has them
MAX_FILE = 16 * 2**30  # bytes, of one file on disk and of the images in memory


def save_distilled(path: str | Path, distilled: Distilled) -> Path:
    """Writes an artefact folder, whole or not at all.

    Raises:
        ValueError: something stands under that name already, or the folder above can not be written.
    """
    from raystill.platform.artifacts.preview import preview  # pictures are needed only here

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
        if distilled.generator is not None:
            parts = {name: np.ascontiguousarray(value) for name, value in distilled.generator.items()}
            (temporary / GENERATOR).write_bytes(safetensors.numpy.save(parts))
        if distilled.modality.companion and distilled.payload is not None:
            distilled.modality.companion.write(temporary / distilled.modality.companion.file, distilled.payload)
        preview(distilled).save(temporary / PREVIEW, optimize=True)
        files = {file.name: _facts(file) for file in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_bytes(_manifest(distilled, files))
        for file in (*temporary.iterdir(), temporary):
            sync(file)
        temporary.rename(path)
        sync(path.parent)
    except OSError as error:
        raise ValueError(f"{path}: can not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def load_distilled(path: str | Path, verify: bool = True, plugins: Plugins | None = None) -> Distilled:
    """Reads an artefact folder.

    Args:
        path: the folder.
        verify: False skips the sha256 of the files; sizes and shapes are checked always.
        plugins: the caller's own parts; `modalities` of them.

    Raises:
        ValueError: not an artefact, a file missing, torn, changed or malformed, or another format version.
    """
    path = Path(path)
    kept, modality = _read_manifest(path, plugins)
    companion = modality.companion
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
        generator = safetensors.numpy.load_file(path / GENERATOR) if GENERATOR in kept["files"] else None
        rates = {name: np.asarray(values, np.float32) for name, values in kept["rates"].items()}
        about = {key: value for key, value in kept.items() if key not in RESERVED}
        payload = None
        if companion and companion.file in kept["files"]:
            payload = companion.read(path / companion.file, about[modality.name])
        order = np.asarray(kept["order"], np.int64)
        return Distilled(images, labels, rates, order, theta0, about, generator, payload, modality)
    except (pa.ArrowException, SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: malformed artefact: {_one_line(error)}") from error


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
    if d.modality.companion and d.section:
        columns |= {name: pa.array(values) for name, values in d.modality.companion.columns(d.section).items()}
    about = {"image_shape": flat.shape[1:], **{k: d.manifest.get(k) for k in ("normalisation", "classes")}}
    return pa.table(columns).replace_schema_metadata({"raystill": json.dumps(about, sort_keys=True), "format": FORMAT})


def _read_data(file: Path, shape: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """images[S, M, C, H, W] and labels of a data file whose rows must be those of `shape`."""
    s, m, *chw = shape
    with pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        if parquet.metadata.num_rows != s * m or list(getattr(schema.field("image").type, "shape", ())) != chw:
            raise ValueError(f"{DATA} does not hold {s} x {m} images of {chw}")
        groups = [parquet.metadata.row_group(g) for g in range(parquet.metadata.num_row_groups)]
        if sum(group.total_byte_size for group in groups) > 2 * MAX_FILE:
            raise ValueError(f"{DATA} unpacks to more than {2 * MAX_FILE} bytes")
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
    if d.modality is not IMAGE:
        own["modality"] = d.modality.name
    return (json.dumps({**d.manifest, **own}, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _read_manifest(path: Path, plugins: Plugins | None) -> tuple[dict[str, Any], Modality]:
    """The manifest of an artefact folder, its own part checked, and the modality of the data."""
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
    modality = of_manifest(kept, plugins)
    most = {DATA, PREVIEW, THETA0, GENERATOR, *([modality.companion.file] if modality.companion else [])}
    if not isinstance(files, dict) or not {DATA, PREVIEW} <= set(files) <= most:
        raise ValueError(f"{file}: malformed: files must be {DATA} and {PREVIEW}, and may be {', '.join(sorted(most))}")
    if not all(
        isinstance(f, dict) and isinstance(f.get("bytes"), int) and f["bytes"] <= MAX_FILE for f in files.values()
    ):
        raise ValueError(f"{file}: malformed: each file needs its bytes, at most {MAX_FILE}, and its sha256")
    if not isinstance(shape, list) or len(shape) != 5 or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f"{file}: malformed: shape must be five counts [S, M, C, H, W]")
    if 4 * math.prod(shape) > MAX_FILE:
        raise ValueError(f"{file}: images of {4 * math.prod(shape)} bytes; at most {MAX_FILE} are read")
    if not isinstance(kept.get("rates"), dict) or not isinstance(kept.get("order"), list):
        raise ValueError(f"{file}: malformed: rates or order are missing")
    return kept, modality


def _facts(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": file_digest(file)}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
