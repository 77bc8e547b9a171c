"""Seeds are addresses: every random number is drawn from a generator named by where it is used.

An address is (run seed, attempt, step, member, stream). Two processes with the same address draw the same
numbers, so work can be retried, copied and resumed. No other file creates generators.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch


class Address(NamedTuple):
    """Names one stream of random numbers."""

    seed: int
    attempt: int = 0
    step: int = 0
    member: int = 0
    stream: str = ""

    def at(self, **changes: int | str) -> Address:
        """The same address with some coordinates changed."""
        return self._replace(**changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"seed={self.seed} attempt={self.attempt} step={self.step} member={self.member} stream={self.stream}"


def _sequence(address: Address) -> np.random.SeedSequence:
    # crc32 is fixed by its standard; Python's hash() of a string differs between processes
    return np.random.SeedSequence((*address[:4], zlib.crc32(address.stream.encode())))


def numpy_rng(address: Address) -> np.random.Generator:
    """Numpy generator of an address (Philox, counter-based)."""
    return np.random.Generator(np.random.Philox(_sequence(address)))


def torch_rng(address: Address) -> torch.Generator:
    """CPU torch generator of an address; draw on the CPU and move, so that the device does not matter."""
    generator = torch.Generator(device="cpu")
    generator.manual_seed(int(_sequence(address).generate_state(1, np.uint64)[0] >> np.uint64(1)))
    return generator


@contextmanager
def fixed_global() -> Iterator[None]:
    """Run a block under a fixed global torch seed and restore the old one.

    For the constructors of other people's modules, which draw from the global generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def global_at(address: Address) -> Iterator[None]:
    """Run a block with torch's global generators at an address and restore the old ones.

    For other people's code that draws from them: torchvision's transforms, dropout.
    """
    seed = int(_sequence(address).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        torch.manual_seed(seed)
        yield
