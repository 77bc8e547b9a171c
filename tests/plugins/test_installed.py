"""A package outside the repository, installed into a fresh environment: YAML names its parts, and commands use them."""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from raystill.platform.artifacts import load_distilled

PACKAGE = Path(__file__).parents[1] / "plugin_package"
TEXTS = {"tiny:w4-tanh", "tiny:w4-relu", "tiny:w8-tanh", "tiny:w8-relu"}
SPEC: dict[str, Any] = {
    "data": {"source": "waves", "validation": 0.25},
    "learner": {"name": "tiny:w8-tanh"},
    "synthesizer": {"steps": 2, "epochs": 3, "start": "average"},
    "initialisation": {"kind": "scaled(factor=0.75)"},
    "inner": {"lr": 0.2, "objective": "focal(gamma=1.0)", "optimiser": "nesterov(momentum=0.5)"},
    "outer": {"steps": 8, "members": 2, "batch_size": 60, "objective": "focal"},
    "meta": {"estimator": "evolution(sigma=0.1, pairs=2)"},
    "validation": {"every": 4, "networks": 2},
    "assess": {"networks": 2, "architectures": ["tiny:w4-relu"]},
    "run": {"workers": 0, "name": "waves"},
    "tracking": {"enabled": False},
}
LOOK = """
import json, raystill, torch
from raystill.platform import learners, seeds
from raystill.platform.data import load
from raystill.platform.data.resident import resident
from raystill.platform.spec import DistillSpec

run = raystill.load_run("runs/waves")
d, spec = run.distilled, DistillSpec.model_validate(run.spec)
data = load(spec.data)
learner = learners.build(spec.learner, data.shape, len(data.classes))
model = d.train(learner.load(learner.init(seeds.Address(5))))
x, y = resident(data.test, data).batch(torch.arange(len(data.test)))
accuracy = 100 * (model(x).argmax(1) == y).float().mean().item()
print(json.dumps({"run": repr(run), "distilled": repr(d), "html": run._repr_html_(), "accuracy": accuracy}))
"""
MISTAKES: dict[str, tuple[str, str, str]] = {
    "meta.estimator: sigma (0) and pairs (4) must be above 0": ("meta", "estimator", "evolution(sigma=0)"),
    "no setting 'sigmas'; did you mean 'sigma'?": ("meta", "estimator", "evolution(sigmas=1)"),
    "inner.optimiser: unknown 'nesterof'; did you mean 'nesterov'?": ("inner", "optimiser", "nesterof"),
    "initialisation.kind: factor (0) must be above 0": ("initialisation", "kind", "scaled(factor=0)"),
    "no setting 'alpha'": ("outer", "objective", "focal(alpha=1)"),
    "architecture 'tiny:w8-gelu' does not parse at character 9": ("learner", "name", "tiny:w8-gelu"),
}
"""What the error says -> section, field and value that are wrong."""
WRONG = """
import sys
from raystill.platform import cli
for name in sys.argv[1:]:
    assert cli.main(["distill", "--config", name]) == 2
"""


class Environment(NamedTuple):
    """The Python of an environment, and a folder to work in."""

    python: Path
    folder: Path

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """A command in the folder, which must end with the status `expect`."""
        command = [str(self.python), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    def raystill(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """A raystill command."""
        return self.run("-m", "raystill.platform.cli", *arguments, expect=expect)

    def spec(self, name: str, **changes: dict[str, Any]) -> str:
        """A YAML file of the spec with sections changed."""
        sections = {key: {**section, **changes.get(key, {})} for key, section in SPEC.items()}
        (self.folder / name).write_text(yaml.safe_dump(sections))
        return name


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment that reads this one's packages, with the package installed by pip and without a network."""
    folder = tmp_path_factory.mktemp("plugins")
    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / "bin" / "python"
    (packages,) = (folder / "environment" / "lib").glob("python*/site-packages")
    lines = [f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages()]
    (packages / "running.pth").write_text("".join(lines))
    shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", str(folder / "source")], check=True, timeout=240)
    work = folder / "work"
    work.mkdir()
    return Environment(python, work)


@pytest.fixture(scope="module")
def distilled(installed: Environment) -> Path:
    """A run that uses all parts of the package at once."""
    installed.raystill("distill", "--config", installed.spec("spec.yaml"))
    return installed.folder / "runs" / "waves"


@pytest.mark.plugin
def test_the_package_lies_in_the_fresh_environment_alone(installed: Environment) -> None:
    where = installed.run("-c", "import elsewhere.space; print(elsewhere.space.__file__)").stdout
    assert Path(where.strip()).is_relative_to(installed.folder.parent / "environment")
    lines = (
        "from importlib.metadata import distribution as d; print(sorted(p.name for p in d('elsewhere').entry_points))"
    )
    names = installed.run("-c", lines).stdout
    assert names.strip() == str(["evolution", "focal", "nesterov", "scaled", "series", "tiny", "waves"])


@pytest.mark.plugin
def test_a_run_uses_every_part_and_says_so(distilled: Path) -> None:
    manifest = json.loads((distilled / "artefact" / "manifest.json").read_text())
    spec = manifest["spec"]
    assert (spec["meta"]["estimator"], spec["inner"]["optimiser"]) == (
        "evolution(sigma=0.1, pairs=2)",
        "nesterov(momentum=0.5)",
    )
    assert (spec["initialisation"]["kind"], spec["learner"]["name"]) == ("scaled(factor=0.75)", "tiny:w8-tanh")
    assert (spec["inner"]["objective"], spec["outer"]["objective"]) == ("focal(gamma=1.0)", "focal")
    assert manifest["modality"] == "series"
    assert len(pq.read_table(distilled / "artefact" / "data.parquet")) == 6
    rows = {row["name"]: row for row in json.loads((distilled / "assessment.json").read_text())["rows"]}
    assert any("tiny:w4-relu" in name for name in rows)
    best = next(row for row in rows.values() if row["kind"] == "distilled")
    assert best["accuracy_mean"] > 60  # three classes


@pytest.mark.plugin
def test_its_page_shows_series_as_lines(distilled: Path) -> None:
    page = (distilled / "report.html").read_text()
    assert page.count('<svg class="series"') == 6
    assert "6 distilled series of waves" in page
    assert "1 × 1 × 24" not in page
    assert "24 numbers" in page


@pytest.mark.plugin
def test_a_notebook_shows_it_and_a_network_learns_from_it(installed: Environment, distilled: Path) -> None:
    shown = json.loads(installed.run("-c", LOOK).stdout.splitlines()[-1])
    assert "6 distilled series of waves" in shown["distilled"]
    assert "6 distilled series" in shown["run"]
    assert "data:image/png" in shown["html"]
    assert shown["accuracy"] > 60


@pytest.mark.plugin
def test_it_is_assessed_and_reported_again(installed: Environment, distilled: Path) -> None:
    page = distilled / "report.html"
    before = page.read_bytes()
    page.unlink()
    installed.raystill("report", "runs/waves")
    assert page.read_bytes() == before
    installed.raystill(
        "assess", "runs/waves", "--assess.networks", "3", "--assess.architectures", "tiny:w4-tanh",
        "--assess.baselines", "false",
    )  # fmt: skip
    rows = json.loads((distilled / "assessment.json").read_text())["rows"]
    assert any("tiny:w4-tanh" in row["name"] for row in rows)
    assert next(row for row in rows if row["kind"] == "distilled")["n"] == 3


@pytest.mark.plugin
def test_its_space_is_searched(installed: Environment) -> None:
    installed.raystill(
        "search", "nas", "--space", "tiny", "--data.source", "waves", "--data.validation", "0.25", "--candidates", "4",
        "--generation", "2", "--searcher", "random", "--steps", "8", "--retrain", "2", "--retrain_steps", "16",
        "--run.workers", "0", "--tracking.enabled", "false", "--run.name", "searched",
    )  # fmt: skip
    result = json.loads((installed.folder / "runs" / "searched" / "result.json").read_text())
    assert result["pick"]["architecture"] in TEXTS
    assert result["pick"]["test"] > 50
    assert "tiny:" in (installed.folder / "runs" / "searched" / "report.html").read_text()


@pytest.mark.plugin
def test_each_mistake_is_one_line_that_names_the_field(installed: Environment) -> None:
    files = [
        installed.spec(f"wrong-{n}.yaml", **{"run": {"name": "wrong"}, section: {field: value}})
        for n, (section, field, value) in enumerate(MISTAKES.values())
    ]
    lines = installed.run("-c", WRONG, *files).stderr.splitlines()
    assert len(lines) == len(MISTAKES)
    for line, message in zip(lines, MISTAKES):
        assert message in line
    assert not (installed.folder / "runs" / "wrong" / "artefact").exists()


@pytest.mark.plugin
def test_an_environment_without_the_package_says_what_is_missing(distilled: Path) -> None:
    with pytest.raises(ValueError, match="unknown 'series'; "):
        load_distilled(distilled / "artefact")


@pytest.mark.ray
@pytest.mark.plugin
def test_two_workers_give_the_bytes_of_none(installed: Environment, distilled: Path) -> None:
    name = installed.spec("two.yaml", run={"workers": 2, "name": "two"}, assess={"baselines": False})
    installed.raystill("distill", "--config", name)
    one, two = (
        pq.read_table(folder / "artefact" / "data.parquet").to_pydict()
        for folder in (distilled, installed.folder / "runs" / "two")
    )
    assert one.keys() == two.keys()
    for column, values in one.items():
        np.testing.assert_array_equal(values, two[column])
