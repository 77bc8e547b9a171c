"""Searchers in ask and tell: a generation of architectures out, their scores in, in the order of their index.

A searcher is deterministic: the same seed, told the same scores, asks for the same architectures. That is what lets a
ledger be replayed into a fresh one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raystill.platform.architectures import Arch, Space
from raystill.platform.seeds import Address, numpy_rng

POPULATION, TOURNAMENT = 100, 25
"""Those of the paper: more than a generation, so that the best outlive the next one."""
TRIES = 50


class Searcher(Protocol):
    """What a search needs of a searcher."""

    def ask(self, many: int) -> list[Arch]:
        """The next generation."""

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """The scores of the generation that was asked for last, in its order."""


class Random:
    """Uniform draws, each new where there are new ones."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed, self._asked = space, seed, 0
        self._seen: set[str] = set()

    def ask(self, many: int) -> list[Arch]:
        """`many` draws."""
        return [self._draw() for _ in range(many)]

    def _draw(self) -> Arch:
        for n in range(TRIES):
            arch = self._space.sample(Address(self._seed, step=self._asked, member=n, stream="search/random"))
            if arch.text not in self._seen:
                break
        self._asked += 1
        self._seen.add(arch.text)
        return arch

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Nothing is learned."""


class Evolution:
    """Regularised evolution (Real 2019, 1802.01548): the winner of a tournament changes one choice, the oldest dies."""

    def __init__(self, space: Space, seed: int, population: int = POPULATION, tournament: int = TOURNAMENT) -> None:
        self._space, self._seed, self._asked, self._tournament = space, seed, 0, tournament
        self._first = Random(space, seed)
        self._alive: deque[tuple[Arch, float]] = deque(maxlen=population)
        self._seen: set[str] = set()

    def ask(self, many: int) -> list[Arch]:
        """Draws until the population is whole, then children of winners; those never asked for where there are such."""
        if len(self._alive) < (self._alive.maxlen or 0):
            found = self._first.ask(many)
        else:
            found = [self._child() for _ in range(many)]
        self._seen.update(arch.text for arch in found)
        return found

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
        """They join the population, in their order."""
        self._alive.extend(zip(archs, scores))


class Tpe:
    """Ray Tune's OptunaSearch: a tree-structured Parzen estimator over the genes."""

    def __init__(self, space: Space, seed: int) -> None:
        from ray import tune
        from ray.tune.search.optuna import OptunaSearch

        genes = {f"gene{i}": tune.choice(list(range(len(options)))) for i, options in enumerate(space.genes)}
        self._space, self._number = space, 0
        self._search: Any = OptunaSearch(genes, metric="score", mode="max", seed=seed)
        self._open: list[str] = []

    def ask(self, many: int) -> list[Arch]:
        """Suggestions; those that are no network are told as failed, and others asked for."""
        self._open = []
        found: list[Arch] = []
        for _ in range(TRIES * many):
            if len(found) == many:
                return found
            name, self._number = f"{self._number:08d}", self._number + 1
            config = self._search.suggest(name)
            try:
                genome = tuple(options[config[f"gene{i}"]] for i, options in enumerate(self._space.genes))
                found.append(self._space.arch(genome))
                self._open.append(name)
            except ValueError:
                self._search.on_trial_complete(name, error=True)
        raise ValueError(
            f"search.searcher: tpe found {len(found)} networks in {TRIES * many} suggestions; take another"
        )

    def tell(self, archs: Sequence[Arch], scores: Sequence[float]) -> None:
        """Completes the trials."""
        for name, score in zip(self._open, scores):
            self._search.on_trial_complete(name, {"score": float(score)})


SEARCHERS: dict[str, Callable[[Space, int], Searcher]] = {"random": Random, "evolution": Evolution, "tpe": Tpe}
