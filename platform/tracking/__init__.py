"""MLflow, through one writer; a store that is lost never costs the run."""

from raystill.platform.tracking.store import (
    DATABASES,
    ENVIRONMENT,
    PARENT,
    address,
    children,
    found_again,
    later,
    new_run,
    opened,
    quiet,
    reachable,
)
from raystill.platform.tracking.tracker import Tracker, flatten

__all__ = [
    "DATABASES",
    "ENVIRONMENT",
    "PARENT",
    "Tracker",
    "address",
    "children",
    "flatten",
    "found_again",
    "later",
    "new_run",
    "opened",
    "quiet",
    "reachable",
]
