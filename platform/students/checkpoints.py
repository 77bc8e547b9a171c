"""Where a training stands, in files: the newest that proves itself is gone on from."""

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
    """A folder of step files, `step-00000100.safetensors`; a writer may die anywhere, the one before then serves.

    Attributes:
        identity: of what is trained; files of another are refused.
        every: steps between files; 0 writes none.
        keep: files that stay.
    """

    folder: Path
    identity: str
    every: int = 200
    keep: int = 2

    def write(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Keep where a training stands.

        Raises:
            ValueError: it can not be written.
        """
        told = {**facts, "step": step, "identity": self.identity}
        weights.write(self.folder / f"step-{step:08d}.safetensors", tensors, told)
        for old in self._files()[: -self.keep]:
            old.unlink(missing_ok=True)

    def newest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest whole one; None where there is none.

        Raises:
            ValueError: one that is whole, and of another training.
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
    def held(self) -> Iterator[None]:
        """Keep the folder for one training at a time.

        Raises:
            ValueError: another one writes into it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with runs.locked(self.folder):
            yield

    def clear(self) -> None:
        """Remove them: the training is done."""
        for file in self._files():
            file.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors")) if self.folder.is_dir() else []


def pack(modules: Mapping[str, nn.Module], optimizer: Optimizer, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Networks, moments of the optimiser and the objective's state as tensors by name."""
    found = {f"{name}/{key}": v for name, module in modules.items() for key, v in module.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        found |= {f"optimizer/{i}/{key}": v for key, v in moments.items() if isinstance(v, Tensor)}
    return found | {f"state/{key}": v for key, v in state.items()}


def unpack(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], modules: Mapping[str, nn.Module], optimizer: Optimizer
) -> dict[str, Tensor]:
    """Put what `pack` found back where it was; returns the objective's state."""

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
    """What an optimiser keeps that is no tensor, JSON-able."""
    state = optimizer.state_dict()["state"]
    return {str(i): {k: v for k, v in kept.items() if not isinstance(v, Tensor)} for i, kept in state.items()}
