"""Learn the training data itself.

The names below are loaded when they are asked for, so that `import raystill` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raystill.actors.drive.pipeline import distill
    from raystill.platform.artifacts import load_distilled
    from raystill.platform.recipes import recipe
    from raystill.platform.report.notebook import load_run

__all__ = ["distill", "load_distilled", "load_run", "recipe"]

_HOMES = {
    "distill": "raystill.actors.drive.pipeline",
    "load_distilled": "raystill.platform.artifacts",
    "load_run": "raystill.platform.report.notebook",
    "recipe": "raystill.platform.recipes",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
