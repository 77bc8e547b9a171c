"""MLflow, through one writer; a store that is lost never costs the run."""

from raystill.platform.tracking.carried_out import carried_out
from raystill.platform.tracking.noted import noted
from raystill.platform.tracking.store import PARENT, children, found_again, reachable
from raystill.platform.tracking.tracker import Tracker

__all__ = ["PARENT", "Tracker", "carried_out", "children", "found_again", "noted", "reachable"]
