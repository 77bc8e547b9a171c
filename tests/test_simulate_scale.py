"""The model of benchmarks/simulate_scale.py against closed forms; its inputs are made up here, round and distinct."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "simulate_scale.py"


@pytest.fixture(scope="module")
def model() -> Any:
    specification = importlib.util.spec_from_file_location("simulate_scale", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["simulate_scale"] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def costs(model: Any) -> Any:
    return model.Costs(
        latency=0.001, submit=0.0001, answer=0.0002, look=0.00003, pull=0.004, put=0.02, fixed=0.3, each=0.05, wire=0.04
    )


def test_one_evaluator_takes_the_sum_of_its_parts(model: Any, costs: Any) -> None:
    c, compute = costs, 2.0
    answer = c.latency + c.answer + c.look
    update = c.latency + (c.pull + c.wire) + (c.fixed + c.each)
    hand_out = c.put + c.pull + c.wire
    step = compute + c.put + answer + update + hand_out
    found = model.simulate(model.System(1, compute, costs))
    assert found.step_seconds == pytest.approx(step)
    assert found.evaluators_busy == pytest.approx(compute / step)


def test_many_evaluators_wait_for_every_answer_every_chunk_and_every_node(model: Any, costs: Any) -> None:
    c, compute, n = costs, 2.0, 64
    answers = c.latency + n * (c.answer + n * c.look)  # all end at once, and are taken one by one
    update = c.latency + (c.pull + n * c.wire) + (c.fixed + n * c.each)
    hand_out = c.put + c.pull + n / 8 * c.wire
    found = model.simulate(model.System(n, compute, costs))
    assert found.step_seconds == pytest.approx(compute + c.put + answers + update + hand_out)


def test_a_saturated_server_makes_a_step_in_its_receive_and_apply(model: Any, costs: Any) -> None:
    free = replace(costs, latency=0.0, submit=0.0, answer=0.0, look=0.0)
    receive, apply, _ = model.update_seconds(model.System(256, 0.1, free))
    found = model.simulate(model.System(256, 0.1, free, delay=8), steps=16, warm=16)
    assert found.step_seconds == pytest.approx(receive + apply)
    assert apply == pytest.approx(free.fixed + 256 * free.each)
    assert receive == pytest.approx(free.pull + 256 * free.wire)


def test_a_delay_of_one_hides_an_update_that_is_shorter_than_the_work(model: Any, costs: Any) -> None:
    work = 50.0 + costs.put
    found = model.simulate(model.System(16, 50.0, costs, delay=1))
    assert found.step_seconds == pytest.approx(work)


def test_several_items_for_an_evaluator_are_computed_one_after_another(model: Any, costs: Any) -> None:
    free = replace(
        costs, latency=0.0, submit=0.0, answer=0.0, look=0.0, pull=0.0, put=0.0, fixed=0.0, each=0.0, wire=0.0
    )
    assert model.simulate(model.System(3, 1.0, free, items=7)).step_seconds == pytest.approx(3.0)
    assert model.simulate(model.System(3, 1.0, free, items=7)).evaluators_busy == pytest.approx(7 / 9)
    assert model.simulate(model.System(3, 1.0, free, items=6, delay=1)).step_seconds == pytest.approx(2.0)


def test_a_slow_driver_is_the_bound(model: Any, costs: Any) -> None:
    slow = replace(
        costs, answer=0.5, submit=0.0, look=0.0, latency=0.0, each=0.0, fixed=0.0, pull=0.0, wire=0.0, put=0.0
    )
    found = model.simulate(model.System(100, 1.0, slow))
    assert found.step_seconds == pytest.approx(1.0 + 100 * 0.5)
    assert found.driver_busy > 0.9


def test_shards_divide_the_servers_part_but_not_a_nodes(model: Any, costs: Any) -> None:
    whole = model.update_seconds(model.System(1024, 1.0, costs))
    split = model.update_seconds(model.System(1024, 1.0, costs, servers=16))
    exchange = 4 * costs.latency + costs.pull
    assert split[0] - costs.pull == pytest.approx((whole[0] - costs.pull) / 16)
    assert split[1] - exchange == pytest.approx(whole[1] / 16)
    many = model.update_seconds(model.System(1024, 1.0, costs, servers=4096))
    assert many[0] == pytest.approx(costs.pull + 8 * costs.wire)  # eight evaluators send through one port


def test_a_tree_grows_with_the_logarithm(model: Any, costs: Any) -> None:
    parts = [sum(model.update_seconds(model.System(8**k, 1.0, costs, fan_in=8))) for k in (2, 3, 4)]
    assert parts[1] - parts[0] == pytest.approx(parts[2] - parts[1])


def test_the_measured_inputs_give_every_case(model: Any) -> None:
    inputs = json.loads(model.INPUTS.read_text())
    parts = model.costs(inputs, 40.0, 1.25e9)
    assert parts.wire == pytest.approx(0.032)
    assert 0 < parts.latency < 0.01
    assert 0 < parts.each < 1.0
    busy = [model.simulate(model.System(n, 10.0, parts)).evaluators_busy for n in (1, 16, 256)]
    assert busy[0] > busy[1] > busy[2]
