"""Shards of the parameter server as Ray actors: where they live, and what their loss looks like."""

from __future__ import annotations

from typing import Any

from raystill.actors import cluster
from raystill.actors.server.parameter_server import ParameterServer
from raystill.actors.server.shards import ServerLost
from raystill.platform.files.storage import is_remote
from raystill.platform.spec import DistillSpec


class OnActors:
    """Reaches shards on a Ray cluster; references are Ray's."""

    def __init__(self, spec: DistillSpec, groups: dict[str, str]) -> None:
        import ray

        self._ray: Any = ray
        self._spec, self._groups = spec, groups

    def start(self, number: int) -> Any:
        """An actor.

        Checkpoints may be files in the run folder, so shards live where that folder is; with checkpoints in a storage
        that all nodes reach, all but the first are spread over the nodes, each with a network port of its own.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=False)
        spread = number > 0 and is_remote(self._spec.run.storage or "")
        shard = self._ray.remote(ParameterServer).options(
            num_cpus=0, runtime_env=cluster.worker_environment(), scheduling_strategy="SPREAD" if spread else here
        )
        return shard.remote(self._spec.outer.model_dump(), self._groups, number)

    def send(self, shard: Any, method: str, returns: int, *args: Any) -> Any:
        """Submit a call; arrays stay in the object store."""
        return getattr(shard, method).options(num_returns=returns).remote(*args)

    def get(self, reference: Any, method: str) -> Any:
        """An answer, waited for.

        Raises:
            ServerLost: a shard, or an input of its, is gone.
            TimeoutError: it takes longer than `run.deadline`.
        """
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
        """End an actor without a word."""
        self._ray.kill(shard)
