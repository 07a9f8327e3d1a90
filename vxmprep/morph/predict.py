"""Register a pair by a trained network alone."""

import torch

from vxmprep.morph.field import resize
from vxmprep.morph.inverse import invert
from vxmprep.morph.model import Model


@torch.inference_mode()
def predict(
    model: Model,
    moving: torch.Tensor,
    fixed: torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Give the displacement field that a network predicts for a pair.

    Parameters
    ----------
    model
        The network, on the images' device, with the frame it wants its images in.
    moving, fixed
        Images ``(1, 1, X, Y, Z)`` float32 on a 1 mm grid in RAS order, affinely aligned,
        intensities in [0, 1], background 0.
    dtype
        Precision of the convolutions.

    Returns
    -------
    torch.Tensor
        Displacement ``(1, 3, X, Y, Z)`` float32, voxels of the images.

    Raises
    ------
    ValueError
        If the network is one for planes, or the images are no volumes of one shape.
    """
    field = _field(model, moving, fixed, dtype)
    return _leave(model, model.network.integrate(field), fixed)


@torch.inference_mode()
def predict_both(
    model: Model,
    moving: torch.Tensor,
    fixed: torch.Tensor,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the displacement fields of both directions from one pass of the network.

    The inverse is integrated from the negated velocity; where the network's field is a
    displacement it is found numerically.

    Parameters
    ----------
    model, moving, fixed, dtype
        As for `predict`.

    Returns
    -------
    forward, inverse : torch.Tensor
        Displacements ``(1, 3, X, Y, Z)``, voxels of the images: fixed to moving, and back.
    """
    field = _field(model, moving, fixed, dtype)
    network = model.network
    forward = network.integrate(field)
    inverse = network.integrate(-field) if network.steps else invert(forward).displacement
    return _leave(model, forward, fixed), _leave(model, inverse, fixed)


def _field(
    model: Model, moving: torch.Tensor, fixed: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    if model.network.dims != 3:
        raise ValueError("predict: a network for planes cannot register volumes")
    if fixed.ndim != 5 or fixed.shape[:2] != (1, 1):
        raise ValueError(
            f"predict: fixed has shape {tuple(fixed.shape)}; give images (1, 1, X, Y, Z)"
        )
    if moving.shape != fixed.shape:
        raise ValueError(
            f"predict: moving and fixed have shapes {tuple(moving.shape)} and "
            f"{tuple(fixed.shape)}; give images on one grid"
        )
    return model.network(model.frame.enter(moving), model.frame.enter(fixed), dtype)


def _leave(model: Model, displacement: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    shape = model.frame.entered_shape(fixed.shape[2:])
    return model.frame.leave(resize(displacement, shape), fixed.shape[2:])
