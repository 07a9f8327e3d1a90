"""Overlap of every scan of a cohort with what the others agree on, scan by scan."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from vxmprep.evaluation.consensus import LEAST_OTHERS, Consensus, LabelCounts
from vxmprep.evaluation.labels import (
    PARCELS,
    VXM30,
    name_of,
    parcels_alone,
    without_parcels,
    without_side,
    without_sides,
)
from vxmprep.evaluation.overlap import count_labels, overlaps
from vxmprep.evaluation.surface import surface_distances
from vxmprep.spatial.images import ImageError

WAYS = ("affine", "full")

COMMON_VOXELS = 100
"""Voxels that a structure has in every scan to be common, as in the paper."""

Renaming = Callable[[np.ndarray], np.ndarray]
"""Gives labels under other ids; those that become one are one structure."""


@dataclass(frozen=True)
class LabelMaps:
    """The segmentation of one scan in atlas space.

    Attributes
    ----------
    name, participant : str
        The scan, and who it is of: the same for all scans of a person.
    affine, full : Path
        Label maps brought there by the affine alone and by the whole transform.
    votes : bool
        Whether it is sound: it may speak for its participant in the consensus, and says which
        structures are common. It is compared in any case.
    """

    name: str
    participant: str
    affine: Path
    full: Path
    votes: bool = True


@dataclass(frozen=True)
class StructureOverlap:
    """Overlap of one structure of one scan with the consensus of the other participants.

    Attributes
    ----------
    label : int
        FreeSurfer id.
    voxels_fixed, voxels_moving : int
        Voxels of the structure in the consensus and in the scan, whole transform.
    dice_affine, dice : float
        Dice by the affine alone and by all; NaN where either side lacks the structure.
    hd95_affine, hd95 : float
        95th percentile of the distance of the surfaces, mm.
    """

    label: int
    voxels_fixed: int
    voxels_moving: int
    dice_affine: float
    dice: float
    hd95_affine: float
    hd95: float


@dataclass
class Census:
    """What a first look at all maps of a cohort finds.

    Attributes
    ----------
    counts : dict
        Votes by way; one of each participant.
    voxels : dict
        Labels of each scan whose maps could be read, see `CohortOverlap`.
    parcelled : Counter
        How many maps have parcels of the cortex (True) or the cortex as one (False).
    refused : dict
        Why a scan's maps cannot be compared, by its name.
    """

    counts: dict[str, LabelCounts] = field(default_factory=dict)
    voxels: dict[str, np.ndarray] = field(default_factory=dict)
    parcelled: Counter = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)

    def merge(self, other: Census) -> None:
        """Add what was found in other maps."""
        for way, counts in other.counts.items():
            if way in self.counts:
                self.counts[way].merge(counts)
            else:
                self.counts[way] = counts
        self.voxels |= other.voxels
        self.parcelled += other.parcelled
        self.refused |= other.refused

    @property
    def voters(self) -> int:
        """Participants whose maps voted."""
        return self.counts["full"].voters if self.counts else 0


@dataclass(frozen=True)
class CohortOverlap:
    """What is found of a cohort.

    Attributes
    ----------
    labels : tuple of int
        The structures of the tables.
    voters : frozenset of str
        Participants that make the consensus; each scan is compared without its own.
    merged : bool
        Whether parcels count as cortex.
    joined : bool
        Whether left and right count as one structure.
    voxels : dict
        A row for each label of a scan's maps, by scan: its id, as it stands there, and its voxels
        by the affine alone and by the whole transform.
    rows : dict
        Overlaps by scan; none where there are too few participants.
    refused : dict
        Why a scan's maps cannot be compared, by its name.
    """

    labels: tuple[int, ...]
    voters: frozenset[str]
    merged: bool
    joined: bool
    voxels: dict[str, np.ndarray]
    rows: dict[str, list[StructureOverlap]]
    refused: dict[str, str]

    def name_of(self, label: int) -> str:
        """Name a structure of the tables; without its side where left and right are joined."""
        return without_side(name_of(label)) if self.joined else name_of(label)


def cohort_overlap(
    scans: Sequence[LabelMaps],
    folder: Path,
    *,
    labels: str | Sequence[int] = "vxm30",
    joined: bool = False,
    processes: int = 1,
    seen: Callable[[int], None] = lambda _: None,
) -> CohortOverlap:
    """Compare every scan with the majority of the other participants.

    The maps are read twice, once to count their labels and once to compare each with the
    majority of the others; the first scan of each participant that may vote does.

    Parameters
    ----------
    scans : sequence of LabelMaps
        Maps in one atlas space.
    folder : path
        For the consensus while it is needed.
    labels : {"vxm30", "all", "common"} or sequence of int
        The structures wanted; parcels count as cortex where that is among them and no parcel is,
        as with ``vxm30``, and where not all scans have parcels.
    joined : bool
        Whether left and right of a structure count as one, under the id of the left.
    processes : int
        Worker processes.
    seen : function
        Told of every scan that has been read or compared.

    Returns
    -------
    CohortOverlap
        Scans whose maps cannot be read or lie on another grid than most are told apart.
    """
    census = Census()
    spacing, refused = _grids(scans)
    scans = [scan for scan in scans if scan.name not in refused]
    voters = {}
    for scan in scans:
        if scan.votes:
            voters.setdefault(scan.participant, scan)
    chunks = [scans[start::processes] for start in range(processes)]
    voting = {scan.name for scan in voters.values()}
    for found in _spread(partial(_count, voting=voting), chunks, processes):
        census.merge(found)
        seen(len(found.voxels))
    refused |= census.refused
    merged = _of_whole_cortex(labels) or len(census.parcelled) > 1
    # Parcels first: some of those on the right have no name that tells their left.
    steps = [*[without_parcels] * merged, *[without_sides] * joined]
    rename = partial(_renamed, steps=steps)
    sound = {scan.name for scan in scans if scan.votes}
    chosen = _chosen(labels, census, rename, sound)
    scans = [scan for scan in scans if scan.name not in refused]
    voters = {p: scan for p, scan in voters.items() if scan.name not in refused}
    rows: dict[str, list[StructureOverlap]] = {}
    if census.voters > LEAST_OTHERS:
        for way, counts in census.counts.items():
            counts.renamed(partial(_one, rename=rename)).consensus().save(folder / way)
        tasks = [(scan, voters.get(scan.participant)) for scan in scans]
        compare = partial(_compare, folder=folder, labels=chosen, rename=rename, spacing=spacing)
        for name, found in _spread(compare, tasks, processes):
            rows[name] = found
            seen(1)
    return CohortOverlap(chosen, frozenset(voters), merged, joined, census.voxels, rows, refused)


def read_labels(path: Path) -> np.ndarray:
    """Read a label map in atlas space; one that holds nothing is refused.

    Raises
    ------
    ImageError
        If it cannot be read or holds no labels.
    """
    from vxmprep.preparation.segmentation import load_labels

    return np.asarray(load_labels(path).dataobj)


def _grids(scans: Sequence[LabelMaps]) -> tuple[tuple[float, ...], dict[str, str]]:
    """Find the grid that most maps lie on, give its spacing, and refuse the others."""
    from vxmprep.spatial.grid import Grid
    from vxmprep.spatial.opening import open_image

    found: dict[str, tuple] = {}
    refused: dict[str, str] = {}
    for scan in scans:
        try:
            keys = set()
            for path in (scan.affine, scan.full):
                grid = Grid.of(open_image(path))
                affine = tuple(np.round(grid.affine, 3).ravel().tolist())
                keys.add((grid.shape, affine, tuple(np.round(grid.spacing, 5).tolist())))
            if len(keys) > 1:
                raise ImageError(f"{scan.full.name}: lies on another grid than {scan.affine.name}")
            found[scan.name] = keys.pop()
        except ImageError as error:
            refused[scan.name] = str(error)
    if not found:
        return (1.0, 1.0, 1.0), refused
    usual, _ = Counter(found.values()).most_common(1)[0]
    for scan in scans:
        grid = found.get(scan.name, usual)
        if grid != usual:
            shapes = [" x ".join(map(str, one[0])) for one in (grid, usual)]
            refused[scan.name] = (
                f"{scan.full.name}: lies on another grid ({shapes[0]}) than the other scans' "
                f"({shapes[1]}); register it again"
            )
    return usual[2], refused


def _count(scans: Sequence[LabelMaps], voting: set[str]) -> Census:
    census = Census()
    for scan in scans:
        try:
            maps = {"affine": read_labels(scan.affine), "full": read_labels(scan.full)}
        except ImageError as error:
            census.refused[scan.name] = str(error)
            continue
        affine, full = (count_labels(maps[way]) for way in WAYS)
        rows = [
            (label, affine.get(label, 0), full.get(label, 0))
            for label in sorted(affine.keys() | full.keys())
        ]
        census.voxels[scan.name] = np.array(rows, dtype=np.int64).reshape(-1, 3)
        if parcels_alone(np.array(list(full), dtype=np.int64)).any():
            census.parcelled[True] += 1
        elif 3 in full or 42 in full:
            census.parcelled[False] += 1
        if scan.name in voting:
            for way, labels in maps.items():
                census.counts.setdefault(way, LabelCounts(labels.shape)).add(labels)
    return census


def _compare(
    task: tuple[LabelMaps, LabelMaps | None],
    *,
    folder: Path,
    labels: tuple[int, ...],
    rename: Renaming,
    spacing: tuple[float, ...],
) -> tuple[str, list[StructureOverlap]]:
    """Compare one scan with the majority of the others."""
    scan, voter = task
    dice, distances = {}, {}
    for way in WAYS:
        own = rename(read_labels(getattr(scan, way)))
        vote = own
        if voter is None or voter.name != scan.name:
            vote = None if voter is None else rename(read_labels(getattr(voter, way)))
        others = Consensus.load(folder / way).without(vote)
        dice[way] = overlaps(others, own)
        distances[way] = surface_distances(others, own, spacing, labels)
    rows = []
    for label in labels:
        full, affine = dice["full"].get(label), dice["affine"].get(label)
        if full is None and affine is None:
            continue
        missing = float("nan")
        far = [distances[way].get(label) for way in WAYS]
        rows.append(
            StructureOverlap(
                label,
                full.voxels_fixed if full else 0,
                full.voxels_moving if full else 0,
                affine.dice if affine else missing,
                full.dice if full else missing,
                far[0].hd95 if far[0] else missing,
                far[1].hd95 if far[1] else missing,
            )
        )
    return scan.name, rows


def _renamed(labels: np.ndarray, *, steps: Sequence[Renaming]) -> np.ndarray:
    for step in steps:
        labels = step(labels)
    return labels


def _one(label: int, *, rename: Renaming) -> int:
    return int(rename(np.array([label]))[0])


def _chosen(
    labels: str | Sequence[int], census: Census, rename: Renaming, sound: set[str]
) -> tuple[int, ...]:
    """Choose the structures of the tables; what is common, the sound scans tell, if there are."""
    if labels not in ("all", "common"):
        ids = VXM30 if labels == "vxm30" else labels
        return tuple(np.unique(rename(np.array(ids, np.int64))).tolist())
    found, large = Counter(), Counter()
    judges = (census.voxels.keys() & sound) or census.voxels.keys()
    for name, rows in census.voxels.items():
        ids, _, voxels = rows[rows[:, 2] > 0].T
        own = Counter()
        for label, count in zip(rename(ids).tolist(), voxels.tolist(), strict=True):
            own[label] += count
        found.update(own.keys())
        if name in judges:
            large.update(label for label, count in own.items() if count >= COMMON_VOXELS)
    if labels == "all":
        return tuple(sorted(found))
    return tuple(sorted(k for k, scans in large.items() if scans == len(judges)))


def _of_whole_cortex(labels: str | Sequence[int]) -> bool:
    """Tell whether left or right cortex is among the structures wanted, and no parcel of them."""
    if labels in ("all", "common"):
        return False
    ids = np.array(VXM30 if labels == "vxm30" else labels, np.int64)
    return bool(np.isin(ids, list(PARCELS)).any() and not parcels_alone(ids).any())


def _spread(function: Callable, tasks: Iterable, processes: int) -> Iterator:
    """Apply a function to tasks, in processes of their own where there are several.

    Where one of these is killed, by a lack of memory most likely, the rest is done here, one after
    the other.
    """
    tasks, done = list(tasks), 0
    if processes > 1 and len(tasks) > 1:
        with (
            contextlib.suppress(BrokenProcessPool),
            ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
        ):
            for found in pool.map(function, tasks):
                yield found
                done += 1
    yield from map(function, tasks[done:])
