"""Algebra of displacement fields: warp, compose, integrate, Jacobian determinant, resize.

A field is a displacement in voxels of its own grid, a tensor ``(N, 3, X, Y, Z)`` (or
``(N, 2, X, Y)``), channel i along array axis i. Its map is phi(p) = p + u(p): the fixed image's
voxel p samples the moving image at phi(p).
"""

from collections.abc import Sequence

import torch
from torch.nn import functional


def warp(image: torch.Tensor, displacement: torch.Tensor, mode: str = "linear") -> torch.Tensor:
    """Resample an image through a field: result(p) = image(p + u(p)), equation 3 of [1]_.

    Parameters
    ----------
    image
        Tensor ``(N, C, X, Y, Z)`` on the grid that `displacement` counts its voxels in. Outside
        it is zero.
    displacement
        Tensor ``(N, 3, X, Y, Z)``, voxels.
    mode
        ``"linear"`` or ``"nearest"``.

    Returns
    -------
    torch.Tensor
        Resampled image, ``(N, C)`` and the spatial shape of `displacement`.

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
    """
    if mode not in ("linear", "nearest"):
        raise ValueError(f"warp: mode is {mode!r}; choose 'linear' or 'nearest'")
    return _pull(image, displacement, mode, "zeros")


def compose(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Field of the map outer after inner: result(p) = inner(p) + outer(p + inner(p)).

    An image warped by the result is the image warped by `outer`, then by `inner`. Outside its grid
    `outer` keeps its value at the edge.

    Parameters
    ----------
    outer, inner
        Fields ``(N, 3, X, Y, Z)`` on one grid, voxels.

    Returns
    -------
    torch.Tensor
        Field of the composed map, voxels.
    """
    return inner + _pull(outer, inner, "linear", "border")


def integrate(velocity: torch.Tensor, steps: int = 7) -> torch.Tensor:
    """Displacement at time one of a stationary velocity, by scaling and squaring [1]_.

    Parameters
    ----------
    velocity
        Tensor ``(N, 3, X, Y, Z)``, voxels per unit of time.
    steps
        Number of squarings; 0 takes the velocity itself as the displacement.

    Returns
    -------
    torch.Tensor
        Displacement, voxels.

    References
    ----------
    .. [1] Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI
    2006.
    """
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def jacobian_determinant(displacement: torch.Tensor) -> torch.Tensor:
    """Take the determinant of the map p + u(p), by central differences (one-sided at the border).

    Parameters
    ----------
    displacement
        Tensor ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels.

    Returns
    -------
    torch.Tensor
        Determinants ``(N, X, Y, Z)``: volume in the moving image per volume in the fixed one.
    """
    dims = displacement.shape[1]
    if dims == 2:
        (a, b), (c, d) = jacobian(displacement)
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = jacobian(displacement)
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def jacobian(displacement: torch.Tensor) -> list[list[torch.Tensor]]:
    """Derive the map p + u(p): element [i][j] is the derivative of component i along axis j."""
    dims = displacement.shape[1]
    rows = []
    for i in range(dims):
        row = [derivative(displacement[:, i], j - dims) for j in range(dims)]
        row[i] += 1
        rows.append(row)
    return rows


def derivative(volume: torch.Tensor, axis: int) -> torch.Tensor:
    """Central difference along one axis, one-sided at both ends."""
    size = volume.shape[axis]
    result = torch.empty_like(volume)
    inside = result.narrow(axis, 1, size - 2)
    torch.sub(volume.narrow(axis, 2, size - 2), volume.narrow(axis, 0, size - 2), out=inside)
    inside *= 0.5
    for end, high, low in ((0, 1, 0), (size - 1, size - 1, size - 2)):
        torch.sub(
            volume.narrow(axis, high, 1),
            volume.narrow(axis, low, 1),
            out=result.narrow(axis, end, 1),
        )
    return result


def resize(displacement: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Carry a field to a grid of another shape over the same extent, its corners on its corners.

    Linear interpolation; the values are scaled into the new grid's voxels, whose size is
    (old size - 1) / (new size - 1) of the old ones along each axis.

    Parameters
    ----------
    displacement
        Tensor ``(N, 3, X, Y, Z)``, voxels of its own grid.
    shape
        Spatial shape of the new grid.

    Returns
    -------
    torch.Tensor
        Field ``(N, 3, *shape)``, voxels of the new grid.
    """
    old = displacement.shape[2:]
    if tuple(shape) == tuple(old):
        return displacement
    mode = "trilinear" if len(old) == 3 else "bilinear"
    result = functional.interpolate(displacement, tuple(shape), mode=mode, align_corners=True)
    scale = [(new - 1) / (size - 1) for new, size in zip(shape, old, strict=True)]
    return result * result.new_tensor(scale).view(1, -1, *[1] * len(old))


def displaced(displacement: torch.Tensor) -> torch.Tensor:
    """Positions p + u(p) in voxels, ``(N, 3, X, Y, Z)``."""
    positions = displacement.clone()
    shape = displacement.shape[2:]
    for axis, size in enumerate(shape):
        line = torch.arange(size, dtype=displacement.dtype, device=displacement.device)
        positions[:, axis] += line.view(-1, *[1] * (len(shape) - 1 - axis))
    return positions


def sample(
    image: torch.Tensor, positions: torch.Tensor, mode: str = "linear", outside: str = "border"
) -> torch.Tensor:
    """Interpolate an image at positions given in its voxels.

    Parameters
    ----------
    image
        Tensor ``(N, C, X, Y, Z)``.
    positions
        Tensor ``(N, 3, *shape)``, voxels of `image`.
    mode
        ``"linear"`` or ``"nearest"``.
    outside
        ``"border"`` keeps the value at the edge, ``"zeros"`` takes zero.

    Returns
    -------
    torch.Tensor
        Values ``(N, C, *shape)``.
    """
    dims = len(image.shape[2:])
    half = positions.new_tensor([(size - 1) / 2 for size in image.shape[2:]])
    grid = (positions / half.view(1, -1, *[1] * dims) - 1).flip(1)
    return _interpolate(image, grid, mode, outside)


def _pull(
    image: torch.Tensor, displacement: torch.Tensor, mode: str, outside: str
) -> torch.Tensor:
    """Image at p + u(p): as `sample` of the displaced positions, with fewer passes over memory."""
    sizes = displacement.shape[2:]
    dims = len(sizes)
    channels = []
    for axis in reversed(range(dims)):
        scale = 2 / (image.shape[2 + axis] - 1)
        line = torch.arange(sizes[axis], dtype=torch.float64, device=displacement.device)
        line = (line * scale - 1).to(displacement.dtype).view(-1, *[1] * (dims - 1 - axis))
        channels.append(torch.add(line, displacement[:, axis], alpha=scale))
    return _interpolate(image, torch.stack(channels, dim=1), mode, outside)


def _interpolate(image: torch.Tensor, grid: torch.Tensor, mode: str, outside: str) -> torch.Tensor:
    """Call `grid_sample` on all threads; the grid is ``(N, 3, *shape)``, last axis first."""
    blocks = _blocks(image, grid)
    rows = grid.shape[2] // blocks
    pieces = grid.unflatten(2, (blocks, rows)).movedim(2, 1).flatten(0, 1).movedim(1, -1)
    values = functional.grid_sample(
        image.expand(blocks, *image.shape[1:]) if blocks > 1 else image,
        pieces,
        mode="bilinear" if mode == "linear" else mode,
        padding_mode=outside,
        align_corners=True,
    )
    if blocks == 1:
        return values
    return values.movedim(0, 1).flatten(1, 2)[None]


def _blocks(image: torch.Tensor, grid: torch.Tensor) -> int:
    """How many slabs to sample one image in: torch spreads only the batch over CPU threads."""
    needs_grad = torch.is_grad_enabled() and (image.requires_grad or grid.requires_grad)
    if image.shape[0] > 1 or image.device.type != "cpu" or needs_grad:
        return 1
    rows = grid.shape[2]
    few = range(4 * torch.get_num_threads(), 0, -1)
    return next(blocks for blocks in few if rows % blocks == 0)
