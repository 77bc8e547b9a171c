"""The run folder: where everything about a run lies, and how it is made and found again."""

from raystill.platform.runs.folder import (
    MAKER,
    OTHERS,
    Saved,
    Spec,
    begin,
    create,
    dump,
    load,
    load_as,
    locked,
    made_by,
    writable,
)

__all__ = [
    "MAKER",
    "OTHERS",
    "Saved",
    "Spec",
    "begin",
    "create",
    "dump",
    "load",
    "load_as",
    "locked",
    "made_by",
    "writable",
]
