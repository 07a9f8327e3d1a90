"""What the network is shown: pairs of images, with the labels that both have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from vxmprep.evaluation.labels import VXM30, without_parcels
from vxmprep.evaluation.overlap import count_labels
from vxmprep.spatial.grid import Grid
from vxmprep.training.cohort import Cohort
from vxmprep.training.config import AtlasFiles
from vxmprep.training.errors import TrainingError
from vxmprep.training.pairs import Pair, PairSampler
from vxmprep.training.settings import TrainingSettings
from vxmprep.training.volumes import read_image, read_labels

PARCELS = 1000
"""Labels from here on are parcels of the cortex in FreeSurfer's numbers."""


@dataclass(frozen=True)
class Atlas:
    """The atlas at the voxel size of a training: uint8, bool and int16 ``(X, Y, Z)``."""

    name: str
    image: np.ndarray
    mask: np.ndarray
    labels: np.ndarray | None

    @property
    def structures(self) -> tuple[int, ...]:
        """Labels there are."""
        return () if self.labels is None else tuple(count_labels(self.labels))


def read_atlas(files: AtlasFiles, grid: Grid, voxel_size: int) -> Atlas:
    """Read the atlas.

    Raises
    ------
    ImageError
        If one of its files cannot be read, or lies on another grid.
    """
    labels = None if files.labels is None else read_labels(files.labels, grid, voxel_size)
    mask = read_labels(files.mask, grid, voxel_size) > 0
    return Atlas(files.name, read_image(files.image, grid, voxel_size), mask, labels)


@dataclass(frozen=True)
class Labels:
    """Labels ``(X, Y, Z)`` int16 of both images of a pair, and the structures in both."""

    moving: torch.Tensor
    fixed: torch.Tensor
    structures: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Some pairs.

    Attributes
    ----------
    moving, fixed
        Images ``(N, 1, X, Y, Z)``, uint8.
    labels
        Of each pair, or None where one of the images has none.
    names
        Of moving and fixed image of each pair.
    numbers
        Of the pairs.
    mask
        Brain of the last fixed image, bool ``(X, Y, Z)``.
    """

    moving: torch.Tensor
    fixed: torch.Tensor
    labels: tuple[Labels | None, ...]
    names: tuple[tuple[str, str], ...]
    numbers: tuple[int, ...]
    mask: torch.Tensor

    def pinned(self) -> Batch:
        """Put it where a GPU can fetch it while the processor goes on."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Bring it to a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def split(self, size: int) -> list[Batch]:
        """Cut it into batches of so many pairs; the last one may have fewer."""
        if size >= len(self.numbers):
            return [self]
        names = ("moving", "fixed", "labels", "names", "numbers")
        return [
            replace(self, **{name: getattr(self, name)[first : first + size] for name in names})
            for first in range(0, len(self.numbers), size)
        ]

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        labels = tuple(
            each and replace(each, moving=change(each.moving), fixed=change(each.fixed))
            for each in self.labels
        )
        volumes = {name: change(getattr(self, name)) for name in ("moving", "fixed", "mask")}
        return replace(self, labels=labels, **volumes)


class TrainingData:
    """Cohort and atlas, and the structures that count.

    Parameters
    ----------
    cohort
        The packed cohort.
    atlas
        The atlas at its voxel size.
    settings
        Which structures are asked for.
    """

    def __init__(self, cohort: Cohort, atlas: Atlas, settings: TrainingSettings) -> None:
        self.cohort, self.atlas = cohort, atlas
        self.keeps_parcels = any(label >= PARCELS for label in settings.structures)
        known = set(self._whole(atlas.structures))
        for entry in cohort.entries:
            known.update(self._whole(entry.structures))
        known.discard(0)
        asked = settings.structures or VXM30
        usual = tuple(label for label in asked if label in known)
        self.structures = usual or (() if settings.structures else tuple(sorted(known)))

    def common(self, pair: Pair) -> tuple[int, ...]:
        """Structures that count and are in both images of a pair."""
        sides = (self._structures(pair.moving), self._structures(pair.fixed))
        return tuple(label for label in self.structures if all(label in side for side in sides))

    def batch(self, pairs: Sequence[tuple[int, Pair]], *, labels: bool) -> Batch:
        """Read pairs, each with its number; labels only where they are wanted."""
        moving = [self.cohort.image(pair.moving) for _, pair in pairs]
        fixed = [self._image(pair.fixed) for _, pair in pairs]
        last = pairs[-1][1].fixed
        return Batch(
            _stacked(moving),
            _stacked(fixed),
            tuple(self._labels(pair) if labels else None for _, pair in pairs),
            tuple((self._name(pair.moving), self._name(pair.fixed)) for _, pair in pairs),
            tuple(number for number, _ in pairs),
            torch.from_numpy(self.atlas.mask if last is None else fixed[-1] > 0),
        )

    def require_labels(self, sampler: PairSampler) -> int:
        """Count the scans with labels that count; refuse a training that cannot use them.

        Raises
        ------
        TrainingError
            If no pair that may be drawn has a structure in both of its images.
        """
        # Only these are looked at: all pairs of a large cohort are too many.
        labelled = [i for i in sampler.indices if self._structures(i) & set(self.structures)]
        if not any(self.common(pair) for i in labelled for pair in sampler.possible(i)):
            raise TrainingError(
                "segmentation_weight is above 0, but no pair to train on has a structure in both "
                "of its images; give labels, or segmentation_weight = 0"
            )
        return len(labelled)

    def _labels(self, pair: Pair) -> Labels | None:
        structures = self.common(pair)
        if not structures:
            return None
        sides = [self.cohort.labels_of(pair.moving)]
        sides.append(
            self.atlas.labels if pair.fixed is None else self.cohort.labels_of(pair.fixed)
        )
        moving, fixed = (torch.from_numpy(self._merged(side)) for side in sides)
        return Labels(moving, fixed, structures)

    def _merged(self, labels: np.ndarray) -> np.ndarray:
        return labels if self.keeps_parcels else without_parcels(labels)

    def _whole(self, structures: Sequence[int]) -> list[int]:
        """Labels once parcels count as cortex."""
        return self._merged(np.array(structures, dtype=np.int16)).tolist()

    def _structures(self, index: int | None) -> set[int]:
        side = self.atlas if index is None else self.cohort.entries[index]
        return set(self._whole(side.structures))

    def _image(self, index: int | None) -> np.ndarray:
        return self.atlas.image if index is None else self.cohort.image(index)

    def _name(self, index: int | None) -> str:
        return self.atlas.name if index is None else self.cohort.entries[index].name


def _stacked(volumes: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(volumes)[:, None])
