"""A command's work on a run folder as MLflow sees it: the run ends as FINISHED, KILLED or FAILED."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raystill.platform.runs import resumable
from raystill.platform.tracking.tracker import Tracker


@contextmanager
def carried_out(folder: Path, tracker: Tracker) -> Iterator[None]:
    """Do a command's work inside; the MLflow run is finished as it ended, with a warning where it lacks something.

    Raises:
        Interrupted: the work was stopped; the message is the command that goes on.
    """
    try:
        with resumable(folder):
            yield
    except BaseException as error:
        tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    if not tracker.finish():
        print(f"warning: MLflow lacks some of this run ({tracker.trouble}); `raystill resume {folder}` adds it")
