"""When a first signal is heeded: at once, or after work that must not be cut in half."""

from __future__ import annotations

import os
import signal

import pytest

from raystill.actors.signals import Stopped, stopping, whole


def ask(sign: signal.Signals = signal.SIGTERM) -> None:
    os.kill(os.getpid(), sign)


def test_a_signal_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stop, stopping():
        ask()
        raise AssertionError("not stopped")
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_whole_work_is_done_before_a_stop() -> None:
    done = []
    with pytest.raises(Stopped) as stop, stopping():
        with whole():
            with whole():
                ask(signal.SIGINT)
                done.append(1)
            done.append(2)
        done.append("not stopped")
    assert done == [1, 2]
    assert stop.value.code == 130


def test_work_that_fails_tells_its_own_error_and_the_stop_waits() -> None:
    with pytest.raises(Stopped), stopping():
        with pytest.raises(ArithmeticError), whole():
            ask()
            raise ArithmeticError
        with whole():
            pass
        raise AssertionError("not stopped")
