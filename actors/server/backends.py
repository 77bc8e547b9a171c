"""Where the shards of a parameter server live, and how to call them: in this process, or as Ray actors."""

from __future__ import annotations

from typing import Any, Protocol

from raystill.actors import cluster
from raystill.actors.server.parameter_server import ParameterServer
from raystill.platform.files.storage import is_remote
from raystill.platform.spec import DistillSpec, OuterSpec


class ServerLost(RuntimeError):
    """A shard is gone, or arrays that only it could compute again; the newest checkpoint is the way on."""


class Backend(Protocol):
    """Starts, calls and ends shards. A reference stands for a result that may not exist yet."""

    def start(self, number: int) -> Any:
        """A new shard, without state."""

    def send(self, shard: Any, method: str, returns: int, *args: Any) -> Any:
        """Call a method of a shard; its calls run in the order in which they were sent.

        Args:
            returns: number of references that come back, one for each value that the method returns.
            args: references among them are resolved first.
        """

    def get(self, reference: Any, method: str) -> Any:
        """Wait for the result behind a reference.

        Raises:
            ServerLost: it will not come.
            TimeoutError: it takes longer than `run.deadline`.
        """

    def kill(self, shard: Any) -> None:
        """End a shard as a crash would."""


class InProcessBackend:
    """Shards in this process; a reference is the result itself."""

    def __init__(self, spec: OuterSpec, groups: dict[str, str]) -> None:
        self._spec, self._groups = spec.model_dump(), groups
        self._alive: list[ParameterServer] = []

    def start(self, number: int) -> ParameterServer:
        """A new shard, without state."""
        self._alive.append(ParameterServer(self._spec, self._groups, number))
        return self._alive[-1]

    def send(self, shard: ParameterServer, method: str, returns: int, *args: Any) -> Any:
        """Call a method now."""
        if shard not in self._alive:
            raise ServerLost(f"shard {shard.number} of the parameter server is gone at {method}")
        return getattr(shard, method)(*args)

    def get(self, reference: Any, method: str) -> Any:
        """The reference, which is the result."""
        return reference

    def kill(self, shard: ParameterServer) -> None:
        """Lose the shard's state, after the checkpoint that it is writing: no thread can be killed here."""
        shard.saved(True)
        self._alive = [other for other in self._alive if other is not shard]


class RayBackend:
    """Shards as Ray actors; references are Ray's."""

    def __init__(self, spec: DistillSpec, groups: dict[str, str]) -> None:
        import ray

        self._ray: Any = ray
        self._spec, self._groups = spec, groups

    def start(self, number: int) -> Any:
        """A new actor.

        Checkpoints may be files in the run folder, so shards live on the driver's node. Where checkpoints go to a
        storage that all nodes reach, all shards but the first are spread over the nodes, for more network ports.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        spread = number > 0 and is_remote(self._spec.run.storage or "")
        actor = self._ray.remote(ParameterServer).options(
            num_cpus=0, runtime_env=cluster.worker_environment(), scheduling_strategy="SPREAD" if spread else here
        )
        return actor.remote(self._spec.outer.model_dump(), self._groups, number)

    def send(self, shard: Any, method: str, returns: int, *args: Any) -> Any:
        """Submit a call; arrays stay in the object store."""
        return getattr(shard, method).options(num_returns=returns).remote(*args)

    def get(self, reference: Any, method: str) -> Any:
        """Wait for a result; raises as `Backend.get`."""
        errors, deadline = self._ray.exceptions, self._spec.run.deadline
        try:
            return self._ray.get(reference, timeout=deadline)
        except errors.GetTimeoutError:
            raise TimeoutError(
                f"the parameter server's {method} gave no answer in {deadline:.0f} s (run.deadline)"
            ) from None
        except errors.RayTaskError as error:
            if isinstance(error.cause, errors.RayError):
                raise ServerLost(f"an input of the server's {method} is gone: {type(error.cause).__name__}") from None
            raise
        except errors.RayError as error:
            raise ServerLost(f"the parameter server is gone at {method}: {type(error).__name__}") from None

    def kill(self, shard: Any) -> None:
        """Kill the actor."""
        self._ray.kill(shard)
