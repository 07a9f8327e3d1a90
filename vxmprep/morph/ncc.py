"""Local normalised cross-correlation of two images and its derivatives, in closed form.

With cross, f and m the sums over a window of the products of the centred images, a window counts
cc = cross^2 / (f m). Its derivative by the voxel p of the moving image M is
alpha (F(p) - mean F) - beta (M(p) - mean M), alpha = 2 cross / (f m), beta = cross alpha / m, and
likewise by the voxels of the fixed image F. The sum over the windows that contain p is again a
few sums over windows, as all are linear in alpha and beta. One pass over the volumes does both
steps, slab by slab, so that no quantity but the derivatives is ever there as a whole.
"""

from dataclasses import dataclass

import torch
from torch.autograd.function import FunctionCtx, once_differentiable

from vxmprep.morph.blocks import samples_together
from vxmprep.morph.windows import Slabs

VARIANCE_FLOOR = 1e-5
"""Variance per voxel, of intensities in [0, 1], below which a window says nothing; it is
added to both sides."""


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

    Parameters
    ----------
    fixed
        Image ``(1, 1, X, Y, Z)``, intensities in [0, 1].
    weight
        Weight of the window around each voxel, of the same shape.
    window
        Odd number of voxels along each axis.
    """

    def __init__(self, fixed: torch.Tensor, weight: torch.Tensor, window: int) -> None:
        self.fixed = fixed
        self.weight = weight
        self.window = window
        self.total = weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)

    def __call__(self, warped: torch.Tensor) -> Derivatives:
        """Similarity to a warped image, and its derivatives."""
        fixed, moving = Side(self.fixed.flatten(0, 1)), Side(warped.flatten(0, 1))
        moving.gradient, moving.curvature = _blank(moving.image), _blank(moving.image)
        weight = self.weight.flatten(0, 1)
        total = correlate(fixed, moving, self.window, weight=weight)
        derivatives = (moving.gradient, moving.curvature)
        return Derivatives(total / self.total, *(each.view(warped.shape) for each in derivatives))


class MeanSquaredCorrelation(torch.autograd.Function):
    """Mean over the windows of two batches of images ``(N, X, ...)``, float32.

    The forward pass finds the derivatives that will be asked for along with the value; nothing
    else is kept.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        window: int,
        wanted: tuple[bool, bool],
    ) -> torch.Tensor:
        """Compute the mean, and the derivatives of the sum by the images that `wanted` says."""
        sides = [
            Side(image, _blank(image) if differentiate else None)
            for image, differentiate in zip((fixed, moving), wanted, strict=True)
        ]
        total = correlate(*sides, window)
        ctx.save_for_backward(*(side.gradient for side in sides))
        return total / fixed.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale the derivatives."""
        gradients = (
            None if gradient is None else gradient * (upstream / gradient.numel())
            for gradient in ctx.saved_tensors
        )
        return *gradients, None, None


@dataclass
class Side:
    """One of the two images ``(N, X, ...)``, and where its derivatives are to be written."""

    image: torch.Tensor
    gradient: torch.Tensor | None = None
    curvature: torch.Tensor | None = None

    def samples(self, which: slice) -> "Side":
        """Take some samples of the batch."""
        volumes = (self.image, self.gradient, self.curvature)
        return Side(*(None if volume is None else volume[which] for volume in volumes))


def _blank(image: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(image, memory_format=torch.contiguous_format)


@torch.no_grad()
def correlate(
    fixed: Side, moving: Side, window: int, *, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Sum the squared correlation of the windows, and write the derivatives asked for.

    Parameters
    ----------
    fixed, moving
        The images, of one shape and type.
    window
        Odd number of voxels along each axis.
    weight
        Weight of the window around each voxel, of the images' shape; none means 1.

    Returns
    -------
    torch.Tensor
        Weighted sum over all windows, a tensor without dimensions.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"local_ncc: window is {window}; give an odd number of voxels")
    together = samples_together(fixed.image)
    sums = []
    for first in range(0, len(fixed.image), together):
        which = slice(first, first + together)
        weights = None if weight is None else weight[which]
        stream = _Stream((fixed.samples(which), moving.samples(which)), weights, window)
        sums.extend(stream.slab(plane) for plane in stream.slabs)
    return torch.stack(sums).sum()


class _Stream:
    """The pass over a few samples: memory for a slab of everything, and the steps on a slab."""

    def __init__(self, sides: tuple[Side, Side], weight: torch.Tensor | None, window: int) -> None:
        slabs = self.slabs = Slabs(sides[0].image, window)
        self.sides = sides
        self.weight = weight
        self.count = window ** (sides[0].image.ndim - 1)
        self.floor = self.count * VARIANCE_FLOOR
        self.images = slabs.slab(), slabs.slab()
        self.product = slabs.slab()
        self.sums = slabs.sums(), slabs.sums()
        self.inverses = slabs.sums(), slabs.sums()
        self.cross = slabs.sums()
        self.wanted = [index for index in (0, 1) if sides[index].gradient is not None]
        self.alpha = slabs.slab() if self.wanted else slabs.sums()
        self.betas = {index: slabs.slab() for index in self.wanted}
        self.shifts = {index: slabs.slab() for index in self.wanted}

    def slab(self, first: int) -> torch.Tensor:
        """Sum over the windows centred from plane `first`; derivatives a radius before them."""
        slabs = self.slabs
        for index in (0, 1):
            self._measure(index, first)
        torch.mul(*self.images, out=self.product)
        cross = slabs.sum(self.product, self.cross)
        cross.addcmul_(*self.sums, value=-1 / self.count)
        alpha = self._new(self.alpha) if self.wanted else self.alpha
        torch.mul(cross, self.inverses[0], out=alpha).mul_(self.inverses[1])
        if self.weight is None:
            slabs.clear(alpha, first)
        else:
            weight = slabs.load(self.weight, first, self.product)
            alpha.mul_(slabs.part(weight, slabs.radius))
        squared = cross.mul_(alpha)
        value = squared.sum()
        for index in self.wanted:
            beta, shift = self._new(self.betas[index]), self._new(self.shifts[index])
            torch.mul(squared, self.inverses[index], out=beta)
            torch.mul(beta, self.sums[index], out=shift)
            shift.addcmul_(alpha, self.sums[1 - index], value=-1)
        if self.wanted:
            self._derive(first - slabs.radius)
        return value

    def _measure(self, index: int, first: int) -> None:
        """Sum of an image over the windows, and the inverse of its sum of squares about it."""
        image = self.slabs.load(self.sides[index].image, first, self.images[index])
        total = self.slabs.sum(image, self.sums[index])
        torch.mul(image, image, out=self.product)
        spread = self.slabs.sum(self.product, self.inverses[index])
        spread.addcmul_(total, total, value=-1 / self.count)
        spread.clamp_(min=0).add_(self.floor).reciprocal_()

    def _derive(self, first: int) -> None:
        """Write the derivatives by the planes from `first`, whose windows have all been seen."""
        slabs = self.slabs
        alphas = slabs.sum(self.alpha, self.inverses[0])
        slabs.advance(self.alpha)
        for index in self.wanted:
            side = self.sides[index]
            own, other = (slabs.part(self.images[i], 0) for i in (index, 1 - index))
            betas = slabs.sum(self.betas[index], self.sums[0])
            shifts = slabs.sum(self.shifts[index], self.sums[1])
            gradient = torch.mul(alphas, other, out=self.cross)
            gradient.addcmul_(betas, own, value=-1).add_(shifts, alpha=1 / self.count)
            slabs.store(gradient, first, side.gradient, 2)
            if side.curvature is not None:
                slabs.store(betas, first, side.curvature, 2)
            slabs.advance(self.betas[index])
            slabs.advance(self.shifts[index])

    def _new(self, coefficients: torch.Tensor) -> torch.Tensor:
        """Planes of this slab's windows, behind those kept from the slab before."""
        return self.slabs.part(coefficients, 2 * self.slabs.radius)
