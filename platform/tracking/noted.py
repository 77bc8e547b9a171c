"""The MLflow run of a run folder, whose id is noted in the folder, so that a resumed run goes on in it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from raystill.platform.files import documents
from raystill.platform.files.storage import Storage
from raystill.platform.spec import TrackingSpec
from raystill.platform.tracking.tracker import Tracker

NOTE = "tracking.json"


def noted(
    spec: TrackingSpec, home: Storage, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> tuple[Tracker, bool]:
    """The MLflow run that an earlier session noted, or else a new one, which is noted at once.

    Args:
        home: the run's root: its folder, or its place in a storage.
        name: the run's.
        params: nested mapping, the resolved spec.

    Returns:
        The tracker, and whether an earlier session had it.

    Raises:
        ValueError: the store can not be reached, or has no such run.
    """
    run_id: str | None = None
    with suppress(OSError, ValueError, KeyError):
        run_id = str(documents.decode(home.read(NOTE, 10_000), NOTE)["run_id"])
    tracker = Tracker.start(spec, name, params, tags, run_id)
    if tracker.run_id and tracker.run_id != run_id:
        home.write(NOTE, documents.encode({"run_id": tracker.run_id}))
    return tracker, run_id is not None
