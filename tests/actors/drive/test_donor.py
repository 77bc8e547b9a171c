"""A run that goes on from another run's state: the same bits where nothing changes, and an identity that says so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raystill.actors.drive import coordinator, pipeline, replay
from raystill.actors.drive.plan import make_plan
from raystill.actors.server import checkpoints
from raystill.platform import cli
from raystill.platform.files.storage import Storage
from raystill.platform.runs import folder as runs
from raystill.platform.spec import DistillSpec
from tests.actors.test_cluster import spec


def run(folder: Path, name: str, **outer: Any) -> DistillSpec:
    """The spec of a run of eight steps with a checkpoint at every second."""
    base = spec(folder, 0, **{"steps": 8, "ema": 0.5, **outer})
    changes = {"name": name, "checkpoint_every": 2, "keep": 9}
    validation = base.validation.model_copy(update={"every": 2})
    return base.model_copy(update={"run": base.run.model_copy(update=changes), "validation": validation})


def heir(donor: Path, step: int, name: str, **outer: Any) -> DistillSpec:
    """The spec of a run that goes on from a step of a run of `run`."""
    (place,) = donor.glob(f"checkpoints/step-{step:08d}.*")
    return DistillSpec.model_validate(
        {**run(donor.parent, name, **outer).dump(), "donor": {"checkpoint": str(place)}}
    )  # fmt: skip


@pytest.fixture
def donor(tmp_path: Path) -> Path:
    """A run that ended."""
    pipeline.distill(run(tmp_path, "donor"))
    return tmp_path / "donor"


def last(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a run's last checkpoint."""
    store = Storage(folder / "checkpoints")
    name = checkpoints.newest(store)
    assert name is not None
    return checkpoints.read(store, name)[0]


def test_with_the_same_values_it_ends_with_the_donors_bits(donor: Path) -> None:
    pipeline.distill(heir(donor, 4, "heir"))
    found, wanted = last(donor.parent / "heir"), last(donor)
    for group in ("meta", "memory-first", "memory-second", "average", "best"):
        for name, array in wanted[group].items():
            assert found[group][name].tobytes() == array.tobytes(), (group, name)
    (first, *_) = sorted((donor.parent / "heir" / "checkpoints").glob("step-*"))
    assert first.name.startswith("step-00000004")


def test_with_other_values_it_begins_where_the_donor_was_and_is_replayed(donor: Path) -> None:
    pipeline.distill(heir(donor, 4, "heir", lr=0.05))
    store = Storage(donor.parent / "heir" / "checkpoints")
    (place,) = donor.glob("checkpoints/step-00000004.*")
    groups, facts = checkpoints.read(store, "step-00000004.0")
    for group, arrays in checkpoints.read(Storage(donor / "checkpoints"), place.name)[0].items():
        for name, array in arrays.items():
            assert groups[group][name].tobytes() == array.tobytes(), (group, name)
    kept = runs.load(donor.parent / "heir")
    assert facts["spec"] == kept.identity
    assert kept.donor.step == 4
    found, old = last(donor.parent / "heir"), last(donor)
    assert any((found["meta"][k] != old["meta"][k]).any() for k in old["meta"])
    again = replay.Replay(donor.parent / "heir")
    again.to(8)
    for name, array in again.server.fetch(again.versions[8]).items():
        assert array.tobytes() == found["meta"][name].tobytes(), name
    with pytest.raises(ValueError, match="begins at step 4, and step 3 is its donor's"):
        again.to(3)


def test_its_identity_holds_what_it_took_over_and_no_other_run_takes_its_checkpoints(donor: Path) -> None:
    """The guard of resume: neither the same values without a donor, nor with an other state, are this run."""
    made = make_plan(heir(donor, 4, "heir")).spec
    other = make_plan(heir(donor, 6, "heir")).spec
    plain = made.model_copy(update={"donor": DistillSpec().donor})
    assert len({made.identity, other.identity, plain.identity}) == 3
    moved = made.model_copy(update={"donor": made.donor.model_copy(update={"checkpoint": "/elsewhere/step-1"})})
    assert moved.identity == made.identity, "where the state lies changes no bit"
    store = Storage(donor.parent / "taken")
    name = checkpoints.adopt(store, made.donor, made.identity, 0)
    assert checkpoints.newest(store, made.identity) == name
    for stranger in (plain, other):
        with pytest.raises(ValueError, match=rf"taken: holds checkpoints of a run with another spec .*{name}"):
            checkpoints.newest(store, stranger.identity)


def test_a_killed_heir_goes_on_and_one_whose_donor_changed_is_refused(
    donor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = heir(donor, 4, "whole", lr=0.05)
    pipeline.distill(whole)
    record = coordinator._record

    def die(loop: coordinator.Loop, *rest: object) -> None:
        record(loop, *rest)  # type: ignore[arg-type]
        if loop.step == 7:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(coordinator, "_record", die)
        with pytest.raises(MemoryError):
            pipeline.distill(heir(donor, 4, "cut", lr=0.05))
    pipeline.resume(donor.parent / "cut")
    found, wanted = last(donor.parent / "cut"), last(donor.parent / "whole")
    assert all(found["meta"][k].tobytes() == v.tobytes() for k, v in wanted["meta"].items())

    (place,) = donor.glob("checkpoints/step-00000004.*")
    (later,) = donor.glob("checkpoints/step-00000006.*")
    shutil.rmtree(place)
    later.rename(place)
    shutil.rmtree(donor.parent / "cut" / "checkpoints")
    shutil.rmtree(donor.parent / "cut" / "artefact")
    with pytest.raises(ValueError, match="holds another state than this run was planned with"):
        pipeline.resume(donor.parent / "cut")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"synthesizer.steps": 3}, "donor.checkpoint: its .* has shape"),
        ({"outer.steps": 4}, "is of step 4, and outer.steps is 4"),
        ({"outer.delay": 2}, "had an outer.delay below this run's 2"),
        ({"outer.rollbacks": 1}, "outer.rollbacks: the donor's run kept no states"),
        ({"donor.checkpoint": "step-4"}, "'step-4' is no checkpoint"),
        ({"donor.checkpoint": "/nowhere/step-4"}, "can not be read"),
    ],
)
def test_a_donor_that_does_not_fit_is_refused(donor: Path, change: dict[str, Any], message: str) -> None:
    told = heir(donor, 4, "heir").dump()
    for field, value in change.items():
        section, _, name = field.partition(".")
        told[section][name] = value
    with pytest.raises(ValueError, match=message):
        make_plan(DistillSpec.model_validate(told))


def test_the_command_line_says_so_in_one_line(donor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["distill", "--recipe", "digits", "--donor.checkpoint", "/nowhere/step-4"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
