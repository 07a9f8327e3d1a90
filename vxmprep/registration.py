"""Register one prepared scan to the atlas: network, refinement, and both maps in mm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.config import default_iterations, model_file
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_composite

if TYPE_CHECKING:
    import torch

    from vxmprep.morph.compute import Compute
    from vxmprep.morph.refine import Tuning

STEPS_PER_MM, FINE_STEPS_PER_MM = 256, 64
"""A field of 2 mm, and one of 1 mm, is rounded to this fraction of a millimetre: smaller files."""

LEAST_SIMILARITY = 0.75
"""Mean squared local correlation after the refinement below which it is tried once more.

Sound scans of four cohorts reach 0.82 and more with the default atlas, 0.79 with fsaverage.
"""

WORSE = 0.02
"""Mean squared local correlation that a network's field may cost; interpolation costs a little."""

NEVER = -1.0
"""A tolerance at which no level stops early."""

MARGIN_MM = 26
"""How far beyond the network's grid the field runs out; brains are displaced by up to 10 mm."""


@dataclass(frozen=True)
class Registration:
    """The deformable part of a registration, between the atlas and the affinely aligned scan.

    Attributes
    ----------
    grid : Grid
        Grid of both fields: 1 mm where the refinement ended with a field of 1 mm, else 2 mm.
    forward : (X, Y, Z, 3) float32 array
        RAS mm; atlas point p goes to the affinely aligned scan's point p + forward(p).
    inverse : (X, Y, Z, 3) float32 array
        RAS mm; inverts `forward` as stored.
    residual_p99, residual_max : float
        What forward after inverse leaves at the voxels of the brain, mm, as stored.
    similarity : tuple of float
        Mean squared local correlation at the first and the last iteration of the finest level
        that ran; empty without refinement.
    iterations : tuple of int
        Iterations that the refinement ran at 4, 2 and 1 mm, the last of these with a field of 2 mm
        and with one of 1 mm.
    repaired : int
        Voxels of 1 mm at which the field was smoothed so that it does not fold.
    second_try : dict
        Where the refinement ended poor or began misled: ``Iterations`` and ``LocalCorrelation``
        (the last one) of the second try, from zero and more thorough, and whether it is better
        and ``Kept``; else empty.
    device, precision : str
        Where it was computed; the precision of the network's convolutions.
    """

    grid: Grid
    forward: np.ndarray
    inverse: np.ndarray
    residual_p99: float
    residual_max: float
    similarity: tuple[float, ...]
    iterations: tuple[int, ...]
    repaired: int
    second_try: dict
    device: str
    precision: str

    def summary(self) -> dict:
        """Give the numbers for a JSON file."""
        return {
            "LocalCorrelation": [round(value, 4) for value in self.similarity],
            "Iterations": list(self.iterations),
            "InverseResidualP99mm": round(self.residual_p99, 4),
            "InverseResidualMaxmm": round(self.residual_max, 4),
            "RepairedVoxels": self.repaired,
            **({"SecondTry": self.second_try} if self.second_try else {}),
            "Device": self.device,
            "Precision": self.precision,
        }

    def write(self, atlas_to_scan: np.ndarray, forward: Path, inverse: Path) -> None:
        """Write both maps, affine included, as ITK composites.

        Parameters
        ----------
        atlas_to_scan : (4, 4) array
            The affine, points to points, RAS mm.
        forward, inverse : path
            Files that resample scans onto the atlas, and the atlas onto the scan.
        """
        write_composite(
            forward,
            affine=atlas_to_scan,
            displacement=self.forward,
            grid=self.grid,
            field_acts_first=True,
        )
        write_composite(
            inverse,
            affine=np.linalg.inv(atlas_to_scan),
            displacement=self.inverse,
            grid=self.grid,
            field_acts_first=False,
        )


def register(
    moving: nb.spatialimages.SpatialImage,
    fixed: nb.spatialimages.SpatialImage,
    mask: nb.spatialimages.SpatialImage,
    *,
    model: str | Path | None = None,
    iterations: int,
    atlas_to_scan: np.ndarray | None = None,
    device: str = "auto",
    precision: str = "auto",
) -> Registration:
    """Register a scan to an atlas, both on the network's grid.

    Parameters
    ----------
    moving, fixed : image
        The conformed scan and atlas, uint8: 255 is white matter's white.
    mask : image
        The atlas's brain mask on the same grid.
    model : path, optional
        Checkpoint of a VoxelMorph network, or ``bundled``, which is the one that comes along;
        without one the refinement starts from zero.
    iterations : int
        Most iterations of the refinement; 0 leaves the network's field alone. See
        `vxmprep.morph.refine.schedule`. Where the result of no fewer than the default ones is not
        sound, or the network's field made the images less alike than the affine alone, the
        refinement is run once more, from zero and with twice the iterations (after a network:
        twice the usual ones without), none of which is left out, and the better one is kept.
    atlas_to_scan : (4, 4) array, optional
        The affine that aligned them, RAS mm; the whole map is kept free of folds.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision : str
        Of the network's convolutions: ``auto``, ``float32`` or ``bfloat16``.

    Returns
    -------
    Registration
        Both fields, ready to be written.

    Raises
    ------
    ValueError
        If scan and atlas have nothing in common, or the network's field is not finite.
    MemoryError
        If the GPU's memory does not suffice; the message says what to change.
    """
    import torch

    from vxmprep.morph.compute import choose_compute

    compute = choose_compute(device, precision if model is not None else "float32")
    try:
        return _register(moving, fixed, mask, model, iterations, atlas_to_scan, compute)
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"the memory of {compute.device} does not suffice for the registration; let nothing "
            "else run on it, or choose --device cpu"
        ) from error


def _register(
    moving: nb.spatialimages.SpatialImage,
    fixed: nb.spatialimages.SpatialImage,
    mask: nb.spatialimages.SpatialImage,
    model: str | Path | None,
    iterations: int,
    atlas_to_scan: np.ndarray | None,
    compute: Compute,
) -> Registration:
    import torch

    from vxmprep.morph.refine import Tuning, schedule

    where = torch.device(compute.device)
    scan, atlas = (_tensor(image, where) / 255 for image in (moving, fixed))
    brain = _tensor(mask, where) > 0
    if not (scan[brain].any() and atlas[brain].any()):
        raise ValueError(
            "nothing of the scan lies inside the atlas's brain; look at its brain mask and affine"
        )
    start = None if model is None else _predict(model, scan, atlas, compute.dtype)
    to_grid = Grid.of(fixed).affine[:3, :3]
    matrix = np.eye(3) if atlas_to_scan is None else atlas_to_scan[:3, :3]
    linear = torch.from_numpy(np.linalg.inv(to_grid) @ matrix @ to_grid)
    counts = schedule(iterations, started=start is not None)
    refined, second_try = _refine(scan, atlas, brain, start, counts, linear), {}
    enough = iterations >= default_iterations(network=start is not None)
    if enough and (refined.poor or _misleads(start, scan, atlas, brain)):
        usual = default_iterations(network=False) if start is not None else 0
        coarse, fine = schedule(max(iterations, usual))
        counts = tuple(2 * count for count in coarse), 2 * fine
        again = _refine(scan, atlas, brain, None, counts, linear, Tuning(tolerance=NEVER))
        kept = again.similarity[-1] > refined.similarity[-1]
        second_try = {
            "Iterations": list(again.iterations),
            "LocalCorrelation": round(again.similarity[-1], 4),
            "Kept": kept,
        }
        refined = again if kept else refined
    make_maps = _fine_maps if refined.iterations[-1] else _coarse_maps
    maps = make_maps(refined.field, brain, Grid.of(fixed), linear)
    left = maps.residual.cpu().numpy()
    return Registration(
        maps.grid,
        _millimetres(maps.forward, maps.grid),
        _millimetres(maps.inverse, maps.grid),
        float(np.percentile(left, 99)),
        float(left.max()),
        refined.similarity,
        refined.iterations,
        refined.repaired,
        second_try,
        compute.device,
        compute.precision,
    )


def _misleads(
    start: torch.Tensor | None, scan: torch.Tensor, atlas: torch.Tensor, brain: torch.Tensor
) -> bool:
    """Tell whether a network's field makes the images less alike than the affine alone.

    What a refinement makes of such a start can look sound and still be worse than the affine: from
    one that was off by 8 mm on average an OASIS brain ended at a local correlation of 0.79, but
    with a mean Dice of 0.65 where the affine alone has 0.69, and a sound start 0.74.
    """
    from vxmprep.morph.field import warp
    from vxmprep.morph.ncc import LocalNcc
    from vxmprep.morph.pyramid import halve_image, halve_mask

    if start is None:
        return False
    likeness = LocalNcc(halve_image(atlas), halve_mask(brain.float()), window=5)
    as_it_lies, moved = (halve_image(image) for image in (scan, warp(scan, start)))
    return bool(likeness(moved).value < likeness(as_it_lies).value - WORSE)


@dataclass(frozen=True)
class _Refined:
    """A refined field, at the images' resolution if the last of its iterations ran there."""

    field: torch.Tensor
    similarity: tuple[float, ...]
    iterations: tuple[int, ...]
    repaired: int

    @property
    def poor(self) -> bool:
        return bool(self.similarity) and not self.similarity[-1] >= LEAST_SIMILARITY


def _refine(
    scan: torch.Tensor,
    atlas: torch.Tensor,
    brain: torch.Tensor,
    start: torch.Tensor | None,
    counts: tuple[tuple[int, ...], int],
    linear: torch.Tensor,
    tuning: Tuning | None = None,
) -> _Refined:
    """Refine a network's field, or none, by so many iterations, see `schedule`."""
    from vxmprep.morph.fine import refine_finely
    from vxmprep.morph.refine import refine

    coarse, fine = counts
    field, what = refine(
        scan, atlas, brain, start=start, iterations=coarse, linear=linear, tuning=tuning
    )
    similarity, repaired = (), 0
    if fine:
        field, similarity, repaired = refine_finely(
            scan, atlas, brain, field, iterations=fine, linear=linear
        )
    ran = [values for values in (*what.similarity, similarity) if values]
    return _Refined(
        field,
        (ran[-1][0], ran[-1][-1]) if ran else (),
        (*what.iterations, len(similarity)),
        what.repaired + repaired,
    )


@dataclass(frozen=True)
class _Maps:
    """Both fields in voxels of their grid, rounded, and what the round trip leaves, in mm."""

    grid: Grid
    forward: torch.Tensor
    inverse: torch.Tensor
    residual: torch.Tensor


def _coarse_maps(
    state: torch.Tensor, brain: torch.Tensor, image_grid: Grid, linear: torch.Tensor
) -> _Maps:
    """Extend a field on the state grid to where it is zero, and invert it."""
    import torch

    from vxmprep.morph.inverse import extend, invert_between
    from vxmprep.morph.pyramid import halve_mask

    margin = MARGIN_MM // 2
    near_brain = halve_mask(brain.float()) > 0
    grid = image_grid.halved().padded(margin)
    forward = _rounded(extend(state, near_brain, margin, linear=linear), grid, STEPS_PER_MM)
    inverse = _rounded(invert_between(forward).displacement, grid, STEPS_PER_MM)
    near_brain = torch.nn.functional.pad(near_brain, [margin] * 6)
    return _Maps(grid, forward, inverse, _round_trip(forward, inverse, near_brain, grid))


def _fine_maps(
    displacement: torch.Tensor, brain: torch.Tensor, image_grid: Grid, linear: torch.Tensor
) -> _Maps:
    """Extend a field on the images' grid to where it is zero, and invert it.

    Beyond the brain the field is that of the state grid, which takes an eighth of the work; the
    inverse, too, is first found there.
    """
    from torch.nn import functional

    from vxmprep.morph.fold import unfold_fine
    from vxmprep.morph.inverse import extend, invert
    from vxmprep.morph.pyramid import halve_field, halve_mask, to_image_grid
    from vxmprep.morph.refine import brain_box
    from vxmprep.morph.smooth import dilated, gaussian

    margin = MARGIN_MM // 2
    near_brain = halve_mask(brain.float()) > 0
    coarse = extend(halve_field(displacement), near_brain, margin, linear=linear)
    shape = tuple(2 * size - 1 for size in coarse.shape[2:])
    grid = Grid(shape, image_grid.padded(2 * margin).affine)
    # One inside the brain and to its edge, zero 10 voxels beyond.
    weight = gaussian(dilated(brain, 5).float(), 1.5)
    padding = [
        amount
        for size, old in zip(reversed(shape), reversed(brain.shape[2:]), strict=True)
        for amount in (2 * margin, size - old - 2 * margin)
    ]
    displacement, weight, brain = (
        functional.pad(volume, padding) for volume in (displacement, weight, brain)
    )
    forward = to_image_grid(coarse, shape).lerp_(displacement, weight)
    box = brain_box(weight > 0)
    part, _ = unfold_fine(forward[(..., *box)], (weight > 0)[(..., *box)], linear)
    forward[(..., *box)] = part
    forward = _rounded(forward, grid, FINE_STEPS_PER_MM)
    inverse = to_image_grid(invert(coarse).displacement, shape)
    reach = int(forward.abs().max()) + 2
    box = tuple(
        slice(max(0, side.start - reach), min(size, side.stop + reach))
        for side, size in zip(box, shape, strict=True)
    )
    start = inverse[(..., *box)]
    start.copy_(invert(forward[(..., *box)], tolerance=0.01, start=start).displacement)
    inverse = _rounded(inverse, grid, FINE_STEPS_PER_MM)
    return _Maps(grid, forward, inverse, _round_trip(forward, inverse, brain, grid))


def _round_trip(
    forward: torch.Tensor, inverse: torch.Tensor, brain: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Lengths, in mm, that forward after inverse leaves at the voxels of the brain."""
    from vxmprep.morph.field import compose
    from vxmprep.morph.sampling import lengths

    return lengths(compose(forward, inverse))[brain] * float(grid.spacing[0])


def _predict(
    model: str | Path, scan: torch.Tensor, atlas: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Give the network's displacement on the images' grid."""
    from vxmprep.morph.checkpoint import load_checkpoint
    from vxmprep.morph.predict import predict

    loaded = load_checkpoint(model_file(model))
    loaded.network.to(scan.device)
    displacement = predict(loaded, scan, atlas, dtype)
    if not displacement.isfinite().all():
        raise ValueError(f"{model}: its displacement is not finite; give another network")
    return displacement


def _tensor(image: nb.spatialimages.SpatialImage, where: torch.device) -> torch.Tensor:
    import torch

    data = np.ascontiguousarray(np.asarray(image.dataobj, dtype=np.float32))
    return torch.from_numpy(data)[None, None].to(where)


def _rounded(field: torch.Tensor, grid: Grid, steps_per_mm: int) -> torch.Tensor:
    steps = steps_per_mm * float(grid.spacing[0])
    return (field * steps).round() / steps


def _millimetres(field: torch.Tensor, grid: Grid) -> np.ndarray:
    """Turn a field in voxels of its grid (1, 3, X, Y, Z) into RAS mm (X, Y, Z, 3)."""
    voxels = field[0].permute(1, 2, 3, 0).cpu().numpy()
    return (voxels @ grid.affine[:3, :3].T).astype(np.float32)
