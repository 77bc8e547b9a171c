"""Searchers in ask and tell: a generation of architectures out, their scores in, in the same order.

A searcher is deterministic: with the same seed and the same scores it proposes the same architectures. A resumed
search relies on it: the ledger's scores are told to a fresh searcher.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from raystill.platform.architectures import Arch, Space
from raystill.platform.seeds import Address, numpy_rng

POPULATION, TOURNAMENT = 100, 25
"""Those of the paper: more than a generation, so that the best outlive the next one."""
TRIES = 50
"""Proposals in place of one that was seen before, or is no network."""


class Searcher(Protocol):
    """A way to propose architectures."""

    def ask(self, count: int) -> list[Arch]:
        """The next generation."""

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Take the scores of the generation that was asked for last, in its order."""


class Random:
    """Uniform samples of the space; one that was seen before is replaced, where others are left."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed, self._asked = space, seed, 0
        self._seen: set[str] = set()

    def ask(self, count: int) -> list[Arch]:
        """`count` samples."""
        return [self._sample() for _ in range(count)]

    def _sample(self) -> Arch:
        for n in range(TRIES):
            arch = self._space.sample(Address(self._seed, step=self._asked, member=n, stream="search/random"))
            if arch.text not in self._seen:
                break
        self._asked += 1
        self._seen.add(arch.text)
        return arch

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Ignore the scores."""


class Evolution:
    """Regularised evolution (Real et al. 2019, 1802.01548).

    A child is the winner of a tournament with one choice changed; the oldest of the population dies.
    """

    def __init__(self, space: Space, seed: int, population: int = POPULATION, tournament: int = TOURNAMENT) -> None:
        self._space, self._seed, self._asked, self._tournament = space, seed, 0, tournament
        self._random = Random(space, seed)
        self._alive: deque[tuple[Arch, float]] = deque(maxlen=population)
        self._seen: set[str] = set()

    def ask(self, count: int) -> list[Arch]:
        """Random samples until the population is whole, then children, those never proposed where there are such."""
        whole = len(self._alive) == self._alive.maxlen
        archs = [self._child() for _ in range(count)] if whole else self._random.ask(count)
        self._seen.update(arch.text for arch in archs)
        return archs

    def _child(self) -> Arch:
        address = Address(self._seed, step=self._asked, stream="search/evolution")
        self._asked += 1
        alive = list(self._alive)
        for n in range(TRIES):
            rows = numpy_rng(address.at(member=n)).choice(len(alive), min(self._tournament, len(alive)), replace=False)
            parent = alive[max(rows.tolist(), key=lambda row: (alive[row][1], -row))][0]
            child = self._space.mutate(parent, address.at(member=n, stream="search/mutation"))
            if child.text not in self._seen:
                break
        self._seen.add(child.text)
        return child

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Add them to the population, in their order."""
        self._alive.extend(zip(archs, scores))


class Tpe:
    """Optuna's tree-structured Parzen estimator over the genes (Bergstra et al. 2011)."""

    def __init__(self, space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._genes: dict[str, optuna.distributions.BaseDistribution] = {
            f"gene{i}": optuna.distributions.CategoricalDistribution(range(len(options)))
            for i, options in enumerate(space.genes)
        }
        self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self._open: list[optuna.Trial] = []

    def ask(self, count: int) -> list[Arch]:
        """Suggest networks; a genome that is no network counts as a failed trial, and is replaced."""
        from optuna.trial import TrialState

        self._open = []
        archs: list[Arch] = []
        for _ in range(TRIES * count):
            if len(archs) == count:
                return archs
            trial = self._study.ask(self._genes)
            genome = tuple(options[trial.params[f"gene{i}"]] for i, options in enumerate(self._space.genes))
            try:
                archs.append(self._space.arch(genome))
                self._open.append(trial)
            except ValueError:
                self._study.tell(trial, state=TrialState.FAIL)
        raise ValueError(
            f"searcher: tpe suggested {len(archs)} of {count} networks in {TRIES * count} suggestions; take another"
        )

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Complete the trials."""
        for trial, score in zip(self._open, scores):
            self._study.tell(trial, score)


SEARCHERS: dict[str, Callable[[Space, int], Searcher]] = {"random": Random, "evolution": Evolution, "tpe": Tpe}
