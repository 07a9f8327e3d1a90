"""The images a network was trained on: their axes, spacing, grid and intensities."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from vxmprep.morph.pyramid import halve_image, state_shape, to_image_grid

LARGEST = 1024
OPPOSITE = {"R": "L", "A": "P", "S": "I", "L": "R", "P": "A", "I": "S"}


@dataclass(frozen=True)
class Frame:
    """How a network wants its images.

    Images come in on a grid of 1 mm whose axes point to the right, to the front and upwards (RAS),
    intensities in [0, 1], background 0.

    Attributes
    ----------
    axes
        Where the network's axes point, one letter each of R or L, A or P, S or I.
    spacing
        Size of the network's voxels in those of the images, 1 or 2. At 2, voxel i lies on the
        images' voxel 2 i.
    shape
        Spatial shape of the network's grid, in its axes; that of the images where None.
    centre
        Voxel of that grid on which the images' centre is put; its own centre where None.
    white
        The network's intensity where the images have 1.
    """

    axes: str = "RAS"
    spacing: int = 1
    shape: tuple[int, ...] | None = None
    centre: tuple[float, ...] | None = None
    white: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what describes no grid."""
        numbers = {"spacing": (self.spacing,), "white": (self.white,)}
        numbers |= {"shape": self.shape or (), "centre": self.centre or ()}
        for name, values in numbers.items():
            if not all(type(v) in (int, float) and math.isfinite(v) for v in values):
                raise ValueError(f"Frame: {name} is {getattr(self, name)!r}; give numbers")
        if self.white <= 0:
            raise ValueError(f"Frame: white is {self.white}; give more than 0")
        if not all(type(size) is int and 0 < size <= LARGEST for size in self.shape or ()):
            raise ValueError(f"Frame: shape is {self.shape}; give sizes of 1 to {LARGEST}")
        named = [letter if letter in "RAS" else OPPOSITE.get(letter) for letter in self.axes]
        if sorted(map(str, named)) != sorted("RAS"):
            raise ValueError(f"Frame: axes is {self.axes!r}; give three letters such as 'LIA'")
        if self.spacing not in (1, 2):
            raise ValueError(f"Frame: spacing is {self.spacing}; give 1 or 2")
        if self.shape is not None and len(self.shape) != 3:
            raise ValueError(f"Frame: shape is {self.shape}; give three sizes")
        if self.centre is not None and (self.shape is None or len(self.centre) != 3):
            raise ValueError("Frame: centre is of three numbers, and of a grid with a shape")

    def enter(self, image: torch.Tensor) -> torch.Tensor:
        """Bring an image ``(1, 1, X, Y, Z)`` to the network's grid and intensities."""
        if self.spacing == 2:
            x, y, z = self._coarse(image.shape[2:])
            image = halve_image(image)[..., :x, :y, :z]
        image = image.permute(0, 1, *(2 + axis for axis in self._order)).flip(self._flipped)
        if self.shape is not None:
            image = functional.pad(image, _flat(self._margins(image.shape[2:])))
        return image * self.white

    def leave(self, displacement: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Bring a field from the network's grid to that of the images.

        Parameters
        ----------
        displacement
            Field ``(1, 3, x, y, z)`` on the network's grid, voxels. Beyond it the field keeps its
            value at the edge.
        shape
            Spatial shape (X, Y, Z) of the images.

        Returns
        -------
        torch.Tensor
            Field ``(1, 3, X, Y, Z)``, voxels of the images.
        """
        coarse = shape if self.spacing == 1 else self._coarse(shape)
        if self.shape is not None:
            sizes = [coarse[axis] for axis in self._order]
            for axis, (before, _) in enumerate(self._margins(sizes), start=2):
                displacement = _cut(displacement, axis, before, sizes[axis - 2])
        order = self._order
        displacement = displacement.flip(self._flipped)
        signs = [-1.0 if 2 + axis in self._flipped else 1.0 for axis in range(3)]
        displacement = displacement * displacement.new_tensor(signs).view(1, 3, 1, 1, 1)
        back = [order.index(axis) for axis in range(3)]
        displacement = displacement[:, back].permute(0, 1, *(2 + axis for axis in back))
        if self.spacing == 1:
            return displacement.contiguous()
        beyond = [(0, new - old) for new, old in zip(state_shape(shape), coarse, strict=True)]
        return to_image_grid(functional.pad(displacement, _flat(beyond), mode="replicate"), shape)

    def entered_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Spatial shape of the network's grid for images of a shape."""
        coarse = shape if self.spacing == 1 else self._coarse(shape)
        return self.shape or tuple(coarse[axis] for axis in self._order)

    @staticmethod
    def _coarse(shape: Sequence[int]) -> list[int]:
        """Voxels of twice the size that begin inside the images."""
        return [(size + 1) // 2 for size in shape]

    @property
    def _order(self) -> list[int]:
        """The images' axis along each of the network's."""
        return ["RAS".index(name if name in "RAS" else OPPOSITE[name]) for name in self.axes]

    @property
    def _flipped(self) -> list[int]:
        """Axes of a tensor in the network's order that run against the images'."""
        return [2 + axis for axis, name in enumerate(self.axes) if name not in "RAS"]

    def _margins(self, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Voxels to add before and after the images along each of the network's axes."""
        middle = self.centre or [(size - 1) / 2 for size in self.shape]
        for size, full, centre in zip(sizes, self.shape, middle, strict=True):
            before = round(centre - (size - 1) / 2)
            yield before, full - size - before


FREESURFER_CROP = Frame(
    axes="LIA", shape=(160, 192, 224), centre=(80.0, 92.5, 107.0), white=112 / 255
)
"""What the original code's networks were trained on: FreeSurfer's volumes in its axes, cropped to
[48:208, 31:223, 3:227], intensities over 255. There `fsaverage`'s brain box has its centre on
`centre`, and the 99.5th percentile of brains' intensities is 109 to 117."""


def _flat(margins: Sequence[tuple[int, int]]) -> list[int]:
    """Put margins as `functional.pad` takes them: the last axis first."""
    return [amount for pair in reversed(list(margins)) for amount in pair]


def _cut(volume: torch.Tensor, axis: int, start: int, size: int) -> torch.Tensor:
    """Take `size` planes from `start`; planes beyond the volume repeat its outermost."""
    planes = torch.arange(start, start + size, device=volume.device)
    return volume.index_select(axis, planes.clamp(0, volume.shape[axis] - 1))
