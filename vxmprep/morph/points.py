"""Points through a field."""

import torch

from vxmprep.morph.sampling import check_field, sample


def transform_points(points: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Map points through a field: p + u(p).

    Points go where the field samples: from the fixed image to the moving one. A landmark of the
    moving image is brought to the fixed one by the inverse field.

    Parameters
    ----------
    points
        Tensor ``(N, M, 3)``, or ``(N, M, 2)`` in the plane, floating-point voxels of the field's
        grid, the first voxel's centre at 0.
    displacement
        Field ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels; interpolated linearly between its
        voxels, outside its grid it keeps its value at the edge.

    Returns
    -------
    torch.Tensor
        Points of the shape of `points`.

    Raises
    ------
    ValueError
        The shapes do not go together, or the points are integers.

    Examples
    --------
    >>> shift = torch.full((1, 2, 8, 8), 3.0)
    >>> transform_points(torch.tensor([[[1.0, 2.5]]]), shift)
    tensor([[[4.0000, 5.5000]]])
    """
    check_field("transform_points", "displacement", displacement)
    batch, dims = displacement.shape[:2]
    if points.ndim != 3 or (points.shape[0], points.shape[2]) != (batch, dims):
        raise ValueError(
            f"transform_points: points has shape {tuple(points.shape)}; a displacement of shape "
            f"{tuple(displacement.shape)} takes ({batch}, M, {dims})"
        )
    if not points.is_floating_point():
        raise ValueError(f"transform_points: points is {points.dtype}; give floating-point voxels")
    moves = sample(displacement, points.to(displacement.dtype).movedim(2, 1))
    return points + moves.movedim(1, 2)
