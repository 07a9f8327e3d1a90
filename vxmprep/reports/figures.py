"""Pictures of one scan's registration, drawn from what was written.

Slices are cut along the world's axes; left is shown on the left (neurological convention), which
is marked. Every image is interpolated once, at the pixels that are shown.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.reports.planes import HEAD, Mosaic
from vxmprep.spatial.files import replacing
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.jacobian import field_along_axes

if TYPE_CHECKING:
    import SimpleITK as sitk
    from matplotlib.axes import Axes

WIDTH = 1650
"""Pixels across a picture."""

LARGEST_FILE = 300_000
"""Bytes of a picture; a noisy scan is drawn with the next quality until it is smaller."""

QUALITIES = (80, 65, 50, 35, 20)

GROUPS = {
    "cerebrum": ((2, 3, 41, 42), "#ffd166"),
    "white matter": ((2, 41), "#06d6a0"),
    "ventricles": ((4, 43, 14, 15), "#4cc9f0"),
    "thalamus, caudate, putamen, pallidum": ((10, 11, 12, 13, 49, 50, 51, 52), "#ff5d8f"),
    "hippocampus, amygdala": ((17, 18, 53, 54), "#c77dff"),
    "cerebellum": ((7, 8, 46, 47), "#f8961e"),
    "brainstem": ((16,), "#f1faee"),
}
"""What contours are drawn around: labels and colour."""

FOLDED = "#39ff14"
LARGEST = 3.0
"""Volume change, and its inverse, at the ends of the Jacobian's colours."""

GRID_STEP = 5
"""Millimetres between the lines of the deformed grid."""

GRID_SLICES = 4
"""Slices of each plane on which it is drawn, larger than others."""

GRID_WIDTH = 1250
"""Pixels across that picture: thin lines make large files."""


@dataclass(frozen=True)
class Window:
    """Intensities that are shown black and white."""

    low: float
    high: float

    @classmethod
    def of(cls, image: nb.spatialimages.SpatialImage, mask: np.ndarray) -> Window:
        """Take 0, or what is darkest, and somewhat more than the bright end inside a mask."""
        values = np.asanyarray(image.dataobj)[mask]
        if not values.size:
            raise ValueError("the brain mask is empty")
        return cls(float(min(values.min(), 0)), 1.1 * float(np.percentile(values, 99.5)))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Bring intensities to 0..1."""
        return np.clip((values - self.low) / max(self.high - self.low, 1e-6), 0, 1)


def draw_mask(path: Path, t1w: nb.Nifti1Image, mask: nb.Nifti1Image) -> Path:
    """Draw the outline of the brain mask on the scan.

    Parameters
    ----------
    path : path
        Picture to write.
    t1w, mask : image
        Bias-corrected scan and its brain mask, on one grid.
    """
    mosaic = Mosaic.of(mask)
    window = Window.of(t1w, np.asarray(mask.dataobj) > 0)
    with _Picture(path, mosaic) as picture:
        picture.show(window(mosaic.picture(mosaic.sample(t1w))))
        picture.outline(mosaic.sample(mask), color="#ff3860", width=1.2)
    return path


def draw_brain(
    path: Path,
    mosaic: Mosaic,
    image: nb.Nifti1Image,
    window: Window,
    transform: np.ndarray | sitk.Transform | None = None,
    mask: nb.Nifti1Image | None = None,
) -> Path:
    """Draw slices of a brain in the space of the atlas.

    Parameters
    ----------
    path : path
        Picture to write.
    mosaic : Mosaic
        Which slices.
    image : image
        Scan, or atlas.
    window : Window
        Intensities that are shown black and white.
    transform : (4, 4) array or SimpleITK.Transform, optional
        Maps atlas points to points of the image.
    mask : image, optional
        Brain mask on the image's grid: what is outside is black.
    """
    values = mosaic.picture(mosaic.sample(image, transform))
    if mask is not None:
        values = np.where(mosaic.picture(mosaic.sample(mask, transform)) > 0.5, values, 0)
    with _Picture(path, mosaic) as picture:
        picture.show(window(values))
    return path


def draw_contours(
    path: Path, mosaic: Mosaic, mask: nb.Nifti1Image, labels: nb.Nifti1Image | None
) -> Path:
    """Draw contours of the atlas on nothing, to be laid over pictures of the same slices.

    Parameters
    ----------
    path : path
        Picture to write, transparent.
    mosaic : Mosaic
        Which slices.
    mask : image
        Brain mask of the atlas.
    labels : image or None
        FreeSurfer-numbered labels of the atlas; the outline of its brain alone without them.
    """
    with _Picture(path, mosaic, transparent=True) as picture:
        if labels is None:
            picture.outline(mosaic.sample(mask), color="#ffd166")
            return path
        stacks = mosaic.sample(labels, nearest=True)
        stacks = [merged_parcels(stack) for stack in stacks]
        for name, (members, color) in GROUPS.items():
            inside = [np.isin(stack, members).astype(np.float32) for stack in stacks]
            picture.outline(inside, color=color, blur=0.7, label=name)
        picture.legend()
    return path


def draw_jacobian(
    path: Path,
    mosaic: Mosaic,
    anatomy: nb.Nifti1Image,
    jacobian: nb.Nifti1Image,
    mask: nb.Nifti1Image,
) -> Path:
    """Draw the Jacobian determinant on anatomy: white is 1, folding is marked.

    Parameters
    ----------
    path : path
        Picture to write.
    mosaic : Mosaic
        Which slices.
    anatomy, jacobian, mask : image
        Atlas, determinant of the deformable part (above 1 where the scan is larger), and brain
        mask.
    """
    from matplotlib.colors import LogNorm

    grey = Window.of(anatomy, np.asarray(mask.dataobj) > 0)
    norm = LogNorm(1 / LARGEST, LARGEST, clip=True)
    inside = mosaic.picture(mosaic.sample(mask, nearest=True)) > 0
    values = mosaic.picture(mosaic.sample(jacobian, nearest=True), fill=1.0)
    with _Picture(path, mosaic, foot=0.6) as picture:
        picture.show(grey(mosaic.picture(mosaic.sample(anatomy))))
        shown = np.ma.masked_where(~inside, np.maximum(values, 1e-3))
        drawn = picture.show(shown, cmap="RdBu_r", norm=norm, alpha=0.65)
        rows, columns = np.nonzero(inside & (values <= 0))
        picture.axes.plot(columns, rows, "s", color=FOLDED, markersize=1.5)
        picture.colorbar(
            drawn,
            [1 / 3, 1 / 2, 1 / 1.5, 1, 1.5, 2, 3],
            "volume of the scan relative to the atlas, affine left out (folded voxels: green)",
        )
    return path


def draw_grid(
    path: Path,
    mask: nb.Nifti1Image,
    image: nb.Nifti1Image,
    window: Window,
    affine: np.ndarray | sitk.Transform,
    field: sitk.Transform,
) -> Path:
    """Draw a regular grid of the atlas where the deformation puts it on the aligned scan.

    Parameters
    ----------
    path : path
        Picture to write.
    mask : image
        Brain mask of the atlas; displacements across a slice are left out.
    image : image
        The scan.
    window : Window
        Intensities that are shown black and white.
    affine : (4, 4) array or SimpleITK.Transform
        Atlas points to scan points.
    field : SimpleITK.Transform
        Deformable part of the map from atlas to scan.
    """
    mosaic = Mosaic.of(mask, GRID_SLICES)
    shifts = [displacements(plane.grid, field) for plane in mosaic.planes]
    with _Picture(path, mosaic, width=GRID_WIDTH) as picture:
        picture.show(0.75 * window(mosaic.picture(mosaic.sample(image, affine))))
        for plane, number, top, left in mosaic.corners():
            shift = shifts[mosaic.planes.index(plane)]
            across = [axis for axis in range(3) if axis != plane.axis]
            tile = plane.tiles(shift)[number]
            rows, columns = np.indices(tile.shape[:2], dtype=np.float32)
            picture.mesh(
                left + columns + tile[..., across[0]],
                top + rows - tile[..., across[1]],
                box=(left, top, left + tile.shape[1] - 1, top + tile.shape[0] - 1),
            )
    return path


def merged_parcels(labels: np.ndarray) -> np.ndarray:
    """Count cortical parcels as cortex, in whole numbers."""
    from vxmprep.evaluation.labels import without_parcels

    return without_parcels(np.rint(labels).astype(np.int32))


def displacements(grid: Grid, field: sitk.Transform) -> np.ndarray:
    """Give the displacement (X, Y, Z, 3) of a field on a grid along R, A and S, mm."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(field_along_axes(field, grid)).transpose(2, 1, 0, 3)


class _Picture:
    """One picture under way: a mosaic in pixels of 1 mm, with its marks; written at the end."""

    def __init__(
        self,
        path: Path,
        mosaic: Mosaic,
        *,
        width: int = WIDTH,
        transparent: bool = False,
        foot: float = 0.0,
    ) -> None:
        from matplotlib.figure import Figure

        self.path, self.mosaic, self.transparent = Path(path), mosaic, transparent
        rows, columns = mosaic.shape
        height = width / 100 * rows / columns
        self.figure = Figure(figsize=(width / 100, height + foot), dpi=100, facecolor="black")
        if transparent:
            self.figure.patch.set_alpha(0)
        share = foot / (height + foot)
        self.axes: Axes = self.figure.add_axes((0, share, 1, 1 - share))
        self.share = share
        self.axes.set_axis_off()
        self.axes.set_xlim(-0.5, columns - 0.5)
        self.axes.set_ylim(rows - 0.5, -0.5)
        self.named: dict[str, str] = {}

    def __enter__(self) -> _Picture:
        return self

    def __exit__(self, kind: type | None, *rest: object) -> None:
        if kind is not None:
            return
        if not self.transparent:
            self._marks()
        for quality in QUALITIES:
            drawn = io.BytesIO()
            how = {"quality": quality, "alpha_quality": quality, "method": 4}
            self.figure.savefig(drawn, format="webp", pil_kwargs=how)
            if drawn.tell() < LARGEST_FILE:
                break
        with replacing(self.path) as temporary:
            temporary.write_bytes(drawn.getbuffer())

    def show(self, values: np.ndarray, **how: object):
        """Show values at the pixels of the mosaic."""
        how = {"cmap": "gray", "vmin": 0, "vmax": 1, **how} if "norm" not in how else how
        return self.axes.imshow(values, interpolation="bilinear", aspect="auto", **how)

    def outline(
        self,
        stacks: Sequence[np.ndarray],
        *,
        color: str,
        width: float = 1.0,
        blur: float = 0.0,
        label: str = "",
    ) -> None:
        """Draw where values cross 0.5, slice by slice."""
        from contourpy import contour_generator
        from matplotlib.collections import LineCollection
        from scipy.ndimage import gaussian_filter

        by_plane = dict(zip((p.name for p in self.mosaic.planes), stacks, strict=True))
        lines = []
        for plane, number, top, left in self.mosaic.corners():
            tile = by_plane[plane.name][number]
            if blur:
                tile = gaussian_filter(tile, blur)
            found = contour_generator(z=tile).lines(0.5)
            lines += [line + np.array([left, top]) for line in found]
        self.axes.add_collection(LineCollection(lines, colors=color, linewidths=width))
        if label:
            self.named[label] = color

    def mesh(self, x: np.ndarray, y: np.ndarray, box: tuple[float, ...]) -> None:
        """Draw every few lines of a grid whose nodes lie at x and y (rows, columns)."""
        from matplotlib.collections import LineCollection
        from matplotlib.patches import Rectangle

        points = np.stack([x, y], axis=-1)
        lines = [*points[::GRID_STEP], *points.transpose(1, 0, 2)[::GRID_STEP]]
        drawn = LineCollection(lines, colors="#ffd166", linewidths=0.6, alpha=0.8)
        self.axes.add_collection(drawn)
        left, top, right, bottom = box
        frame = Rectangle((left, top), right - left, bottom - top, transform=self.axes.transData)
        drawn.set_clip_path(frame)

    def legend(self) -> None:
        """Say what the colours are."""
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=c, lw=2, label=name) for name, c in self.named.items()]
        self.axes.legend(
            handles=handles,
            loc="lower center",
            ncols=len(handles),
            fontsize=7,
            labelcolor="white",
            facecolor="black",
            framealpha=0.6,
            edgecolor="none",
            borderaxespad=0.1,
        )

    def colorbar(self, drawn: object, ticks: Sequence[float], text: str) -> None:
        """Put a scale of colours below the mosaic."""
        place = self.figure.add_axes((0.25, 0.68 * self.share, 0.5, 0.2 * self.share))
        bar = self.figure.colorbar(drawn, cax=place, orientation="horizontal")
        bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
        bar.ax.minorticks_off()
        bar.ax.tick_params(colors="white", labelsize=8, length=2)
        bar.set_label(text, color="white", fontsize=8, labelpad=1)

    def _marks(self) -> None:
        """Write where each slice lies, and which side is which."""
        seen = set()
        small = {"color": "white", "fontsize": 7, "va": "top"}
        for plane, number, top, left in self.mosaic.corners():
            height, width = plane.size
            place = f"{'xyz'[plane.axis]} = {plane.places[number]:.0f} mm"
            middle = left + width / 2
            self.axes.text(middle, top - HEAD + 1, place, ha="center", **small)
            if plane.name in seen:
                continue
            seen.add(plane.name)
            sides = ("P", "A") if plane.axis == 0 else ("L", "R")
            bold = {**small, "fontsize": 10, "fontweight": "bold", "va": "center"}
            self.axes.text(left + 1, top + height / 2, sides[0], ha="left", **bold)
            self.axes.text(left + width - 1, top + height / 2, sides[1], ha="right", **bold)
