"""Checkpoints of a training: it resumes from the newest one whose hash matches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from raystill.platform import runs
from raystill.platform.files import tensors as weights


@dataclass(frozen=True)
class Checkpoints:
    """A folder of files `step-00000100.safetensors`; a torn one is skipped for the one before.

    Attributes:
        identity: of the training; checkpoints of another are refused.
        every: steps between checkpoints; 0 writes none.
        keep: how many of the newest files stay.
    """

    folder: Path
    identity: str
    every: int = 200
    keep: int = 2

    def write(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint and delete the oldest ones; ValueError where the folder can not be written."""
        header = {**facts, "step": step, "identity": self.identity}
        weights.write(self.folder / f"step-{step:08d}.safetensors", tensors, header)
        for old in self._files()[: -self.keep]:
            old.unlink(missing_ok=True)

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of the newest whole checkpoint, or None.

        Raises:
            ValueError: it belongs to another training.
        """
        for file in reversed(self._files()):
            with suppress(ValueError):
                tensors, facts = weights.read(file)
                break
        else:
            return None
        if facts["identity"] != self.identity:
            raise ValueError(
                f"{self.folder} belongs to another training (its newest checkpoint is {file.name}); take another "
                "folder, or remove it"
            )
        return tensors, facts

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder; ValueError where another training has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with runs.locked(self.folder):
            yield

    def clear(self) -> None:
        """Delete all checkpoints."""
        for file in self._files():
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors")) if self.folder.is_dir() else []


def pack(modules: Mapping[str, nn.Module], optimizer: Optimizer, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Collect the networks, the optimiser's moments and the objective's state as tensors by name."""
    tensors = {f"{name}/{key}": v for name, module in modules.items() for key, v in module.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{i}/{key}": v for key, v in moments.items() if isinstance(v, Tensor)}
    return tensors | {f"state/{key}": v for key, v in state.items()}


def unpack(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], modules: Mapping[str, nn.Module], optimizer: Optimizer
) -> dict[str, Tensor]:
    """Load packed tensors into networks and optimiser.

    Args:
        tensors: as `pack` returns them.
        facts: of the checkpoint; `optimizer` has the `plain_moments`.
        modules, optimizer: as given to `pack`; changed in place.

    Returns:
        The objective's state.
    """

    def under(name: str) -> dict[str, Tensor]:
        return {key[len(name) + 1 :]: v for key, v in tensors.items() if key.startswith(f"{name}/")}

    for name, module in modules.items():
        module.load_state_dict(under(name))
    moments: dict[int, dict[str, Any]] = {int(i): dict(plain) for i, plain in facts.get("optimizer", {}).items()}
    for key, v in under("optimizer").items():
        i, _, kind = key.partition("/")
        moments.setdefault(int(i), {})[kind] = v
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return under("state")


def plain_moments(optimizer: Optimizer) -> dict[str, dict[str, Any]]:
    """The values in an optimiser's state that are not tensors, JSON-able."""
    state = optimizer.state_dict()["state"]
    return {str(i): {k: v for k, v in moments.items() if not isinstance(v, Tensor)} for i, moments in state.items()}
