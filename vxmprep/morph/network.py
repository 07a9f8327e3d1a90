"""The U-Net of VoxelMorph: from a pair of images to a velocity or displacement field."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional

from vxmprep.morph.field import integrate, resize
from vxmprep.morph.upsampled import assemble, fold

ENCODER = (16, 32, 32, 32)
DECODER = (32, 32, 32, 32, 32, 16, 16)

DOUBLED = (tuple(2 * n for n in ENCODER), tuple(2 * n for n in DECODER))
"""Encoder and decoder of the paper's form for pairs of subjects, "x2"."""

SLOPE = 0.2
MOST_STEPS = 20
SMALLEST_SIDE = 4
SLAB = 8
"""Planes that inference takes at a time where the decoder ends, at half its resolution."""

SMALLEST = 20480
"""Values in a slice, features included, up to which torch convolves single volumes on a CPU by a
slow and greedy way; a few features of zeros more take it over that limit."""

MOST_PADDING = 4
"""Most features of zeros for each there is; the smallest volumes are fast in the slow way too."""


class VxmNet(nn.Module):
    """Network of Balakrishnan et al. [1]_: 327,331 parameters with the paper's features in 3-D.

    Convolutions of width 3 with LeakyReLU 0.2; max-pooling down, nearest-neighbour upsampling and
    skip connections up; the rest of the decoder's features where the way up ends. The last
    convolution, to the field, starts at zero: an untrained network gives the identity.

    Parameters
    ----------
    encoder, decoder
        Features of the convolutions; the decoder's first ones belong to the way up, one per level.
    dims
        2 or 3.
    steps
        Squarings that integrate the field as a stationary velocity; 0 takes it as the
        displacement, as the paper does.
    half_resolution
        Give the field on a grid of half the size, corners on corners, in that grid's voxels;
        otherwise on the images' grid.
    output_stride
        Where the way up ends: 1 at the images' resolution, 2 or 4 that many times coarser, which
        spares the costliest convolutions.

    References
    ----------
    .. [1] Balakrishnan et al., IEEE TMI 38(8), 2019, arXiv 1809.05231.
    """

    def __init__(
        self,
        encoder: Sequence[int] = ENCODER,
        decoder: Sequence[int] = DECODER,
        *,
        dims: int = 3,
        steps: int = 7,
        half_resolution: bool = True,
        output_stride: int = 1,
    ) -> None:
        super().__init__()
        whole = (("dims", dims), ("steps", steps), ("output_stride", output_stride))
        for name, value in whole:
            if type(value) is not int:
                raise ValueError(f"VxmNet: {name} is {value!r}; give a whole number")
        if type(half_resolution) is not bool:
            raise ValueError(f"VxmNet: half_resolution is {half_resolution!r}; give True or False")
        if dims not in (2, 3):
            raise ValueError(f"VxmNet: dims is {dims}; give 2 or 3")
        if len(decoder) < len(encoder):
            raise ValueError(
                f"VxmNet: decoder has {len(decoder)} features; give at least the encoder's "
                f"{len(encoder)}"
            )
        strides = [2**level for level in range(len(encoder))]
        if output_stride not in strides:
            raise ValueError(f"VxmNet: output_stride is {output_stride}; give one of {strides}")
        if not 0 <= steps <= MOST_STEPS:
            raise ValueError(f"VxmNet: steps is {steps}; give 0 to {MOST_STEPS}")
        self.encoder, self.decoder, self.dims = tuple(encoder), tuple(decoder), dims
        self.steps, self.half_resolution = steps, half_resolution
        self.output_stride = output_stride
        self.stride = 2 ** len(encoder)
        # One convolution follows each upsampling, and takes the skipped features as well.
        self.upsamplings = len(encoder) - strides.index(output_stride)
        skips = list(reversed(encoder))[: self.upsamplings] + [0] * strides.index(output_stride)
        joined = [above + skip for above, skip in zip(decoder, skips, strict=False)]
        rest = decoder[len(encoder) :]
        self.down = self._chain([2, *encoder[:-1]], encoder)
        self.up = self._chain([encoder[-1], *joined[:-1]], decoder[: len(encoder)])
        self.rest = self._chain([joined[-1], *rest[:-1]] if rest else [], rest)
        self.flow = self._chain([rest[-1] if rest else joined[-1]], [dims])[0]
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)

    def _chain(self, before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
        """Convolutions of width 3 from the features before to those after."""
        convolution = nn.Conv3d if self.dims == 3 else nn.Conv2d
        return nn.ModuleList(
            convolution(i, o, 3, padding=1) for i, o in zip(before, after, strict=True)
        )

    def forward(
        self, moving: torch.Tensor, fixed: torch.Tensor, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Field that takes the moving image to the fixed one, before its integration.

        Parameters
        ----------
        moving, fixed
            Images ``(N, 1, X, Y, Z)`` of any size from 4 voxels a side: padded with zeros to the
            network's stride.
        dtype
            Precision of the convolutions: float32, or bfloat16 where the hardware has it. The
            weights' own by default. The first convolution always has the weights' own: images
            rounded to bfloat16 cost most of the precision, and save least of the time.

        Returns
        -------
        torch.Tensor
            Velocity (or displacement, without integration steps) ``(N, 3, x, y, z)``, float32 or
            better, in voxels of its grid; x is X // 2 at half resolution, X otherwise. For
            `integrate`.

        Raises
        ------
        ValueError
            If an image has fewer voxels along an axis.
        """
        shape = fixed.shape[2:]
        if min(shape) < SMALLEST_SIDE:
            raise ValueError(
                f"VxmNet: images of shape {tuple(shape)}; give at least {SMALLEST_SIDE} voxels a "
                "side"
            )
        exact = self.flow.weight.dtype
        pair = torch.cat([moving, fixed], dim=1).to(exact)
        padding = [amount for size in reversed(shape) for amount in (0, -size % self.stride)]
        return self.to_field_grid(self._flow(functional.pad(pair, padding), dtype or exact), shape)

    def to_field_grid(self, flow: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Bring the last convolution's output for images of a shape to the field's grid."""
        for axis, size in enumerate(shape, start=2):
            flow = flow.narrow(axis, 0, max(size // self.output_stride, 1))
        flow = flow.float() if flow.dtype.itemsize < 4 else flow
        return resize(flow, [size // 2 for size in shape] if self.half_resolution else shape)

    def integrate(self, field: torch.Tensor) -> torch.Tensor:
        """Displacement of what `forward` gives, in voxels of the same grid."""
        return integrate(field, self.steps)

    def _flow(self, volume: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Run all convolutions on a padded pair, all but the first in a precision."""
        volume, skipped = self._encode(_channels_last(volume), dtype)
        layers = [*self.up, *self.rest, self.flow]
        volume = self._activated(layers[0], volume)
        count = self.upsamplings
        for layer in layers[1:count]:
            volume = self._joined(layer, volume, skipped.pop())
        if torch.is_grad_enabled() or volume.is_cuda or len(volume) > 1 or self.dims == 2:
            volume = self._joined(layers[count], volume, skipped.pop())
            for layer in layers[count + 1 :]:
                volume = self._activated(layer, volume)
            return volume
        slabs = self._joined_slabs(layers[count], volume, skipped.pop())
        for layer in layers[count + 1 :]:
            slabs = self._activated_slabs(layer, slabs)
        return torch.cat(list(slabs), dim=2)

    def _encode(
        self, volume: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Go down: the deepest features, pooled, and those that the way up takes again."""
        skipped = []
        pool = functional.max_pool3d if self.dims == 3 else functional.max_pool2d
        for level, layer in enumerate(self.down):
            volume = self._activated(layer, volume, dtype=dtype)
            if level >= len(self.down) - self.upsamplings:
                skipped.append(volume)
            volume = pool(volume, 2)
        return volume, skipped

    def _activated(
        self,
        layer: nn.Module,
        volume: torch.Tensor,
        padding: Sequence[int] | int = 1,
        dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """Convolve in the volume's precision, then go on in another."""
        weight = _channels_last(layer.weight.to(volume.dtype))
        volume = _convolve(volume, weight, layer.bias, padding)
        return self._activate(volume.to(dtype or volume.dtype), layer)

    def _activate(self, volume: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        return volume if layer is self.flow else functional.leaky_relu_(volume, SLOPE)

    def _joined(
        self,
        layer: nn.Module,
        coarse: torch.Tensor,
        skipped: torch.Tensor,
        padding: Sequence[int] | int = 1,
    ) -> torch.Tensor:
        """Convolve the upsampled coarse features and the skipped ones, without upsampling."""
        above, beside = layer.weight.tensor_split([coarse.shape[1]], dim=1)
        above = _channels_last(fold(above).to(coarse.dtype))
        beside = _channels_last(beside.to(skipped.dtype))
        fine = _convolve(skipped, beside, layer.bias, padding)
        return self._activate(assemble(fine, _convolve(coarse, above, None, padding)), layer)

    def _joined_slabs(
        self, layer: nn.Module, coarse: torch.Tensor, skipped: torch.Tensor
    ) -> Iterator[torch.Tensor]:
        """Give what `_joined` gives, a few planes at a time."""
        for start in range(0, coarse.shape[2], SLAB):
            stop = min(start + SLAB, coarse.shape[2])
            above, beside = (
                _planes(coarse, start - 1, stop + 1),
                _planes(skipped, 2 * start - 1, 2 * stop + 1),
            )
            yield self._joined(layer, above, beside, (0, 1, 1))

    def _activated_slabs(
        self, layer: nn.Module, slabs: Iterator[torch.Tensor]
    ) -> Iterator[torch.Tensor]:
        """Give what `_activated` gives, planes as they come; two are kept for those to follow."""
        kept = None
        for slab in slabs:
            kept = torch.zeros_like(slab[:, :, :1]) if kept is None else kept
            block = torch.cat([kept, slab], dim=2)
            kept = block[:, :, -2:].clone()
            if block.shape[2] > 2:
                yield self._activated(layer, block, (0, 1, 1))
        yield self._activated(layer, _planes(kept, 0, 3), (0, 1, 1))


def _convolve(
    volume: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    padding: Sequence[int] | int,
) -> torch.Tensor:
    convolution = functional.conv3d if volume.ndim == 5 else functional.conv2d
    lacking = SMALLEST // math.prod((len(volume), *volume.shape[2:4])) + 1 - volume.shape[1]
    few = 0 < lacking <= MOST_PADDING * volume.shape[1]
    if few and len(volume) == 1 and volume.ndim == 5 and volume.device.type == "cpu":
        zeros = [0, 0, 0, 0, 0, 0, 0, lacking]
        volume, weight = (_channels_last(functional.pad(x, zeros)) for x in (volume, weight))
    return convolution(
        volume, weight, None if bias is None else bias.to(volume.dtype), padding=padding
    )


def _channels_last(volume: torch.Tensor) -> torch.Tensor:
    """Store the channels of a voxel beside each other, as CPUs and GPUs convolve fastest."""
    last = torch.channels_last_3d if volume.ndim == 5 else torch.channels_last
    return volume.contiguous(memory_format=last)


def _planes(volume: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Planes of a volume, zero beyond its ends."""
    size = volume.shape[2]
    inside = volume[:, :, max(start, 0) : min(stop, size)]
    beyond = [0, 0, 0, 0, max(-start, 0), max(stop - size, 0)]
    return functional.pad(inside, beyond) if any(beyond) else inside
