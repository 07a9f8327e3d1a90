"""What a cohort agrees on: the majority of label maps, without the vote of the one compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vxmprep.evaluation.surface import boxes, union

LEAST_OTHERS = 3
"""Other participants that make a majority."""

Box = tuple[slice, ...]


@dataclass
class LabelCounts:
    """How many of the label maps added so far hold each label at each voxel.

    A label is counted in the box that it was ever found in, so that a large cohort with many
    labels takes little more memory than one map.

    Attributes
    ----------
    shape : tuple of int
        Of the maps.
    voters : int
        Maps added.
    counts : dict
        Box and uint16 counts inside it, by label; background is what is left.
    """

    shape: tuple[int, ...]
    voters: int = 0
    counts: dict[int, tuple[Box, np.ndarray]] = field(default_factory=dict)

    def add(self, labels: np.ndarray) -> None:
        """Count a label map; 0 is background."""
        if labels.shape != self.shape:
            raise ValueError(f"LabelCounts: grids differ, {labels.shape} and {self.shape}")
        for label, box in boxes(labels).items():
            self._add(label, box, labels[box] == label)
        self.voters += 1

    def merge(self, other: LabelCounts) -> None:
        """Count what another has counted of other maps."""
        for label, (box, counts) in other.counts.items():
            self._add(label, box, counts)
        self.voters += other.voters

    def renamed(self, name: Callable[[int], int]) -> LabelCounts:
        """Give the counts under other labels; labels that become one are counted together."""
        new = LabelCounts(self.shape, self.voters)
        for label, (box, counts) in self.counts.items():
            new._add(name(label), box, counts)
        return new

    def consensus(self) -> Consensus:
        """Find the two labels with most votes at each voxel; ties go to the smaller id."""
        first, second = (np.zeros(self.shape, np.int32) for _ in range(2))
        most = np.full(self.shape, self.voters, np.int32)  # background's
        next_most = np.zeros(self.shape, np.int32)
        for box, counts in self.counts.values():
            most[box] -= counts
        for label in sorted(self.counts):
            box, counts = self.counts[label]
            top, top_votes, runner, runner_votes = (
                volume[box] for volume in (first, most, second, next_most)
            )
            wins = counts > top_votes
            follows = ~wins & (counts > runner_votes)
            runner[wins], runner_votes[wins] = top[wins], top_votes[wins]
            top[wins], top_votes[wins] = label, counts[wins]
            runner[follows], runner_votes[follows] = label, counts[follows]
        without_one = most - 1
        lost = (without_one < next_most) | ((without_one == next_most) & (second < first))
        return Consensus(first, second, lost)

    def _add(self, label: int, box: Box, votes: np.ndarray) -> None:
        if label in self.counts:
            known, counts = self.counts[label]
            wider = union(known, box)
        else:
            known, counts, wider = box, np.zeros(votes.shape, np.uint16), box
        if wider != known:
            larger = np.zeros([side.stop - side.start for side in wider], np.uint16)
            larger[_inside(known, wider)] = counts
            counts = larger
        counts[_inside(box, wider)] += votes.astype(np.uint16)
        self.counts[label] = (wider, counts)


@dataclass(frozen=True)
class Consensus:
    """The majority of the label maps of a cohort, and what it becomes without any one of them.

    Attributes
    ----------
    first, second : (X, Y, Z) int32 array
        Labels with the most votes and with the next most.
    lost : (X, Y, Z) bool array
        Where the first has no majority left once a vote for it is taken away.
    """

    first: np.ndarray
    second: np.ndarray
    lost: np.ndarray

    def without(self, vote: np.ndarray | None) -> np.ndarray:
        """Give the majority without one of the maps, or with all of them.

        Parameters
        ----------
        vote : (X, Y, Z) integer array or None
            A map that was counted, to be left out.

        Returns
        -------
        (X, Y, Z) int32 array
            Ties go to the smaller id, of which background's is the smallest.
        """
        if vote is None:
            return self.first
        # Nobody else's lead shrinks, so that only where the vote was for the first it can lose.
        return np.where(self.lost & (vote == self.first), self.second, self.first)

    def save(self, folder: Path) -> None:
        """Write it, so that processes can share it without a copy each."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("first", "second", "lost"):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Consensus:
        """Read what `save` has written, without loading it into memory."""
        return cls(
            *(np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("first", "second", "lost"))
        )


def _inside(box: Box, wider: Box) -> Box:
    return tuple(
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, wider, strict=True)
    )
