"""Distilled data: in memory, on disk, as pictures, and in the formats of other tools."""

from raystill.platform.artifacts.distilled import Distilled
from raystill.platform.artifacts.files import (
    DATA,
    FORMAT,
    GENERATOR,
    MANIFEST,
    MAX_FILE,
    MAX_MANIFEST,
    PREVIEW,
    RESERVED,
    THETA0,
    load_distilled,
    save_distilled,
)  # fmt: skip

__all__ = [
    "DATA", "FORMAT", "GENERATOR", "MANIFEST", "MAX_FILE", "MAX_MANIFEST", "PREVIEW", "RESERVED", "THETA0",
    "Distilled", "load_distilled", "save_distilled",
]  # fmt: skip
