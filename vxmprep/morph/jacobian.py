"""Derivatives of fields: Jacobian matrix, its determinant and the determinant's logarithm."""

import torch

from vxmprep.morph.sampling import check_field


def jacobian_determinant(displacement: torch.Tensor) -> torch.Tensor:
    """Take the determinant of the map p + u(p), by central differences (one-sided at the border).

    Parameters
    ----------
    displacement
        Tensor ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels.

    Returns
    -------
    torch.Tensor
        Determinants ``(N, X, Y, Z)`` or ``(N, X, Y)``: volume (area) in the moving image per
        volume in the fixed one. 1 keeps volume, above 1 the moving image is the larger, at 0 and
        below the map folds.

    Raises
    ------
    ValueError
        The shape is not a field's, or an axis has one voxel.
    """
    check_field("jacobian_determinant", "displacement", displacement)
    if displacement.shape[1] == 2:
        (a, b), (c, d) = jacobian(displacement)
        return a * d - b * c
    (a, b, c), (d, e, f), (g, h, i) = jacobian(displacement)
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def log_jacobian_determinant(displacement: torch.Tensor) -> torch.Tensor:
    """Take the natural logarithm of the determinant; not a number where the map folds.

    A fold has no logarithm. It is given as nan, also where the determinant is exactly zero, rather
    than as minus infinity, which statistics and thresholds would take for strong shrinkage without
    a word: a mean over folds is nan, `torch.nanmean` leaves them out and `torch.isnan` counts
    them. Folds get no gradient, and spoil no other voxel's.

    Parameters
    ----------
    displacement
        Tensor ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels.

    Returns
    -------
    torch.Tensor
        Logarithms ``(N, X, Y, Z)`` or ``(N, X, Y)``: positive where the moving image is larger
        than the fixed one. Those of a map and of its inverse at the same point add up to zero.

    Raises
    ------
    ValueError
        The shape is not a field's, or an axis has one voxel.
    """
    check_field("log_jacobian_determinant", "displacement", displacement)
    determinant = jacobian_determinant(displacement)
    return torch.where(determinant > 0, determinant, torch.nan).log()


def jacobian(displacement: torch.Tensor) -> list[list[torch.Tensor]]:
    """Derive the map p + u(p).

    Parameters
    ----------
    displacement
        Tensor ``(N, 3, X, Y, Z)`` or ``(N, 2, X, Y)``, voxels.

    Returns
    -------
    list of list of torch.Tensor
        Element [i][j], ``(N, X, Y, Z)``, is the derivative of component i along axis j.
    """
    dims = displacement.shape[1]
    rows = []
    for i in range(dims):
        row = [derivative(displacement[:, i], j - dims) for j in range(dims)]
        row[i] += 1
        rows.append(row)
    return rows


def derivative(volume: torch.Tensor, axis: int) -> torch.Tensor:
    """Take central differences along one axis, one-sided at both ends.

    Parameters
    ----------
    volume
        Tensor of any shape.
    axis
        Axis, counted from either end.

    Returns
    -------
    torch.Tensor
        Change per voxel, in the shape of `volume`.

    Raises
    ------
    ValueError
        The axis has one voxel.
    """
    size = volume.shape[axis]
    if size < 2:
        raise ValueError(f"derivative: axis {axis} has {size} voxel; give at least 2")
    if torch.is_grad_enabled() and volume.requires_grad:
        return torch.gradient(volume, dim=axis)[0]
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
