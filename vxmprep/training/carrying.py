"""Segmentations by registration: the atlas's labels, carried to scans without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vxmprep.morph.inverse import invert
from vxmprep.morph.labels import warp_labels
from vxmprep.morph.pyramid import to_image_grid
from vxmprep.morph.refine import refine
from vxmprep.spatial.files import replacing

if TYPE_CHECKING:
    from vxmprep.training.data import Atlas


class Carrier:
    """Carries an atlas's labels to scans, and keeps what it has carried.

    Parameters
    ----------
    atlas
        The atlas on the network's grid of 1 mm, with labels.
    kept
        Folder of what was carried, so that it is done once for each scan.
    device
        Where scans are registered.

    Attributes
    ----------
    source
        SHA-256 of the atlas's volumes: whose labels these are.
    """

    def __init__(self, atlas: Atlas, kept: Path, device: torch.device) -> None:
        self.volumes = atlas.image, atlas.mask, atlas.labels
        self.kept, self.device = kept, device
        self.source = _digest(*self.volumes)

    def labels_of(self, image: np.ndarray) -> np.ndarray:
        """Give the labels of a scan.

        The scan is registered to the atlas by `vxmprep.morph.refine.refine` from the identity,
        and the labels go the other way by the inverse of the field.

        Parameters
        ----------
        image
            Conformed image on the atlas's grid, uint8 ``(X, Y, Z)``.

        Returns
        -------
        numpy.ndarray
            int16, on the same grid.
        """
        path = self.kept / f"{_digest(image, *self.volumes)}.npz"
        try:
            return np.load(path)["labels"]
        except Exception:  # not there, or damaged, which has many names
            labels = self._carried(image)
        self.kept.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, labels=labels)
        return labels

    def _carried(self, image: np.ndarray) -> np.ndarray:
        volumes = (torch.from_numpy(volume)[None, None] for volume in (image, *self.volumes))
        moving, fixed, mask, labels = (volume.to(self.device) for volume in volumes)
        field, _ = refine(moving.float() / 255, fixed.float() / 255, mask)
        back = to_image_grid(invert(field).displacement, labels.shape[2:])
        return warp_labels(labels, back)[0, 0].cpu().numpy()


def _digest(*volumes: np.ndarray) -> str:
    found = hashlib.sha256()
    for volume in volumes:
        found.update(np.ascontiguousarray(volume))
    return found.hexdigest()
