"""Distilled data on disk: an artefact folder.

    data.parquet           one row per distilled image; opens with plain pyarrow, pandas or polars
    manifest.json          learned rates, order, provenance, and size and sha256 of each other file
    theta0.safetensors     starting weights, for fixed starts only, since a seed may give others in other torch versions
    generator.safetensors  the generator, where it can make further steps
    words.parquet          of texts only: the vocabulary and its vectors, to embed real texts
    preview.png            a picture of the images

A folder is written under a temporary name, synced and renamed, so that it is always whole. Nothing is pickled, and
sizes are checked before anything is read.
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
MAX_MANIFEST = 16 * 2**20  # bytes; enough for hundreds of thousands of inner steps
MAX_FILE = 16 * 2**30  # bytes, of one file on disk and of the images in memory


def save_distilled(path: str | Path, distilled: Distilled) -> Path:
    """Write an artefact folder, whole or not at all.

    Raises:
        ValueError: the path exists already, or its parent can not be written.
    """
    from raystill.platform.artifacts.preview import preview  # only writing needs PIL

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
    """Read an artefact folder.

    Args:
        path: the folder.
        verify: check the sha256 of the files; sizes and shapes are always checked.
        plugins: the caller's own modalities.

    Raises:
        ValueError: not an artefact, another format version, or a file is missing, torn, changed or malformed.
    """
    path = Path(path)
    manifest, modality = _read_manifest(path, plugins)
    companion = modality.companion
    for name, facts in manifest["files"].items():
        file = path / name
        if not file.is_file():
            raise ValueError(f"{file}: missing; the manifest lists it")
        if file.stat().st_size != facts["bytes"]:
            raise ValueError(f"{file}: has {file.stat().st_size} bytes, the manifest says {facts['bytes']}")
        if verify and _facts(file) != facts:
            raise ValueError(f"{file}: sha256 does not match the manifest; the file was changed or torn")
    try:
        images, labels = _read_data(path / DATA, manifest["shape"])
        theta0 = safetensors.numpy.load_file(path / THETA0)["theta0"] if THETA0 in manifest["files"] else None
        generator = safetensors.numpy.load_file(path / GENERATOR) if GENERATOR in manifest["files"] else None
        rates = {name: np.asarray(values, np.float32) for name, values in manifest["rates"].items()}
        about = {key: value for key, value in manifest.items() if key not in RESERVED}
        payload = None
        if companion and companion.file in manifest["files"]:
            payload = companion.read(path / companion.file, about[modality.name])
        order = np.asarray(manifest["order"], np.int64)
        return Distilled(images, labels, rates, order, theta0, about, generator, payload, modality)
    except (pa.ArrowException, SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: malformed artefact: {_one_line(error)}") from error


def _table(d: Distilled) -> pa.Table:
    """One row per image; `inner_steps`, `lr` and `momentum` list the steps that use it and their rates."""
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
    """Read images [S, M, C, H, W] and labels; the file must have the rows of `shape`."""
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
    # copied: Arrow's memory is read-only, and torch must own its tensors
    return image.to_numpy_ndarray().reshape(shape).copy(), labels.copy()


def _manifest(d: Distilled, files: Mapping[str, Any]) -> bytes:
    rates = {name: rate.tolist() for name, rate in d.rates.items()}
    own = {"format": FORMAT, "shape": list(d.images.shape), "rates": rates, "order": d.order.tolist(), "files": files}
    if d.modality is not IMAGE:
        own["modality"] = d.modality.name
    return (json.dumps({**d.manifest, **own}, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _read_manifest(path: Path, plugins: Plugins | None) -> tuple[dict[str, Any], Modality]:
    """The checked manifest of an artefact folder, and the modality of its data."""
    file = path / MANIFEST
    if not file.is_file():
        raise ValueError(f"{path}: not an artefact: {MANIFEST} is missing")
    if file.stat().st_size > MAX_MANIFEST:
        raise ValueError(f"{file}: {file.stat().st_size} bytes; a manifest has at most {MAX_MANIFEST}")
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: malformed: {_one_line(error)}") from error
    form = manifest.get("format") if isinstance(manifest, dict) else None
    if form != FORMAT:
        raise ValueError(f"{file}: format is {str(form)[:60]!r}, this version of raystill reads {FORMAT!r}")
    files, shape = manifest.get("files"), manifest.get("shape")
    modality = of_manifest(manifest, plugins)
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
    if not isinstance(manifest.get("rates"), dict) or not isinstance(manifest.get("order"), list):
        raise ValueError(f"{file}: malformed: rates or order are missing")
    return manifest, modality


def _facts(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": file_digest(file)}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
