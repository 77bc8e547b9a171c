"""Where items are computed: in this process, or by evaluators on a Ray cluster; one interface.

An executor computes and reports; it decides nothing. Retries, order and the commit log belong to the crew, which owns
the items. A *handle* stands for arrays: the arrays themselves in this process, a reference into the object store on
Ray.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from raystill.actors.evaluator import compute
from raystill.actors.messages import Arrays, Outcome, WorkItem
from raystill.actors.parameter_server import Facts, ParameterServer
from raystill.platform import registry
from raystill.platform.data import DataSet
from raystill.platform.spec import DistillSpec
from raystill.platform.workbench import Workbench

Handle = Any


class Executor(Protocol):
    """What the crew needs of a place to compute."""

    def put(self, arrays: Arrays) -> Handle:
        """Arrays as a handle that items can take as input."""

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item; `avoid` names an evaluator that should not have it, where there is another."""

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """The next outcome with its arrays, or None after `timeout` seconds."""

    def call(self, method: str, *args: Any) -> Any:
        """A parameter server's method that returns no arrays."""

    def arrays(self, method: str, *args: Any) -> tuple[Facts, Handle]:
        """A parameter server's method that returns (facts, arrays); handles among `args` are resolved there."""

    def later(self, method: str, *args: Any) -> tuple[Callable[[], Facts], Handle]:
        """As `arrays`, without waiting: the facts are a function that waits, the handle can be used at once."""

    def fetch(self, handle: Handle) -> Arrays:
        """The arrays behind a handle, here."""

    def close(self) -> None:
        """Give back what was started."""


class InProcess:
    """Computes in this process, in the order of submission: for tests, debugging, and GPUs without Ray."""

    def __init__(
        self, spec: DistillSpec, groups: dict[str, str], plugins: registry.Plugins | None, data: DataSet
    ) -> None:
        self._bench = Workbench(spec, plugins, data)
        self._server = ParameterServer(spec.outer.model_dump(), groups)
        self._queue: deque[tuple[WorkItem, Handle]] = deque()

    def put(self, arrays: Arrays) -> Handle:
        """The arrays themselves."""
        return arrays

    def submit(self, item: WorkItem, inputs: Handle, avoid: int | None = None) -> None:
        """Queue an item; there is no other process to give it to."""
        self._queue.append((item, inputs))

    def next(self, timeout: float) -> tuple[Outcome, Handle] | None:
        """Compute the oldest item, now."""
        if not self._queue:
            return None
        item, inputs = self._queue.popleft()
        return compute(self._bench, -1, item, inputs)

    def call(self, method: str, *args: Any) -> Any:
        """A method of the server."""
        return getattr(self._server, method)(*args)

    def arrays(self, method: str, *args: Any) -> tuple[Facts, Handle]:
        """A method of the server that returns (facts, arrays)."""
        facts, arrays = getattr(self._server, method)(*args)
        return facts, arrays

    def later(self, method: str, *args: Any) -> tuple[Callable[[], Facts], Handle]:
        """As `arrays`: there is no one to wait for."""
        facts, arrays = self.arrays(method, *args)
        return (lambda: facts), arrays

    def fetch(self, handle: Handle) -> Arrays:
        """The arrays themselves."""
        arrays: Arrays = handle
        return arrays

    def close(self) -> None:
        """Nothing was started."""
