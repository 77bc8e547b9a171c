"""Checkpoints: what is written is read, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from raystill.actors import checkpoints
from raystill.actors.parameter_server import ParameterServer
from raystill.platform.spec import OuterSpec
from raystill.platform.storage import Storage


def groups(value: float) -> dict[str, dict[str, np.ndarray]]:
    return {"meta": {"images": np.full((2, 3), value, np.float32)}, "first": {"images": np.zeros((2, 3), np.float32)}}


def test_round_trip(tmp_path: Path) -> None:
    folder = checkpoints.write(Storage(tmp_path), groups(1.5), {"step": 7, "tracking": None})
    found, facts = checkpoints.read(Storage(tmp_path), folder)
    assert facts == {"step": 7, "tracking": None}
    assert {k: sorted(v) for k, v in found.items()} == {"meta": ["images"], "first": ["images"]}
    assert (found["meta"]["images"] == 1.5).all()


def test_the_last_few_are_kept_and_latest_points_at_the_newest(tmp_path: Path) -> None:
    for step in range(0, 60, 10):
        checkpoints.write(Storage(tmp_path), groups(step), {"step": step})
    assert sorted(p.name for p in tmp_path.glob("step-*")) == [f"step-{s:08d}.0" for s in (30, 40, 50)]
    assert checkpoints.newest(Storage(tmp_path)) == "step-00000050.0"


@pytest.mark.parametrize("name", ["arrays.safetensors", "facts.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["truncated", "flipped", "missing"])
def test_a_harmed_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, name: str, harm: str) -> None:
    checkpoints.write(Storage(tmp_path), groups(1), {"step": 1})
    last = checkpoints.write(Storage(tmp_path), groups(2), {"step": 2})
    path = tmp_path / last / name
    content = bytearray(path.read_bytes())
    if harm == "missing":
        path.unlink()
    else:
        content = content[:-3] if harm == "truncated" else content[:9] + bytes([content[9] ^ 4]) + content[10:]
        path.write_bytes(bytes(content))
    with pytest.raises(checkpoints.Corrupt, match="step-00000002"):
        checkpoints.read(Storage(tmp_path), last)
    assert checkpoints.newest(Storage(tmp_path)) == "step-00000001.0"


def test_nothing_good_is_nothing(tmp_path: Path) -> None:
    assert checkpoints.newest(Storage(tmp_path)) is None
    checkpoints.write(Storage(tmp_path), groups(1), {"step": 1})
    (tmp_path / "step-00000001.0" / "facts.json").write_text("{}")
    assert checkpoints.newest(Storage(tmp_path)) is None


def server() -> ParameterServer:
    made = ParameterServer(OuterSpec(lr=0.1, ema=0.5, clip_relative=1.0).model_dump(), {"images": "lr"})
    made.begin({"images": np.zeros((2, 2), np.float32)})
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
            one.save(str(tmp_path), {"unscored": [3], "spec": "mine"}, 3)
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
    assert made.chosen()[0]["step"] == 2, "the earliest of the best"
    assert not made.snapshots
