"""torch tensors by name, with facts about them, in files of `arrays`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from raystill.platform.files import arrays


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a file, whole or not at all.

    Args:
        tensors: on any device.
        facts: JSON-able.

    Raises:
        ValueError: it can not be written.
    """
    arrays.write(path, {name: value.detach().cpu().numpy() for name, value in tensors.items()}, facts)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the facts that `write` was given.

    Raises:
        ValueError: missing, too large, torn, altered or foreign.
    """
    values, facts = arrays.read(path)
    return {name: torch.from_numpy(value.copy()) for name, value in values.items()}, facts
