"""Students: networks trained on data and by teachers, all in one loop."""

from raystill.platform.students.checkpoints import Checkpoints
from raystill.platform.students.examples import Examples, Fixed, Some
from raystill.platform.students.loop import Result, fit
from raystill.platform.students.optimisers import OptimizerSpec

__all__ = ["Checkpoints", "Examples", "Fixed", "OptimizerSpec", "Result", "Some", "fit"]
