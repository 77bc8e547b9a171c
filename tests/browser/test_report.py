"""report.html in headless Chromium: pictures load, tables stand, nothing overflows, the console is silent."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from selenium import webdriver
from sklearn.datasets import load_digits

from raystill.platform import runs, seeds
from raystill.platform.artifacts.files import Distilled, save_distilled
from raystill.platform.report import write_report
from raystill.platform.spec import DistillSpec

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.browser  # left out, and said so, where there is no browser: tests/conftest.py
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK, PHONE = 1200, 390


def _distilled(steps: int, soft: bool, colour: bool) -> Distilled:
    """Digits from scikit-learn with noise on them, as distilled images look."""
    digits, rng = load_digits(), seeds.numpy_rng(seeds.Address(4))
    labels = np.tile(np.arange(10), (steps, 1)).astype(np.int64)
    chosen = np.stack([[np.flatnonzero(digits.target == k)[s] for k in range(10)] for s in range(steps)])
    clean = np.kron(digits.images[chosen] / 16, np.ones((4, 4)))[:, :, None]
    clean = np.repeat(clean, 3, 2) if colour else clean
    images = ((clean + 0.4 * rng.standard_normal(clean.shape)) / 0.3).astype(np.float32)
    rows = (np.eye(10)[labels] * 0.7 + rng.uniform(-0.05, 0.3, (steps, 10, 10))).astype(np.float32)
    rates = {"lr": np.linspace(0.04, 0.01, 3 * steps).astype(np.float32)}
    manifest = {
        "learner": {"name": "lenet", "init": "xavier"},
        "classes": [str(k) for k in range(10)],
        "normalisation": {"mean": [0.0] * clean.shape[2], "std": [0.3] * clean.shape[2]},
        "fingerprint": "0123456789abcdef" * 4,
        "seeds": {"run": 0},
    }
    return Distilled(
        images, rows if soft else labels, rates, np.tile(np.arange(steps), 3).astype(np.int64), None, manifest
    )


def _assessment() -> dict[str, object]:
    def row(name: str, kind: str, mean: float, std: float, **more: object) -> dict[str, object]:
        facts = {
            "same_budget": True,
            "images": 10,
            "inner_steps": 3,
            "n": 20,
            "spread_over": "20 fresh networks",
            "learner": "lenet",
        }
        return {"name": name, "kind": kind, "accuracy_mean": mean, "accuracy_std": std, **facts, **more}

    rows = [
        row("distilled", "distilled", 94.2, 0.4, distillation_seeds={"n": 3, "mean": 94.0, "std": 0.3}),
        row("random real", "baseline", 51.3, 4.2, note="10 real images, drawn by seed"),
        row("class averages", "baseline", 70.4, 1.9),
        row("k-NN (l2, K=1) on the distilled images", "baseline", 48.0, 0.0, same_budget=False, n=1),
        row("convnet", "architecture", 71.1, 2.2, learner="convnet"),
        row("label-robust score", "robustness", 61.2, 1.1),
    ]
    return {"split": "test", "test_images": 10000, "rows": rows, "seeds": {"networks": 1}, "seconds": 81.0}


def _history(file: Path) -> None:
    t, rng = np.arange(1, 401), seeds.numpy_rng(seeds.Address(5))
    scores = [None if step % 25 else float(94 * (1 - np.exp(-step / 60)) + rng.normal()) for step in t]
    columns = {
        "step": t,
        "meta_loss": 2.2 * np.exp(-t / 80) + 0.25 + 0.05 * rng.standard_normal(len(t)),
        **{name: np.full(len(t), 0.4) for name in ("grad_norm", "seconds", "cpu_seconds", "members_per_second")},
        "validation_accuracy": pa.array(scores, pa.float64()),
        "validation_std": pa.array([None if score is None else 1.5 for score in scores], pa.float64()),
    }
    pq.write_table(pa.table(columns), file)


@pytest.fixture(scope="module", params=["hard", "soft", "colour", "bare"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with hard, soft or coloured images, or of one that has neither history nor assessment."""
    run, case = tmp_path_factory.mktemp("runs") / f"{request.param}-1", request.param
    run.mkdir()
    save_distilled(
        run / "artefact", _distilled({"colour": 3, "hard": 2}.get(case, 1), case == "soft", case == "colour")
    )
    spec = DistillSpec.model_validate({"recipe": "mnist-fixed-10", "data": {"source": "mnist"}})
    (run / runs.SPEC).write_text(runs.dump(spec))
    if case != "bare":
        _history(run / "history.parquet")
        (run / "assessment.json").write_text(json.dumps(_assessment()))
    return write_report(run)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


def _open(browser: webdriver.Chrome, page: Path, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_the_page(browser: webdriver.Chrome, report: Path, width: int) -> None:
    _open(browser, report, width)
    sizes = browser.execute_script("return [...document.images].map(i => [i.naturalWidth, i.width, i.alt.length])")
    assert len(sizes) >= 10
    assert all(natural == 32 and shown >= 40 and alt > 0 for natural, shown, alt in sizes)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = "return [...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll, svg, pre') && "
    wide += "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    assert browser.execute_script(wide) == []
    charts = browser.execute_script("return [...document.querySelectorAll('svg.chart')].map(e => e.clientWidth)")
    bare = report.parent.name == "bare-1"
    assert len(charts) == (1 if bare else 3)
    assert min(charts) > 250
    rows = browser.execute_script("return [...document.querySelectorAll('tbody tr')].map(e => e.innerText)")
    assert len(rows) == (0 if bare else 6)
    if not bare:
        assert any("class averages" in row and "70.4" in row and "ahead" in row for row in rows)
    assert browser.get_log("browser") == []


def test_it_asks_for_nothing(browser: webdriver.Chrome, report: Path) -> None:
    _open(browser, report, DESK)
    names = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in names if not name.startswith("data:")] == []


def test_the_dark_page_is_dark(browser: webdriver.Chrome, report: Path) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    _open(browser, report, DESK)
    colour = (
        "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color].map(c => +c.match(/\\d+/)[0])"
    )
    paper, ink = browser.execute_script(colour)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert paper < 40
    assert ink > 200


def test_in_print_the_spec_is_open(browser: webdriver.Chrome, report: Path) -> None:
    _open(browser, report, DESK)
    height = "return document.querySelector('details pre').getBoundingClientRect().height"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    printed = browser.execute_script(height)
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert printed > 500
    assert pdf.startswith(b"%PDF")
