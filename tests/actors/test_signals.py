"""When a first signal is heeded: at once, or after work that must not be cut in half."""

from __future__ import annotations

import os
import signal

import pytest

from raystill.actors.signals import Stopped, stopping, whole


def ask(sign: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), sign)


def stopped_by(sign: signal.Signals, done: list[str]) -> Stopped:
    with pytest.raises(Stopped) as stop, stopping():
        work(sign, done)
    return stop.value


def work(sign: signal.Signals, done: list[str]) -> None:
    with whole():
        with whole():
            ask(sign)
            done.append("inner")
        done.append("outer")
    done.append("more")


def failing() -> None:
    with whole():
        ask()
        raise ArithmeticError


def test_a_signal_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stop, stopping():
        ask()
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_whole_work_is_done_before_a_stop(sign: signal.Signals, code: int) -> None:
    done: list[str] = []
    assert stopped_by(sign, done).code == code
    assert done == ["inner", "outer"]


def test_work_that_fails_tells_its_own_error_and_the_stop_waits() -> None:
    done: list[str] = []
    with stopping():
        with pytest.raises(ArithmeticError):
            failing()
        with pytest.raises(Stopped), whole():
            done.append("the next whole work")
    assert done
