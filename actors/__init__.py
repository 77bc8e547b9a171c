"""Everything that touches Ray: evaluators, the parameter server, the coordinator, and the pipeline around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raystill.actors.drive.pipeline import Interrupted, assess_run, distill, resume

__all__ = ["Interrupted", "assess_run", "distill", "resume"]


def __getattr__(name: str) -> Any:
    """The public names, loaded when they are asked for: commands that compute nothing need no torch."""
    if name in __all__:
        from raystill.actors.drive import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
