"""How a command that works on a run folder is stopped, and what the user is told then."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Stopped(KeyboardInterrupt):
    """The run was asked to stop.

    Attributes:
        signum: the signal.
        code: exit status, 130 after Ctrl-C and 143 after SIGTERM.
    """

    def __init__(self, signum: int = signal.SIGINT, text: str = "stopped") -> None:
        super().__init__(text)
        self.signum, self.code = signum, 128 + signum


class Interrupted(Stopped):
    """The run was stopped by the user, and can go on."""


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Work on a run folder that a stop leaves in a state to go on from.

    Raises:
        Interrupted: the work was stopped; the message is the command that goes on.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        raise Interrupted(signum, f"stopped; go on with: raystill resume {folder}") from None
