"""A teacher as the outer objective of a distillation: the loss and its meta-gradient by hand, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from raystill.actors.drive.plan import make_plan
from raystill.platform import learners
from raystill.platform.data import DataSet, load
from raystill.platform.files.digests import file_digest
from raystill.platform.learners import files
from raystill.platform.objectives import of_outer
from raystill.platform.seeds import Address
from raystill.platform.spec import DataSpec, DistillSpec, LearnerSpec
from raystill.platform.work.kinds import KINDS
from raystill.platform.work.meta_gradient import MetaGradientOptions
from raystill.platform.work.problem import outer_teacher, resolve_auto
from raystill.platform.work.workbench import Workbench

TEACHER = LearnerSpec(name="mlp", width=12, depth=1)
SPEC: dict[str, Any] = {
    "learner": {"name": "mlp", "width": 6, "depth": 1},
    "synthesizer": {"steps": 2, "epochs": 1, "start": "average"},
    "outer": {"members": 2, "chunk": 2, "batch_size": 64, "objective": "hinton"},
    "meta": {"chunk": 40},
}
each = pytest.mark.parametrize("name", ["kd", "hinton", "logit_matching"])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return load(DataSpec(limit=96, cache=tmp_path_factory.mktemp("cache")))


def written(folder: Path, data: DataSet, outputs: int = 10, **about: Any) -> Path:
    learner = learners.build(TEACHER, data.shape, outputs)
    learner.load(learner.init(Address(9)))
    facts = {"mean": list(data.mean), "std": list(data.std), **about}
    files.save_network(folder / "teacher.safetensors", learner.module, TEACHER, data.shape, outputs, **facts)
    return folder / "teacher.safetensors"


@pytest.fixture
def bench(digits: DataSet, tmp_path: Path) -> Callable[..., Workbench]:
    def make(file: Path | None = None, **outer: Any) -> Workbench:
        path = file or written(tmp_path, digits)
        spec = DistillSpec.model_validate({**SPEC, "outer": {**SPEC["outer"], "teacher": path, **outer}})
        return Workbench(resolve_auto(spec, "cpu"), None, digits)

    return make


@each
def test_the_outer_loss_compares_with_the_teachers_answers(
    name: str, bench: Callable[..., Workbench], tmp_path: Path
) -> None:
    made = bench(objective=name, temperature=3.0)
    problem = made.problem(made.spec.learner)
    theta = made.theta0(problem.learner, Address(0))
    x, y = made.train.batch(np.arange(20))
    z, v = problem.learner.apply(theta, x), files.load_network(tmp_path / "teacher.safetensors")[0](x)
    soft = 9 * F.kl_div((z / 3).log_softmax(1), (v / 3).softmax(1), reduction="sum")
    expected = {
        "kd": soft, "hinton": 0.1 * F.cross_entropy(z, y, reduction="sum") + 0.9 * soft,
        "logit_matching": 0.5 * (z - v).square().sum(),
    }  # fmt: skip
    torch.testing.assert_close(problem.total(theta, x, y), expected[name])


@each
@pytest.mark.parametrize("stack", ["loop", "vmap"])
def test_the_meta_gradient_is_that_of_finite_differences(
    name: str, stack: str, bench: Callable[..., Workbench]
) -> None:
    made = bench(objective=name)
    made.spec = made.spec.model_copy(update={"meta": made.spec.meta.model_copy(update={"stack": stack})})
    made.problem.cache_clear()
    meta = made.synthesizer.start(made.data, Address(0, stream="start"))

    def run(inputs: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
        numbers, arrays = KINDS["meta_gradient"](made, Address(0, step=3), MetaGradientOptions(2), inputs)
        return numbers["loss"], arrays

    _, gradient = run(meta)
    direction = {k: g / np.linalg.norm(g) for k, g in gradient.items()}
    slope = sum(float((gradient[k] * d).sum()) for k, d in direction.items())
    step = 2e-3
    up, down = (run({k: (v + s * step * direction.get(k, 0)).astype(np.float32) for k, v in meta.items()})[0]
                for s in (1, -1))  # fmt: skip
    assert (up - down) / (2 * step) == pytest.approx(slope, rel=0.03)


def test_a_teacher_of_another_normalisation_sees_the_same_pixels(
    bench: Callable[..., Workbench], digits: DataSet, tmp_path: Path
) -> None:
    plain = files.load_network(written(tmp_path, digits))[0]
    made = bench(file=written(tmp_path, digits, mean=[0.1], std=[0.5]))
    assert made.teacher is not None
    x, _ = made.train.batch(np.arange(5))
    pixels = x * made.train.std + made.train.mean
    torch.testing.assert_close(made.teacher(x), plain((pixels - 0.1) / 0.5))


def test_no_gradient_goes_to_the_teacher_and_it_is_not_changed(bench: Callable[..., Workbench]) -> None:
    made = bench()
    assert made.teacher is not None
    before = [p.clone() for p in made.teacher.parameters()]
    meta = made.synthesizer.start(made.data, Address(0, stream="start"))
    KINDS["meta_gradient"](made, Address(0), MetaGradientOptions(1), meta)
    assert all(torch.equal(a, b) for a, b in zip(before, made.teacher.parameters()))
    assert all(p.grad is None for p in made.teacher.parameters())


@pytest.mark.parametrize(
    ("outer", "says"),
    [
        ({"objective": "kd", "teacher": None}, r"outer.objective: kd needs a teacher; set outer.teacher"),
        ({"objective": "cross_entropy"}, r"cross_entropy asks no teacher; valid with one: kd, hinton, logit_matching"),
        ({"objective": "kdd"}, r"outer.objective: unknown 'kdd'"),
    ],
)
def test_what_does_not_go_together_is_one_line(outer: dict[str, Any], says: str) -> None:
    spec = DistillSpec.model_validate({"outer": {"teacher": "t.safetensors", **outer}})
    with pytest.raises(ValueError, match=says):
        of_outer(spec.outer)


def test_a_run_is_known_by_what_its_teacher_is_and_not_by_where_it_lies(digits: DataSet, tmp_path: Path) -> None:
    def of(path: Path, content: str | None) -> str:
        outer = {"objective": "kd", "teacher": path, "teacher_content": content}
        return DistillSpec.model_validate({"outer": outer}).identity

    paths = []
    for name in "ab":
        (tmp_path / name).mkdir()
        paths.append(written(tmp_path / name, digits))
    other = written(tmp_path, digits, note="another")
    assert of(paths[0], file_digest(paths[0])) == of(paths[1], file_digest(paths[1]))
    assert of(paths[0], file_digest(paths[0])) != of(other, file_digest(other))
    assert file_digest(other) == hashlib.sha256(other.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=r"nowhere: can not be read"):
        file_digest(tmp_path / "nowhere")


def test_a_plan_notes_the_teachers_content_and_a_file_that_was_changed_since_is_refused(
    digits: DataSet, tmp_path: Path
) -> None:
    path = written(tmp_path, digits)
    outer = {**SPEC["outer"], "objective": "kd", "teacher": path}
    run = {"workers": 0, "out": tmp_path / "runs"}
    spec = DistillSpec.model_validate({**SPEC, "outer": outer, "run": run, "tracking": {"enabled": False}})
    made = make_plan(spec).spec
    assert made.outer.teacher_content == file_digest(path)
    assert make_plan(made).spec.identity == made.identity
    written(tmp_path, digits, note="trained anew")
    for again in (lambda: make_plan(made), lambda: outer_teacher(made, digits)):
        with pytest.raises(ValueError, match=r"outer\.teacher: .* is not the file that this run began with"):
            again()


def test_a_teacher_of_other_classes_or_a_torn_file_is_refused(
    bench: Callable[..., Workbench], digits: DataSet, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"outer\.teacher: .* has 7 classes and the data 10"):
        _ = bench(file=written(tmp_path, digits, outputs=7)).teacher
    torn = tmp_path / "teacher.safetensors"
    data = bytearray(written(tmp_path, digits).read_bytes())
    data[-3] ^= 1
    torn.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="sha256 does not match"):
        _ = bench(file=torn).teacher
    with pytest.raises(ValueError, match="can not be read"):
        _ = bench(file=tmp_path / "nowhere").teacher
