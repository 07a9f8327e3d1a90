"""Interpolation of images at positions: what the algebra of fields stands on.

`vxmprep.morph.field` says what a field is. Everything here is differentiable, with respect to the
image and to the positions.
"""

import torch
from torch.nn import functional

MOST_GRADIENTS = 4
"""Most slabs that an image which needs a gradient is sampled in: each holds one as large."""


def lengths(vectors: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """Lengths of vectors, whose components' axis stays with one element.

    torch's own norm along such an axis is 40 times slower.
    """
    return vectors.square().sum(dim=dim, keepdim=True).sqrt_()


def check_field(caller: str, name: str, field: torch.Tensor) -> None:
    """Raise unless a tensor has the shape of a field.

    Parameters
    ----------
    caller, name
        The function and its argument, for the message.
    field
        Tensor that should be ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``.

    Raises
    ------
    ValueError
        The shape is another, or the values are integers.
    """
    if field.ndim not in (4, 5) or field.shape[1] != field.ndim - 2:
        raise ValueError(
            f"{caller}: {name} has shape {tuple(field.shape)}; give (N, 3, X, Y, Z) or "
            "(N, 2, X, Y)"
        )
    if not field.is_floating_point():
        raise ValueError(f"{caller}: {name} is {field.dtype}; give floating-point voxels")


def check_image(caller: str, image: torch.Tensor, displacement: torch.Tensor) -> None:
    """Raise unless an image and a field are of one batch and of as many dimensions.

    Parameters
    ----------
    caller
        The function, for the message.
    image
        Tensor that should be ``(N, C, X, Y, Z)`` or ``(N, C, X, Y)``.
    displacement
        Its field, ``(N, 3, ...)`` or ``(N, 2, ...)``.

    Raises
    ------
    ValueError
        One of them has another shape.
    """
    check_field(caller, "displacement", displacement)
    if image.ndim != displacement.ndim or len(image) != len(displacement):
        raise ValueError(
            f"{caller}: image has shape {tuple(image.shape)} and displacement "
            f"{tuple(displacement.shape)}; give as many dimensions and the same batch"
        )


def displaced(displacement: torch.Tensor) -> torch.Tensor:
    """Give the positions p + u(p).

    Parameters
    ----------
    displacement
        Field ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels.

    Returns
    -------
    torch.Tensor
        Positions of the same shape, voxels of the grid, the first voxel's centre at 0.
    """
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
        Floating-point tensor ``(N, C, X, Y, Z)`` or ``(N, C, X, Y)``.
    positions
        Tensor ``(N, 3, *shape)``, or ``(N, 2, *shape)`` in the plane, voxels of `image`; `shape`
        is any, such as that of a grid or ``(M,)`` for M points.
    mode
        ``"linear"`` or ``"nearest"``.
    outside
        ``"border"`` keeps the value at the edge, ``"zeros"`` takes zero.

    Returns
    -------
    torch.Tensor
        Values ``(N, C, *shape)``.

    Raises
    ------
    ValueError
        `mode` or `outside` is unknown, the image holds integers, or the shapes do not go
        together.
    """
    dims = image.ndim - 2
    if dims not in (2, 3) or positions.shape[:2] != (len(image), dims):
        raise ValueError(
            f"sample: image has shape {tuple(image.shape)} and positions "
            f"{tuple(positions.shape)}; give (N, C, X, Y, Z) and (N, 3, ...), or (N, C, X, Y) "
            "and (N, 2, ...)"
        )
    _check_how("sample", image, mode, outside)
    half = positions.new_tensor([max(size - 1, 1) / 2 for size in image.shape[2:]])
    grid = (positions / half.view(1, -1, *[1] * (positions.ndim - 2)) - 1).flip(1)
    return _interpolate(image, grid, mode, outside)


def pull(
    caller: str, image: torch.Tensor, displacement: torch.Tensor, mode: str, outside: str
) -> torch.Tensor:
    """Image at p + u(p): as `sample` of the displaced positions, with fewer passes over memory.

    Parameters
    ----------
    caller
        The function that errors name.
    image, displacement
        Image ``(N, C, X, Y, Z)`` and field ``(N, 3, ...)``, or ``(N, C, X, Y)`` and
        ``(N, 2, ...)``; the field counts in the image's voxels.
    mode, outside
        As for `sample`.

    Returns
    -------
    torch.Tensor
        Image on the field's grid.
    """
    check_image(caller, image, displacement)
    _check_how(caller, image, mode, outside)
    sizes = displacement.shape[2:]
    dims = len(sizes)
    channels = []
    for axis in reversed(range(dims)):
        scale = 2 / max(image.shape[2 + axis] - 1, 1)
        line = torch.arange(sizes[axis], dtype=torch.float64, device=displacement.device)
        line = (line * scale - 1).to(displacement.dtype).view(-1, *[1] * (dims - 1 - axis))
        channels.append(torch.add(line, displacement[:, axis], alpha=scale))
    return _interpolate(image, torch.stack(channels, dim=1), mode, outside)


def _check_how(caller: str, image: torch.Tensor, mode: str, outside: str) -> None:
    if mode not in ("linear", "nearest"):
        raise ValueError(f"{caller}: mode is {mode!r}; choose 'linear' or 'nearest'")
    if outside not in ("border", "zeros"):
        raise ValueError(f"{caller}: outside is {outside!r}; choose 'border' or 'zeros'")
    if not image.is_floating_point():
        raise ValueError(
            f"{caller}: image is {image.dtype}; convert it to float, or warp labels by warp_labels"
        )


def _interpolate(image: torch.Tensor, grid: torch.Tensor, mode: str, outside: str) -> torch.Tensor:
    """Call `grid_sample` on all threads; the grid is ``(N, 3, *shape)``, last axis first.

    Torch spreads only the batch over a processor's threads, so each image's positions are cut into
    as many pieces, which make a batch of views of the image.
    """
    blocks = _blocks(image)
    if blocks > 1 and len(image) > 1:
        pairs = zip(image.split(1), grid.split(1), strict=True)
        return torch.cat([_interpolate(one, its, mode, outside) for one, its in pairs])
    how = {
        "mode": "bilinear" if mode == "linear" else mode,
        "padding_mode": outside,
        "align_corners": True,
    }
    if blocks == 1 and grid.ndim == image.ndim:
        return functional.grid_sample(image, grid.movedim(1, -1), **how)
    shape, points = grid.shape[2:], grid.flatten(2)
    count = points.shape[2]
    width = -(-count // blocks)
    if blocks * width > count:
        points = functional.pad(points, [0, blocks * width - count])
    pieces = points.unflatten(2, (blocks, width)).movedim(1, -1).flatten(0, 1)
    pieces = pieces.view(len(pieces), *[1] * (image.ndim - 3), *pieces.shape[1:])
    views = image.expand(blocks, *image.shape[1:]) if blocks > 1 else image
    values = functional.grid_sample(views, pieces, **how).flatten(2)
    values = values.unflatten(0, (-1, blocks)).movedim(1, 2).flatten(2)
    return values[..., :count].unflatten(2, shape)


def _blocks(image: torch.Tensor) -> int:
    """How many pieces to sample an image in: one per thread of the processor."""
    threads = torch.get_num_threads() if image.device.type == "cpu" else 1
    needs_grad = torch.is_grad_enabled() and image.requires_grad
    return min(threads, MOST_GRADIENTS) if needs_grad else threads
