"""What a search over hyperparameters may be asked for, and whether the cluster has room for it."""

from __future__ import annotations

from typing import Any

import pytest

from raystill.platform.spec import DistillSpec
from raystill.search.tune.placement import bundles, fits
from raystill.search.tune.space import applied, domain, domains


def test_domains_are_read() -> None:
    assert domain("loguniform:1e-3:1e-1") == ("loguniform", [0.001, 0.1])
    assert domain("int:1:4") == ("int", [1, 4])
    assert domain("choice:16,32,cosine") == ("choice", [16, 32, "cosine"])


@pytest.mark.parametrize("text", ["loguniform:0:1", "uniform:2:1", "int:a:b", "choice", "normal:0:1", "uniform:1"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no domain; valid: uniform:a:b"):
        domain(text)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ("outer.lrr=uniform:0.1:1", r"outer.lrr: unknown field; did you mean outer.lr\?"),
        ("inner.epochs=int:1:3", r"inner.epochs: unknown field; did you mean synthesizer.epochs\?"),
        ("outer.lr=uniform:-1:1", "outer.lr"),
        ("outer.members=choice:3", "multiple of outer.chunk"),
        ("outer.lr", "no field=domain"),
        ("run.seed=int:0:3", "does not change how well"),
    ],
)
def test_fields_are_checked_at_their_ends(over: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        domains([over], DistillSpec())


def test_inner_steps_are_the_synthesizers_whoever_is_asked() -> None:
    found = domains(["inner.steps=choice:1,2"], DistillSpec())
    assert found == {"synthesizer.steps": ("choice", [1, 2])}


def test_a_trial_that_computes_itself_on_a_gpu_books_it() -> None:
    spec = DistillSpec.model_validate({"run": {"workers": 0, "device": "cuda"}})
    assert bundles(spec) == [{"CPU": 1.0, "GPU": 1.0}]


def test_values_reach_their_fields() -> None:
    spec = applied(DistillSpec(), {"outer.lr": 0.3, "synthesizer.epochs": 2})
    assert (spec.outer.lr, spec.synthesizer.epochs) == (0.3, 2)


def workers(many: int) -> list[dict[str, float]]:
    return bundles(DistillSpec.model_validate({"run": {"workers": many}}))


@pytest.mark.parametrize(
    ("many", "nodes", "trials"),
    [(0, [{"CPU": 2.0}], 2), (1, [{"CPU": 3.0}], 2), (2, [{"CPU": 2.0}, {"CPU": 2.0}], 1), (1, [{"CPU": 1.5}], 1)],
)
def test_trials_that_fit(many: int, nodes: list[dict[str, Any]], trials: int) -> None:
    assert fits(workers(many), nodes) == trials


def test_a_trial_that_never_fits_is_refused_before_it_waits() -> None:
    with pytest.raises(ValueError, match=r"takes 4 bundles with 3.01 CPU .* has 2 CPU"):
        fits(workers(3), [{"CPU": 2.0}])
    with pytest.raises(ValueError, match="take fewer workers"):  # enough in all, and no node for the second bundle
        fits([{"CPU": 2.0}, {"CPU": 2.0}], [{"CPU": 3.0}, {"CPU": 1.0}])
