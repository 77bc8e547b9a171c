"""The folder of a run: made once, known by its `spec.yaml`, held by one process at a time."""

from raystill.platform.runs.folder import MAKERS, SPEC, create, dump, load, load_as, locked, made_by, writable
from raystill.platform.runs.interruption import Interrupted, Stopped, resumable

__all__ = [
    "MAKERS", "SPEC", "Interrupted", "Stopped", "create", "dump", "load", "load_as", "locked", "made_by", "resumable",
    "writable",
]  # fmt: skip
