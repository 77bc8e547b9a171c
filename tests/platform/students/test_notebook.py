"""A student's result in a notebook."""

from __future__ import annotations

import torch
from torch import nn

from raystill.platform.objectives import make
from raystill.platform.seeds import Address, torch_rng
from raystill.platform.students import Result, fit


def test_a_result_shows_network_steps_and_the_terms_of_its_loss() -> None:
    x = torch.randn(40, 6, generator=torch_rng(Address(1)))
    result = fit(
        nn.Linear(6, 3), (x, torch.arange(40) % 3), make("cross_entropy"), seed=Address(1), steps=30, log_every=10
    )
    last = result.history[-1]["loss"]
    assert repr(result).startswith(f"Result(Linear of 21 parameters: 30 steps, loss {last:.4g}, ")
    text = result._repr_html_()
    assert f"{result.history[0]['loss']:.4g} at first, {last:.4g} at the end" in text
    assert text.count("<svg") == 1
    assert len(text) < 10_000


def test_names_of_terms_are_escaped_and_an_untrained_student_has_no_curve() -> None:
    history = [{"step": 1.0, "loss": 2.0, "<b>": 1.0}, {"step": 2.0, "loss": 1.0, "<b>": 0.5}]
    text = Result(nn.Linear(2, 2), history, True, 0.5)._repr_html_()
    assert "&lt;b&gt;</th>" in text
    assert "1 at first, 0.5 at the end" in text
    untrained = Result(nn.Linear(2, 2), [], False, 0.0)
    assert repr(untrained) == "Result(Linear of 6 parameters: not trained, 0.0 s)"
    assert "<svg" not in untrained._repr_html_()
