"""Which scan is registered to which in an iteration: a function of the seed and a number alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vxmprep.training.errors import TrainingError
from vxmprep.training.packing import Entry

ORDER, PARTNER = 0, 1
"""What a draw is for; draws for different ends are independent."""


@dataclass(frozen=True)
class Pair:
    """Places in a cohort; the fixed image is the atlas where it is None."""

    moving: int
    fixed: int | None = None


class PairSampler:
    """Pairs of a training by their number; every scan is moved once before one is moved again.

    Parameters
    ----------
    entries
        Scans of the cohort.
    indices
        Those that train.
    pairs
        ``atlas`` or ``subjects``.
    seed
        Of the draws.

    Raises
    ------
    TrainingError
        If there is one scan only, and pairs of subjects are wanted.
    """

    def __init__(
        self, entries: Sequence[Entry], indices: Sequence[int], pairs: str, seed: int
    ) -> None:
        self.indices, self.seed = tuple(indices), seed
        self.to_atlas = pairs == "atlas"
        people = [entries[index].participant for index in self.indices]
        self.people = people if len(set(people)) > 1 else list(range(len(people)))
        if not self.to_atlas and len(self.indices) < 2:
            raise TrainingError("pairs is 'subjects', but one scan trains; give more, or 'atlas'")
        self._order = functools.lru_cache(maxsize=2)(self._order)

    def __call__(self, number: int) -> Pair:
        """Give the pair of a number, counted from 0."""
        count = len(self.indices)
        place = self._order(number // count)[number % count]
        if self.to_atlas:
            return Pair(self.indices[place])
        draw = np.random.default_rng([self.seed, PARTNER, number])
        partner = place
        while self.people[partner] == self.people[place]:
            partner = int(draw.integers(count))
        return Pair(self.indices[place], self.indices[partner])

    def possible(self, moving: int) -> Iterator[Pair]:
        """Give all pairs that may be drawn in which a scan is moved."""
        if self.to_atlas:
            yield Pair(moving)
            return
        person = self.people[self.indices.index(moving)]
        for fixed, other in zip(self.indices, self.people, strict=True):
            if other != person:
                yield Pair(moving, fixed)

    def _order(self, turn: int) -> list[int]:
        draw = np.random.default_rng([self.seed, ORDER, turn])
        return draw.permutation(len(self.indices)).tolist()


def validation_pairs(
    entries: Sequence[Entry], indices: Sequence[int], pairs: str, most: int | None = None
) -> list[Pair]:
    """Give the pairs that measure a network, always the same; scans with labels come first.

    Parameters
    ----------
    entries, indices, pairs
        As for `PairSampler`. Each scan is moved once: to the atlas, or to the next scan of another
        participant, and to the atlas if there is none.
    most
        How many at most.
    """
    ordered = sorted(indices, key=lambda index: entries[index].labels_row is None)
    found = []
    for place, moving in enumerate(ordered[:most]):
        others = (*ordered[place + 1 :], *ordered[:place])
        person = entries[moving].participant
        partners = (index for index in others if entries[index].participant != person)
        found.append(Pair(moving, None if pairs == "atlas" else next(partners, None)))
    return found
