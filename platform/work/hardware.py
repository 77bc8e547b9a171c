"""What the bits of a result depend on beside its spec: processor, device, and the libraries that compute."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return os.uname().machine
    wanted = ("model name", "cpu family", "model", "stepping")
    fields = dict(
        line.split(":", 1) for line in text.splitlines() if ":" in line and line.split(":")[0].strip() in wanted
    )
    return " ".join(v.strip() for k, v in sorted(fields.items())) or os.uname().machine


@lru_cache
def fingerprint(device: str) -> str:
    """One line; where it is the same, the same work gives the same bits.

    Args:
        device: `cpu` or `cuda`.
    """
    import torch

    chip = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{_processor()} {torch.backends.cpu.get_cpu_capability()}"
    )
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return f"{chip}; torch {version('torch')}; numpy {version('numpy')}; python {python}"
