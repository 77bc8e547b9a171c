"""Everything that touches Ray: evaluators, the parameter server, the coordinator, and the pipeline around them."""

from raystill.actors.pipeline import Interrupted, assess_run, distill, resume

__all__ = ["Interrupted", "assess_run", "distill", "resume"]
