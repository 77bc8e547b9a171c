from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture
def png() -> Callable[[np.ndarray], bytes]:
    """Encodes uint8 [H, W] or [H, W, 3]."""

    def encode(pixels: np.ndarray) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "png")
        return stream.getvalue()

    return encode


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a cache and a data root of its own."""
    monkeypatch.setenv("RAYSTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAYSTILL_DATA", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def pixels() -> np.ndarray:
    """40 grey images, uint8 [40, 6, 5]; image i has label i % 4."""
    return np.random.Generator(np.random.Philox(1)).integers(0, 256, (40, 6, 5), np.uint8)


@pytest.fixture
def write_parquet() -> Callable[..., Path]:
    """Writes images and labels in Hugging Face's convention."""

    def write(
        path: Path, images: Sequence[bytes | None], labels: Sequence[Any], names: Sequence[str] | None = None
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        rows = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]
        table = pa.table({"image": pa.array(rows, kind), "label": pa.array(labels)})
        if names is not None:
            label = {"names": list(names), "_type": "ClassLabel"}
            info = {"info": {"features": {"image": {"_type": "Image"}, "label": label}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, path, row_group_size=7)
        return path

    return write


@pytest.fixture
def shapes_folder(tmp_path: Path, pixels: np.ndarray, png: Callable[[np.ndarray], bytes]) -> Path:
    """train (32 images) and test (8) of four classes in ImageFolder's layout."""
    for i, image in enumerate(pixels):
        split, name = ("train" if i < 32 else "test"), "abcd"[i % 4]
        path = tmp_path / "shapes" / split / name / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    return tmp_path / "shapes"
