"""Conformed images on the network's grid, at the voxel size of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vxmprep.spatial.grid import Grid
from vxmprep.spatial.images import ImageError, load
from vxmprep.spatial.opening import open_image

LABELS = np.iinfo(np.int16)


def read_grid(path: Path) -> Grid:
    """Give the grid of an image file.

    Raises
    ------
    ImageError
        If the file is no image.
    """
    return Grid.of(open_image(path))


def read_image(path: Path, grid: Grid, voxel_size: int = 1) -> np.ndarray:
    """Read a conformed image.

    Parameters
    ----------
    path
        Image of whole numbers 0 to 255.
    grid
        The grid of 1 mm that it should lie on.
    voxel_size
        1, or 2 for every second voxel after smoothing, as a network of 2 mm is given images.

    Returns
    -------
    numpy.ndarray
        uint8, the shape of `grid` or ``(n + 1) // 2`` of each of its sizes.

    Raises
    ------
    ImageError
        If it cannot be read, lies on another grid, is no conformed image, or is empty.
    """
    data = _on_grid(path, grid, np.float32)
    if data.min() < 0 or data.max() > 255 or np.abs(data - np.rint(data)).max() > 0:
        raise ImageError(f"{path}: not whole numbers of 0 to 255; give a conformed image")
    if not data.any():
        raise ImageError(f"{path}: every voxel is 0; there is nothing to train on")
    whole = data if voxel_size == 1 else np.rint(255 * _coarser(data / 255))
    return np.ascontiguousarray(whole.astype(np.uint8))


def read_labels(path: Path, grid: Grid, voxel_size: int = 1) -> np.ndarray:
    """Read labels; at 2 mm every second voxel.

    Parameters
    ----------
    path, grid, voxel_size
        As for `read_image`.

    Returns
    -------
    numpy.ndarray
        int16.

    Raises
    ------
    ImageError
        If they cannot be read, lie on another grid, or are no labels.
    """
    data = _on_grid(path, grid, np.float64)
    low, high = data.min(), data.max()
    if low < 0 or high > LABELS.max or np.abs(data - np.rint(data)).max() > 0:
        raise ImageError(f"{path}: not whole numbers of 0 to {LABELS.max}; give labels")
    if high == 0:
        raise ImageError(f"{path}: every label is 0; there is no structure in it")
    step = slice(None, None, voxel_size)
    return np.ascontiguousarray(data[step, step, step].astype(np.int16))


def coarse_shape(grid: Grid, voxel_size: int) -> tuple[int, ...]:
    """Shape of volumes read from a grid at a voxel size."""
    return tuple(-(-size // voxel_size) for size in grid.shape)


def _on_grid(path: Path, grid: Grid, dtype: type) -> np.ndarray:
    found = read_grid(path)
    if not found.matches(grid):
        place = "" if found.shape != grid.shape else ", elsewhere"
        raise ImageError(
            f"{path}: on another grid, {found.shape} voxels{place}, not the atlas's {grid.shape}; "
            "prepare it for this atlas"
        )
    return np.asarray(load(path, dtype).dataobj)


def _coarser(data: np.ndarray) -> np.ndarray:
    """Bring intensities to 2 mm exactly as `vxmprep.morph.predict` does."""
    import torch

    from vxmprep.morph.frame import Frame

    volume = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32))[None, None]
    return Frame(spacing=2).enter(volume)[0, 0].numpy()
