"""The U-Net of VoxelMorph: from a pair of images to a stationary velocity field."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from vxmprep.morph.field import resize

ENCODER = (16, 32, 32, 32)
DECODER = (32, 32, 32, 32, 32, 16, 16)


class VxmNet(nn.Module):
    """Network of Balakrishnan et al. [1]_: 327,331 parameters with the paper's features in 3-D.

    Convolutions of width 3 with LeakyReLU 0.2; max-pooling down, nearest-neighbour upsampling and
    skip connections up; the rest of the decoder's features at full resolution. The last
    convolution, to the velocity, starts at zero: an untrained network gives the identity.

    Parameters
    ----------
    encoder, decoder
        Features of the convolutions; the decoder's first ones belong to the way up, one per level.
    dims
        2 or 3.
    half_resolution
        Give the velocity on a grid of half the size, corners on corners, in that grid's voxels;
        otherwise on the images' grid.

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
        half_resolution: bool = True,
    ) -> None:
        super().__init__()
        if dims not in (2, 3):
            raise ValueError(f"VxmNet: dims is {dims}; give 2 or 3")
        if len(decoder) <= len(encoder):
            raise ValueError(
                f"VxmNet: decoder has {len(decoder)} features; give more than the encoder's "
                f"{len(encoder)}"
            )
        self.encoder, self.decoder, self.dims = tuple(encoder), tuple(decoder), dims
        self.half_resolution = half_resolution
        self.stride = 2 ** len(encoder)
        self._pool = functional.max_pool3d if dims == 3 else functional.max_pool2d
        convolution = nn.Conv3d if dims == 3 else nn.Conv2d
        skips = list(reversed(encoder))
        up, rest = list(decoder[: len(encoder)]), list(decoder[len(encoder) :])
        self.down = _chain(convolution, [2, *encoder[:-1]], encoder)
        joined = [above + skip for above, skip in zip(up, skips, strict=True)]
        self.up = _chain(convolution, [encoder[-1], *joined[:-1]], up)
        self.rest = _chain(convolution, [joined[-1], *rest[:-1]], rest)
        self.flow = convolution(rest[-1], dims, 3, padding=1)
        nn.init.zeros_(self.flow.weight)
        nn.init.zeros_(self.flow.bias)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Stationary velocity that takes the moving image to the fixed one.

        Parameters
        ----------
        moving, fixed
            Images ``(N, 1, X, Y, Z)`` of any size: padded with zeros to the network's stride.

        Returns
        -------
        torch.Tensor
            Velocity ``(N, 3, x, y, z)`` in voxels of its grid, for `integrate`; x is X // 2 at
            half resolution, X otherwise.
        """
        shape = fixed.shape[2:]
        pair = torch.cat([moving, fixed], dim=1)
        padding = [amount for size in reversed(shape) for amount in (0, -size % self.stride)]
        flow = self.flow(self._features(functional.pad(pair, padding)))
        for axis, size in enumerate(shape, start=2):
            flow = flow.narrow(axis, 0, size)
        return resize(flow, [size // 2 for size in shape]) if self.half_resolution else flow

    def _features(self, volume: torch.Tensor) -> torch.Tensor:
        """Features at full resolution."""
        skipped = []
        for layer in self.down:
            volume = _activate(layer(volume))
            skipped.append(volume)
            volume = self._pool(volume, 2)
        for layer in self.up:
            volume = functional.interpolate(
                _activate(layer(volume)), scale_factor=2, mode="nearest"
            )
            volume = torch.cat([volume, skipped.pop()], dim=1)
        for layer in self.rest:
            volume = _activate(layer(volume))
        return volume


def _chain(
    convolution: type[nn.Module], before: Sequence[int], after: Sequence[int]
) -> nn.ModuleList:
    """Convolutions of width 3 from the features before to those after."""
    return nn.ModuleList(
        convolution(i, o, 3, padding=1) for i, o in zip(before, after, strict=True)
    )


def _activate(volume: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(volume, 0.2)
