"""Checkpoints: what is written is read, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raystill.actors.server import checkpoints
from raystill.actors.server.parameter_server import ParameterServer
from raystill.platform.files.storage import Storage
from raystill.platform.outer.blocks import BLOCK, Cut
from raystill.platform.spec import OuterSpec
from tests.platform.files.test_storage import s3  # noqa: F401

SIZE = BLOCK + 7  # two blocks


def write(folder: Path | str, step: int, shards: int = 1, but: int | None = None, **facts: object) -> str:
    """A checkpoint whose every number is its step; `but` names a part that is not written."""
    name = checkpoints.name_of(step, 0)
    whole = {"images": np.full(SIZE, step, np.float32)}
    cut = Cut.of(whole, shards)
    for part, meta in enumerate(cut.split(whole)):
        if part != but:
            told = {"step": step, "tracking": None, **facts}
            checkpoints.write(Storage(folder), name, {"meta": meta, "first": meta}, told, cut, part)
    return name


@pytest.mark.parametrize("shards", [1, 2])
def test_round_trip(tmp_path: Path, shards: int) -> None:
    found, facts = checkpoints.read(Storage(tmp_path), write(tmp_path, 7, shards))
    assert facts == {"step": 7, "tracking": None, "shapes": [["images", [SIZE]]], "shards": shards}
    assert {k: sorted(v) for k, v in found.items()} == {"meta": ["images"], "first": ["images"]}
    assert found["meta"]["images"].shape == (SIZE,)
    assert (found["meta"]["images"] == 7).all()


@pytest.mark.parametrize("shards", [1, 2])
def test_the_last_few_are_kept_and_latest_points_at_the_newest(tmp_path: Path, shards: int) -> None:
    for step in range(0, 60, 10):
        write(tmp_path, step, shards)
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [f"step-{s:08d}.0" for s in (30, 40, 50)]
    assert checkpoints.newest(Storage(tmp_path)) == "step-00000050.0"
    assert checkpoints.last_number(Storage(tmp_path)) == 0


def test_a_checkpoint_that_lacks_a_part_is_none_yet(tmp_path: Path) -> None:
    """A shard may be at the next checkpoint before the other has ended this one: it must not push this one out."""
    for step in (1, 2, 3):
        write(tmp_path, step, 2)
    write(tmp_path, 4, 2, but=0)
    assert (tmp_path / "LATEST").read_text() == "step-00000003.0"
    assert checkpoints.newest(Storage(tmp_path)) == "step-00000003.0"
    assert len(list(tmp_path.glob("step-*"))) == 4
    with pytest.raises(checkpoints.Corrupt):
        checkpoints.read(Storage(tmp_path), "step-00000004.0")
    write(tmp_path, 4, 2, but=1)
    assert checkpoints.newest(Storage(tmp_path)) == "step-00000004.0"
    assert len(list(tmp_path.glob("step-*"))) == 3


def test_parts_meet_on_an_object_store(request: pytest.FixtureRequest) -> None:
    away = request.getfixturevalue("s3")
    name = write(away, 4, 2, but=1)
    assert checkpoints.newest(Storage(away)) is None
    write(away, 4, 2, but=0)
    assert Storage(away).read("LATEST") == name.encode()
    assert checkpoints.newest(Storage(away)) == name


def test_parts_of_different_checkpoints_are_no_checkpoint(tmp_path: Path) -> None:
    name = write(tmp_path, 4, 2, but=0)
    write(tmp_path, 4, 2, but=1, cpu_seconds=1.0)
    with pytest.raises(checkpoints.Corrupt, match="parts of several checkpoints"):
        checkpoints.read(Storage(tmp_path), name)


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("harm", ["missing", "empty", "truncated", "length", "header", "facts", "digest", "array"])
def test_a_harmed_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, harm: str, part: int) -> None:
    write(tmp_path, 1, 2)
    last = write(tmp_path, 2, 2)
    path = tmp_path / last / f"part-{part}.safetensors"
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm in ("empty", "truncated"):
        path.write_bytes(b"" if harm == "empty" else content[:-3])
    else:
        places = {"facts": content.index(b"tracking"), "digest": content.index(b"sha256") + 13}
        at = {"length": 0, "header": 9, "array": len(content) - 1, **places}[harm]
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(checkpoints.Corrupt, match="step-00000002"):
        checkpoints.read(Storage(tmp_path), last)
    assert checkpoints.newest(Storage(tmp_path)) == "step-00000001.0"


def test_nothing_good_is_nothing(tmp_path: Path) -> None:
    assert checkpoints.newest(Storage(tmp_path)) is None
    write(tmp_path, 1)
    (tmp_path / "step-00000001.0" / "part-0.safetensors").write_text("{}")
    assert checkpoints.newest(Storage(tmp_path)) is None


def server() -> ParameterServer:
    made = ParameterServer(OuterSpec(lr=0.1, ema=0.5, clip_relative=1.0).model_dump(), {"images": "lr"})
    made.init({"images": np.zeros((2, 2), np.float32)})
    return made


def chunk(step: int) -> dict[str, np.ndarray]:
    return {"images": np.full((2, 2), 1.0 + step, np.float32)}


def test_a_restored_server_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    one, two = server(), server()
    for step in range(6):
        one.apply(0, step, 1, chunk(step))
        if step == 2:
            one.snapshot()
            one.score(3, 80.0, 1.0)
            one.snapshot()
            one.save(str(tmp_path), "step-00000003.0", {"unscored": [3], "spec": "mine"}, 3)
            assert [done["error"] for done in one.saved(wait=True)] == [""]
            facts = two.restore(str(tmp_path), "step-00000003.0", "mine")
            assert facts["unscored"] == [3]
    for step in range(3, 6):
        two.apply(0, step, 1, chunk(step))
    assert one.state is not None
    assert two.state is not None
    assert one.state.meta["images"].tobytes() == two.state.meta["images"].tobytes()
    assert one.state.average["images"].tobytes() == two.state.average["images"].tobytes()
    assert one.state.norm == two.state.norm
    assert two.best is not None
    assert two.best[0].accuracy == 80.0


def test_apply_is_idempotent() -> None:
    made = server()
    _, first = made.apply(0, 0, 1, chunk(0))
    facts, again = made.apply(0, 0, 1, chunk(9))
    assert facts == {}
    assert again is first


@pytest.mark.parametrize("order", [[(2, 90.0), (4, 90.0), (6, 80.0)], [(6, 80.0), (4, 90.0), (2, 90.0)]])
def test_the_choice_does_not_depend_on_the_order_of_scores(order: list[tuple[int, float]]) -> None:
    made = server()
    for step in range(6):
        made.apply(0, step, 1, chunk(step))
        if step % 2:
            made.snapshot()
    for step, accuracy in order:
        made.score(step, accuracy, 0.0)
    assert made.best_score()["step"] == 2, "the earliest of the best"
    assert not made.snapshots
