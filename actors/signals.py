"""Ctrl-C and SIGTERM: the first stops a run at a good place, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from raystill.platform.runs import Stopped


class _Asked:
    """What the process was asked for, and whether now is a time to do it; handlers of signals are the process's own."""

    signum: int | None = None
    depth = 0


@contextmanager
def stopping() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into Stopped, the second into an end without further words.

    To be entered after `ray.init`, which puts a SIGTERM handler of its own in place of an earlier one. Elsewhere than
    in the main thread, which alone gets signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Asked.signum = None

    def handle(signum: int, frame: FrameType | None) -> None:
        if _Asked.signum is not None:
            os._exit(128 + signum)
        _Asked.signum = signum
        if not _Asked.depth:
            raise Stopped(signum)

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def whole() -> Iterator[None]:
    """Work that a first signal must not cut in half: Stopped is raised once it is done.

    Where the work fails, its own error goes on, and the stop waits for the next whole work.
    """
    _Asked.depth += 1
    try:
        yield
    finally:
        _Asked.depth -= 1
    if _Asked.signum is not None and not _Asked.depth:
        raise Stopped(_Asked.signum)
