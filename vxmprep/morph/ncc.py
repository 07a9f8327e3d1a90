"""Local normalised cross-correlation of one pair with its derivatives in closed form."""

from dataclasses import dataclass

import torch

from vxmprep.morph.losses import VARIANCE_FLOOR
from vxmprep.morph.smooth import box_sum


@dataclass(frozen=True)
class Derivatives:
    """What a change of the warped image does to the similarity.

    Attributes
    ----------
    value
        Weighted mean over windows of the squared correlation, a tensor without dimensions.
    gradient
        Derivative of the weighted sum by the warped image's voxels, its shape.
    curvature
        Gauss-Newton approximation of minus its second derivative, at least 0, its shape.
    """

    value: torch.Tensor
    gradient: torch.Tensor
    curvature: torch.Tensor


class LocalNcc:
    """Squared local correlation of a fixed image with images warped onto it.

    With cross, f and m the sums over a window of the products of the centred images, a window
    counts cc = cross^2 / (f m). Its derivative by the voxel p of the warped image is
    alpha (F(p) - mean F) - beta (M(p) - mean M), alpha = 2 cross / (f m), beta = cross alpha / m;
    the sum over the windows that contain p is again a few box sums, as all are linear in alpha
    and beta.

    Parameters
    ----------
    fixed
        Image ``(1, 1, X, Y, Z)``, intensities in [0, 1].
    weight
        Weight of the window around each voxel, of the same shape.
    window
        Odd number of voxels along each axis.
    floor
        Variance added to both sides: windows with less contrast count less.
    """

    def __init__(
        self,
        fixed: torch.Tensor,
        weight: torch.Tensor,
        window: int,
        floor: float = VARIANCE_FLOOR,
    ) -> None:
        self.fixed = fixed
        self.window = window
        self.count = window ** (fixed.ndim - 2)
        self.floor = self.count * floor
        self.weight = weight
        self.total = weight.sum()
        self.mean = box_sum(fixed, window).div_(self.count)
        variance = box_sum(fixed * fixed, window).addcmul_(self.mean, self.mean, value=-self.count)
        self.inverse = variance.clamp_(min=0).add_(self.floor).reciprocal_()

    def __call__(self, warped: torch.Tensor) -> Derivatives:
        """Similarity to a warped image, and its derivatives."""
        mean = box_sum(warped, self.window).div_(self.count)
        cross = box_sum(self.fixed * warped, self.window)
        cross.addcmul_(self.mean, mean, value=-self.count)
        variance = box_sum(warped * warped, self.window).addcmul_(mean, mean, value=-self.count)
        inverse = variance.clamp_(min=0).add_(self.floor).reciprocal_()
        # alpha / 2 and beta / 2, with the window's weight
        alpha = (cross * self.inverse).mul_(inverse).mul_(self.weight)
        beta = cross.mul_(alpha)
        value = beta.sum() / self.total
        beta = beta.mul_(inverse)
        shift = mean.mul_(beta).addcmul_(self.mean, alpha, value=-1)
        curvature = box_sum(beta, self.window)
        gradient = box_sum(alpha, self.window).mul_(self.fixed)
        gradient.addcmul_(curvature, warped, value=-1).add_(box_sum(shift, self.window))
        return Derivatives(value, gradient.mul_(2), curvature.mul_(2))
