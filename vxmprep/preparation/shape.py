"""Whether a brain mask has the size and the shape of a brain."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nb
import numpy as np

VOLUMES = (0.3, 1.4)
"""Volume per the atlas's; 0.46 to 1.16 in 89 sound scans of adults with two atlases."""

LEAST_FLATNESS = 0.72
"""Flatness per the atlas's; 0.83 and more in those scans, 0.6 and less in one hemisphere or the
lower half of a brain."""

LEAST_FILL = 0.94
"""Fill per the atlas's; 0.955 and more in those scans, 0.93 and less in the front or back half."""


@dataclass(frozen=True)
class MaskShape:
    """Size and shape of a brain mask.

    Attributes
    ----------
    ml : float
        Volume in millilitres.
    flatness : float
        Smallest principal extent per largest, as standard deviations of places.
    fill : float
        Volume per that of the ellipsoid with the same extents; 1 for an ellipsoid.
    """

    ml: float
    flatness: float
    fill: float

    @classmethod
    def of(cls, mask: nb.spatialimages.SpatialImage) -> MaskShape:
        """Measure a mask.

        Raises
        ------
        ValueError
            If it is empty.
        """
        step = np.maximum(np.round(2.0 / np.linalg.norm(mask.affine[:3, :3], axis=0)), 1)
        step = step.astype(int)
        inside = np.asanyarray(mask.dataobj) > 0
        voxel = abs(float(np.linalg.det(mask.affine[:3, :3]))) / 1000
        places = np.argwhere(inside[tuple(slice(None, None, s) for s in step)]) * step
        if len(places) < 4:
            raise ValueError("MaskShape: the mask is empty")
        spread = np.cov((places @ mask.affine[:3, :3].T).T)
        sizes = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0))
        ellipsoid = 4 / 3 * np.pi * 5**1.5 * float(np.prod(sizes)) / 1000
        coarse = len(places) * voxel * float(np.prod(step))
        ml = float(np.count_nonzero(inside)) * voxel
        return cls(ml, float(sizes[0] / sizes[2]), coarse / max(ellipsoid, 1e-9))

    def summary(self) -> dict:
        """Give the numbers for a JSON file."""
        return {
            "MaskMl": round(self.ml, 1),
            "MaskFlatness": round(self.flatness, 3),
            "MaskFill": round(self.fill, 3),
        }

    def doubts(self, atlas: MaskShape) -> list[str]:
        """Give reasons to distrust the mask, beside the atlas's; empty if there is none."""
        found = []
        low, high = (share * atlas.ml for share in VOLUMES)
        if not low <= self.ml <= high:
            found.append(
                f"mask: the brain has {self.ml:.0f} ml, expected {low:.0f} to {high:.0f}: part of "
                "it is missing, or much besides it is in the mask, or the voxel size is wrong"
            )
        flatness, fill = LEAST_FLATNESS * atlas.flatness, LEAST_FILL * atlas.fill
        if self.flatness < flatness or self.fill < fill:
            found.append(
                f"mask: not the shape of a whole brain (flatness {self.flatness:.2f}, expected at "
                f"least {flatness:.2f}; fill {self.fill:.2f}, expected at least {fill:.2f}): part "
                "of it is missing, or much besides it is in the mask"
            )
        return found
