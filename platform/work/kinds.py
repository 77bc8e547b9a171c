"""The kinds of work items: pure functions (workbench, address, options, inputs) -> (numbers, arrays).

A kind is one function, one frozen class of options, and one line of `KINDS`. The same address gives the same bits,
whoever computes the item, where, how often, and after which failure.

All kinds have one signature; the docstring of each says what it computes, and which arrays it reads and returns.

Args:
    bench: the run's spec, data and parts, built once in each process.
    address: run seed, attempt, outer step, member and stream; every random draw of the item derives from it.
    options: settings of the kind, an instance of its `Kind.options`.
    inputs: arrays by name, such as meta-parameters or a distilled set.

Returns:
    Numbers by name, such as `accuracy`, a share in [0, 1]; and arrays by name, empty where a kind has none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raystill.platform.evaluation import protocol
from raystill.platform.seeds import Address
from raystill.platform.work import assessing, meta_gradient, student_grid
from raystill.platform.work.workbench import Arrays, Inputs, Numbers, Workbench


@dataclass(frozen=True)
class Kind:
    """A kind of work item.

    Attributes:
        function: computes an item.
        options: the frozen dataclass that items of this kind carry as their options.
    """

    function: Callable[[Workbench, Address, Any, Inputs], tuple[Numbers, Arrays]]
    options: type[Any]

    def __call__(self, bench: Workbench, address: Address, options: Any, inputs: Inputs) -> tuple[Numbers, Arrays]:
        """Compute an item; the module's docstring describes arguments and results.

        Raises:
            TypeError: the options are those of another kind.
        """
        if not isinstance(options, self.options):
            raise TypeError(f"options: {type(options).__name__} for work that takes {self.options.__name__}")
        return self.function(bench, address, options, inputs)


KINDS: dict[str, Kind] = {
    "meta_gradient": Kind(meta_gradient.meta_gradient, meta_gradient.MetaGradientOptions),
    "validate": Kind(meta_gradient.validate, meta_gradient.ValidateOptions),
    "train_network": Kind(assessing.train_network, protocol.TrainNetworkOptions),
    "untrained": Kind(assessing.untrained, protocol.UntrainedOptions),
    "train_full": Kind(assessing.train_full, protocol.TrainFullOptions),
    "real_set": Kind(assessing.real_set, protocol.RealSetOptions),
    "nearest": Kind(assessing.nearest, protocol.NearestOptions),
    "label": Kind(assessing.label, protocol.LabelOptions),
    "teacher": Kind(student_grid.teacher, student_grid.TeacherOptions),
    "grade": Kind(student_grid.grade, student_grid.GradeOptions),
    "students": Kind(student_grid.students, student_grid.StudentsOptions),
}
