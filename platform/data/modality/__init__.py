"""Modalities: kinds of examples. A new one is a `Modality`, in one file, and a line in `MODALITIES`.

A source names its modality (`Raw.modality`). Users add theirs as plug-ins or entry points of `raystill.modalities`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raystill.platform import registry
from raystill.platform.data.modality.contract import Companion, Encoded, Modality, Payload, Rendering, Request
from raystill.platform.data.modality.image import IMAGE
from raystill.platform.data.modality.text import TEXT

__all__ = [
    "IMAGE", "MODALITIES", "TEXT", "Companion", "Encoded", "Modality", "Payload", "Rendering", "Request", "modality",
    "of_manifest",
]  # fmt: skip

MODALITIES: dict[str, Modality] = {"image": IMAGE, "text": TEXT}


def modality(name: str, plugins: registry.Plugins | None = None, field: str = "data.source") -> Modality:
    """Look up a modality by name.

    Raises:
        ValueError: an unknown name, or a part that is not a `Modality`.
    """
    part = registry.resolve("modalities", name, MODALITIES, plugins, field)
    if not isinstance(part, Modality):
        raise ValueError(f"{field}: {name!r} is {type(part).__name__}, expected a raystill Modality")
    return part


def of_manifest(manifest: Mapping[str, Any], plugins: registry.Plugins | None = None) -> Modality:
    """The modality of distilled data: image where the manifest names none; ValueError for an unknown one."""
    return modality(str(manifest.get("modality", "image")), plugins, "manifest.modality")
