"""Export distilled data in the forms of other tools: PNG folder, NPZ, Hugging Face layout, safetensors.

Distilled images are float32 and may leave the range of photographs. Forms that store bytes (PNG, the Hugging Face
layout, and any form with `--bits`) store codes q, with a scale a and an offset b for each step and channel:
x = a q + b, in normalised units.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
from PIL import Image

from raystill.platform.artifacts.distilled import Distilled
from raystill.platform.artifacts.files import load_distilled
from raystill.platform.cli import Parser
from raystill.platform.files.storage import sync

ABOUT = "export.json"


class Codes(NamedTuple):
    """Images in few bits: x = scale * codes + offset.

    Attributes:
        codes: uint8 [S, M, C, H, W].
        scale, offset: float32 [S, C].
    """

    codes: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def restored(self) -> np.ndarray:
        """The images that a reader decodes, float32 [S, M, C, H, W]."""
        wide: np.ndarray = self.codes * self.scale[:, None, :, None, None] + self.offset[:, None, :, None, None]
        return wide.astype(np.float32)


def quantised(images: np.ndarray, bits: int = 8) -> Codes:
    """Quantise images float32 [S, M, C, H, W] to 2^bits even levels between the extremes of each step and channel.

    The error is at most half a level, (max - min) / (2^bits - 1) / 2.
    """
    assert 1 <= bits <= 8
    low, high = (f(images.astype(np.float64), axis=(1, 3, 4)) for f in (np.min, np.max))
    scale = np.where(high > low, (high - low) / (2**bits - 1), 1.0)
    codes = np.rint((images - low[:, None, :, None, None]) / scale[:, None, :, None, None])
    return Codes(codes.astype(np.uint8), scale.astype(np.float32), low.astype(np.float32))


def _about(d: Distilled, codes: Codes | None, bits: int | None) -> dict[str, Any]:
    """The contents of export.json: everything that a reader needs beside images and labels."""
    about: dict[str, Any] = {
        "format": "raystill.export/1", "shape": list(d.images.shape), "order": d.order.tolist(),
        "rates": {k: v.tolist() for k, v in d.rates.items()},
        **{k: d.manifest.get(k) for k in ("name", "classes", "normalisation", "learner", "initialisation", "source")},
    }  # fmt: skip
    if codes is not None:
        about |= {"bits": bits, "scale": codes.scale.tolist(), "offset": codes.offset.tolist()}
    return about


def _write_about(folder: Path, about: dict[str, Any]) -> None:
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True, allow_nan=False, default=str) + "\n")


def _png(code: np.ndarray) -> bytes:
    """Encode uint8 [C, H, W] of one or three channels."""
    stream = io.BytesIO()
    Image.fromarray(code[0] if len(code) == 1 else np.moveaxis(code, 0, -1)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _rows(d: Distilled) -> Iterator[tuple[int, int, int, list[float] | None]]:
    """(step, position, hard label, soft label) of each image."""
    soft = d.labels.ndim == 3
    for s, m in np.ndindex(*d.images.shape[:2]):
        label = d.labels[s, m]
        yield s, m, int(label.argmax()) if soft else int(label), [float(v) for v in label] if soft else None


def _to_png(d: Distilled, folder: Path, bits: int | None) -> None:
    codes = quantised(d.images, bits or 8)
    lines = []
    for s, m, label, soft in _rows(d):
        name = f"step{s:03d}-{m:04d}-label{label}.png"
        (folder / name).write_bytes(_png(codes.codes[s, m]))
        row = {"file_name": name, "label": label, "step": s, "position": m}
        lines.append(json.dumps(row if soft is None else {**row, "soft_label": soft}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    _write_about(folder, _about(d, codes, bits or 8))


def _arrays(d: Distilled, bits: int | None) -> dict[str, np.ndarray]:
    codes = quantised(d.images, bits) if bits else None
    arrays = {"images": d.images} if codes is None else codes._asdict()
    if codes is not None:
        arrays["images"] = arrays.pop("codes")
    arrays |= {"labels": d.labels, "order": d.order, **d.rates}
    return arrays if d.theta0 is None else {**arrays, "theta0": d.theta0}


def _to_npz(d: Distilled, folder: Path, bits: int | None) -> None:
    text = {k: np.array(d.manifest[k], dtype=np.str_) for k in ("classes",) if d.manifest.get(k)}
    units = {k: np.asarray(v, np.float32) for k, v in (d.manifest.get("normalisation") or {}).items()}
    np.savez_compressed(folder / "distilled.npz", **_arrays(d, bits), **text, **units)  # type: ignore[arg-type]


def _to_torch(d: Distilled, folder: Path, bits: int | None) -> None:
    arrays = _arrays(d, bits)
    flat = {k: arrays[k].reshape(-1, *arrays[k].shape[2:]) for k in ("images", "labels")}
    parts = {k: np.ascontiguousarray(v) for k, v in {**arrays, **flat}.items()}
    (folder / "dataset.safetensors").write_bytes(safetensors.numpy.save(parts))
    _write_about(folder, _about(d, quantised(d.images, bits) if bits else None, bits))


def _to_hf(d: Distilled, folder: Path, bits: int | None) -> None:
    codes = quantised(d.images, bits or 8)
    rows = list(_rows(d))
    names = [f"step{s:03d}-{m:04d}.png" for s, m, _, _ in rows]
    pictures = [{"bytes": _png(codes.codes[s, m]), "path": name} for (s, m, _, _), name in zip(rows, names)]
    columns: dict[str, Any] = {
        "image": pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "label": pa.array([label for _, _, label, _ in rows], pa.int64()),
        "step": pa.array([s for s, _, _, _ in rows], pa.int64()),
    }
    classes = [str(k) for k in d.manifest.get("classes") or range(int(max(columns["label"].to_pylist())) + 1)]
    features: dict[str, Any] = {
        "image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"},
        "step": {"dtype": "int64", "_type": "Value"},
    }  # fmt: skip
    if d.labels.ndim == 3:
        columns["soft_label"] = pa.array([soft for _, _, _, soft in rows], pa.list_(pa.float32()))
        features["soft_label"] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "Sequence"}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    (folder / "data").mkdir()
    pq.write_table(table, folder / "data" / "train-00000-of-00001.parquet", compression="zstd")
    _write_about(folder, _about(d, codes, bits or 8))
    (folder / "README.md").write_text(_card(d, classes))


def _card(d: Distilled, classes: list[str]) -> str:
    s, m = d.images.shape[:2]
    source = (d.manifest.get("source") or {}).get("name", "a data set")
    return (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n\n"
        f"# {s * m} distilled images of {source}\n\n"
        f"{s} step(s) of {m} images, to be used in the {len(d.order)} inner steps that `{ABOUT}` lists as `order`, "
        "each with its learned rate. Pixels are codes q; networks learn from x = scale q + offset, by step and "
        f"channel, in normalised units (`{ABOUT}`). Classes: {', '.join(classes)}.\n"
    )


FORMS: dict[str, Callable[[Distilled, Path, int | None], None]] = {
    "png": _to_png, "npz": _to_npz, "hf": _to_hf, "torch": _to_torch,
}  # fmt: skip


def export(distilled: Distilled, form: str, out: Path, bits: int | None = None) -> int:
    """Write distilled data in another form, whole or not at all.

    Args:
        distilled: the data.
        form: a key of `FORMS`.
        out: a folder that does not exist yet.
        bits: of each value of an image, 1 to 8; None stores float32 where the form allows it.

    Returns:
        Bytes written.

    Raises:
        ValueError: the folder exists or can not be written, or the form does not store such images.
    """
    if os.path.lexists(out):
        raise ValueError(f"--out: {out} exists already; name another folder")
    channels = distilled.images.shape[2]
    if form in ("png", "hf") and channels not in (1, 3):
        raise ValueError(f"--to: {form} stores images of 1 or 3 channels, these have {channels}; take npz or torch")
    temporary = out.parent / f".{out.name}.{secrets.token_hex(4)}"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        FORMS[form](distilled, temporary, bits)
        files = [file for file in temporary.rglob("*") if file.is_file()]
        for file in files:
            sync(file)
        temporary.rename(out)
        return sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    except OSError as error:
        raise ValueError(f"--out: {out} can not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _against_source(distilled: Distilled, size: int) -> str:
    source = distilled.manifest.get("source") or {}
    whole = source.get("bytes")
    if not isinstance(whole, int) or not size:
        return f"{size:,} bytes"
    return f"{size:,} bytes; its source, {source['images']:,} training images, has {whole:,}: {whole / size:,.0f} times"


def _price(run: Path, bits: int | None, form: str) -> str:
    """The accuracy with and without quantisation, where `raystill assess` measured it."""
    used = bits or (8 if form in ("png", "hf") else None)
    if used is None:
        return "images in float32, as they were learned"
    try:
        rows = json.loads((run / "assessment.json").read_text())["rows"]
        own = rows[0]["accuracy_mean"]
        few = next(row["accuracy_mean"] for row in rows if row["name"] == f"distilled, images in {used} bits")
        return f"images in {used} bits: {few:.2f} % on test data, against {own:.2f} % in float32"
    except (OSError, ValueError, KeyError, IndexError, TypeError, StopIteration):
        return f"images in {used} bits; what that costs: raystill assess {run} --assess.bits {used}"


def command(argv: list[str]) -> int:
    """Write a run's result in another form."""
    parser = Parser(prog="raystill export", description="Write distilled data in a form that other tools read.")
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder, or an artefact's")
    parser.add_argument("--to", required=True, choices=sorted(FORMS), help="PNG folder, NPZ, Hugging Face, safetensors")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder to make (default: RUN/export-FORM)")
    parser.add_argument("--bits", type=_bits, metavar="1-8", help="bits for each value of an image (png and hf: 8)")
    args = parser.parse_args(argv)
    artefact = args.folder / "artefact" if (args.folder / "artefact").is_dir() else args.folder
    distilled = load_distilled(artefact)
    out = args.out or args.folder / f"export-{args.to}"
    size = export(distilled, args.to, out, args.bits)
    print(f"{out}\n  {_against_source(distilled, size)}\n  {_price(args.folder, args.bits, args.to)}")
    return 0


def _bits(text: str) -> int:
    if text not in {str(n) for n in range(1, 9)}:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 8")
    return int(text)
