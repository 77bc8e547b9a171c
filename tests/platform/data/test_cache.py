from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from raystill.platform.data import Raw, Stored, content, load, store
from raystill.platform.data.sources.raw import local_file
from raystill.platform.files.storage import write_whole
from raystill.platform.spec import DataSpec


@pytest.fixture
def spec(shapes_folder):
    return DataSpec(source=f"folder:{shapes_folder}", validation=0)


def kept(cache: Path) -> Path:
    (path,) = cache.glob("*.arrow")
    return path


def test_arrays_are_views_of_the_mapped_file(spec, own_cache):
    data = load(spec)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(kept(own_cache)) in line]
    spans = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    for array in (data.train.x, data.train.y, data.test.x, data.test.y):
        start = array.__array_interface__["data"][0]
        assert any(low <= start and start + array.nbytes <= high for low, high in spans)
        assert not array.flags.writeable


def test_the_file_opens_with_plain_arrow(spec, own_cache):
    import pyarrow as pa

    data = load(spec)
    with pa.memory_map(str(kept(own_cache))) as source:
        table = pa.ipc.open_file(source).read_all()
    images = np.concatenate([chunk.to_numpy_ndarray() for chunk in table["image"].chunks])
    assert np.array_equal(images, np.concatenate([data.train.x, data.test.x]))
    assert table["label"].to_pylist() == [*data.train.y, *data.test.y]


def test_a_warm_cache_decodes_nothing(spec, monkeypatch):
    seen = []
    first = load(spec, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40)
    assert seen == sorted(seen)
    monkeypatch.setattr(store, "build", None)
    assert load(spec).fingerprint == first.fingerprint


def test_files_are_hashed_once_until_they_change(spec, shapes_folder, monkeypatch):
    past = time.time() - 60
    for path in shapes_folder.rglob("*.png"):
        os.utime(path, (past, past))
    first = load(spec)
    hashed = []
    digest = content._file_digest
    monkeypatch.setattr(content, "_file_digest", lambda file: hashed.append(file) or digest(file))
    assert load(spec).fingerprint == first.fingerprint
    assert hashed == []
    one, other = sorted(shapes_folder.rglob("*.png"))[:2]
    one.write_bytes(other.read_bytes())
    changed = load(spec)
    assert hashed
    assert changed.fingerprint != first.fingerprint
    assert np.array_equal(changed.test.x[0], changed.test.x[1])


def test_a_file_that_is_still_being_written_is_not_taken_as_known(tmp_path, own_cache):
    path = tmp_path / "young"
    path.write_bytes(b"1")
    content.content_of(Stored(None, [local_file(path, tmp_path)]), own_cache)
    assert not list(own_cache.glob("seen/*"))


@pytest.mark.parametrize("damage", ["cut short", "one bit", "foreign", "empty"])
def test_a_damaged_file_is_built_again(spec, own_cache, damage):
    first = load(spec)
    expected = first.train.x.copy()
    path = kept(own_cache)
    sound = path.read_bytes()
    flipped = bytearray(sound)
    flipped[sound.index(expected.tobytes()) + 100] ^= 1
    path.unlink()  # `first` still maps the old file
    path.write_bytes(
        {"cut short": sound[: len(sound) // 2], "one bit": flipped, "foreign": b"ARROW1", "empty": b""}[damage]
    )
    assert store.opened(path) is None
    assert np.array_equal(load(spec).train.x, expected)
    assert path.read_bytes() == sound


_CHILD = """
import pathlib, sys, time
from raystill.platform.data import store
from raystill.platform.data.modality import Request
from raystill.platform.data.sources import registry as sources
from raystill.platform.spec import DataSpec
source, ready, gate = sys.argv[1:]
pathlib.Path(ready).touch()
while not pathlib.Path(gate).exists():
    time.sleep(0.001)
spec = DataSpec(source=source)
print(store.decoded(sources.find(spec), Request(spec), sources.cache_folder(spec)).content)
"""


def test_two_processes_that_build_the_same_cache(spec, own_cache, tmp_path):
    ready, gate = [tmp_path / f"ready{i}" for i in range(2)], tmp_path / "gate"
    children = [
        subprocess.Popen([sys.executable, "-c", _CHILD, spec.source, path, gate], stdout=subprocess.PIPE, text=True)
        for path in ready
    ]
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in ready) and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.touch()
    prints = {child.communicate(timeout=60)[0].strip() for child in children}
    assert prints == {store.opened(kept(own_cache)).content}
    assert not list(own_cache.rglob("*.tmp"))


def test_writers_without_a_lock_leave_a_whole_file(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "one"
    values = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda value: write_whole(path, lambda stream: stream.write(value)), values))
    assert path.read_bytes() in values
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "one"
    path.write_bytes(b"old")

    def broken(stream):
        stream.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, broken)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_cache_folder_that_cannot_be_written(shapes_folder, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    spec = DataSpec(source=f"folder:{shapes_folder}", cache=tmp_path / "file" / "cache")
    with pytest.raises(ValueError, match=r"data\.cache: cannot write in .*file/cache: .*RAYSTILL_CACHE"):
        load(spec)


def test_the_same_data_has_one_fingerprint_whatever_holds_it(pixels, png):
    y = np.arange(40) % 4
    held = [{"train": (pixels, y)}, {"train": ([png(image) for image in pixels], y)}, {"train": (list(pixels), y)}]
    prints = {
        load(DataSpec(source="mine"), plugins={"sources": {"mine": lambda spec, raw=raw: Raw(raw)}}).fingerprint
        for raw in held
    }
    assert len(prints) == 1
