"""All pictures of one scan, each drawn whether or not the others can be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nb
import numpy as np

from vxmprep.reports import figures, viewer
from vxmprep.reports.contents import FIGURES
from vxmprep.reports.overlap import draw_dice, joined, read_dice
from vxmprep.reports.planes import Mosaic
from vxmprep.spatial.images import like, load
from vxmprep.spatial.itk import affine_members, field_member, read_transform

if TYPE_CHECKING:
    import SimpleITK as sitk


def draw_scan(
    paths: Mapping[str, Path], folder: Path, wanted: Collection[str] = tuple(FIGURES)
) -> tuple[dict[str, Path], list[str]]:
    """Draw what there are files for.

    Parameters
    ----------
    paths : mapping
        Files as written: ``t1w``, ``mask``, ``atlas``, ``atlas_mask``, of ``affine`` and
        ``forward`` at least one, and, where there are, ``atlas_labels``, ``labels_in_atlas``,
        ``jacobian`` and ``dice``.
    folder : path
        Where pictures are written.
    wanted : collection of str
        Which of `FIGURES`.

    Returns
    -------
    tuple
        Pictures by the names of `FIGURES`, and a line for each that could not be drawn.
    """
    made, problems = {}, []
    makers = _Scan(paths).makers()
    for name, make in ((name, make) for name, make in makers.items() if name in wanted):
        path = Path(folder) / (f"{name}.js" if name == "viewer" else f"{name}.webp")
        try:
            make(path)
            made[name] = path
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            problems.append(f"{FIGURES[name]}: could not be drawn ({said})")
    return made, problems


class _Scan:
    """What is drawn of a scan, read when it is first wanted."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths

    def makers(self) -> dict[str, Callable[[Path], object]]:
        makers: dict[str, Callable[[Path], object]] = {
            "figure_mask": lambda path: figures.draw_mask(path, self.t1w, self.mask),
            "figure_atlas": lambda path: figures.draw_brain(
                path, self.mosaic, self.atlas, self.atlas_window
            ),
            "figure_affine": lambda path: figures.draw_brain(
                path, self.mosaic, self.t1w, self.window, self.affine, self.mask
            ),
            "figure_contours": lambda path: figures.draw_contours(
                path, self.mosaic, self.atlas_mask, self.atlas_labels
            ),
        }
        if "forward" in self.paths:
            makers["figure_full"] = lambda path: figures.draw_brain(
                path, self.mosaic, self.t1w, self.window, self.forward, self.mask
            )
            makers["figure_grid"] = lambda path: figures.draw_grid(
                path, self.atlas_mask, self.t1w, self.window, self.affine, self.field
            )
            makers["viewer"] = self.write_viewer
        if "jacobian" in self.paths:
            makers["figure_jacobian"] = lambda path: figures.draw_jacobian(
                path, self.mosaic, self.atlas, load(self.paths["jacobian"]), self.atlas_mask
            )
        if "dice" in self.paths and joined(read_dice(self.paths["dice"])):
            makers["figure_dice"] = lambda path: draw_dice(path, read_dice(self.paths["dice"]))
        return {name: makers[name] for name in FIGURES if name in makers}

    def write_viewer(self, path: Path) -> Path:
        grid = viewer.viewer_grid(self.atlas_mask)
        scan = {"image": self.t1w, "window": self.window, "mask": self.mask}
        volumes = {
            "atlas": viewer.small_brain(
                grid, self.atlas, self.atlas_window, np.eye(4), self.atlas_mask
            ),
            "affine": viewer.small_brain(grid, transform=self.affine, **scan),
            "full": viewer.small_brain(grid, transform=self.forward, **scan),
        }
        if self.atlas_labels is not None:
            volumes["atlas_labels"] = viewer.small_labels(grid, self.atlas_labels)
        if "labels_in_atlas" in self.paths:
            own = load(self.paths["labels_in_atlas"], np.int32)
            volumes["labels"] = viewer.small_labels(grid, own)
        return viewer.write_viewer(path, volumes)

    @cached_property
    def t1w(self) -> nb.Nifti1Image:
        return load(self.paths["t1w"])

    @cached_property
    def mask(self) -> nb.Nifti1Image:
        mask = load(self.paths["mask"], None)
        return like(np.asarray(mask.dataobj) > 0, mask)

    @cached_property
    def atlas(self) -> nb.Nifti1Image:
        return load(self.paths["atlas"])

    @cached_property
    def atlas_mask(self) -> nb.Nifti1Image:
        mask = load(self.paths["atlas_mask"], None)
        return like(np.asarray(mask.dataobj) > 0, mask)

    @cached_property
    def atlas_labels(self) -> nb.Nifti1Image | None:
        path = self.paths.get("atlas_labels")
        return None if path is None else load(path, np.int32)

    @cached_property
    def forward(self) -> sitk.Transform:
        return read_transform(self.paths["forward"])

    @cached_property
    def affine(self) -> sitk.Transform:
        if "affine" in self.paths:
            return read_transform(self.paths["affine"])
        return affine_members(self.forward)

    @cached_property
    def field(self) -> sitk.Transform:
        return field_member(self.forward)

    @cached_property
    def mosaic(self) -> Mosaic:
        return Mosaic.of(self.atlas_mask)

    @cached_property
    def window(self) -> figures.Window:
        return figures.Window.of(self.t1w, np.asarray(self.mask.dataobj) > 0)

    @cached_property
    def atlas_window(self) -> figures.Window:
        return figures.Window.of(self.atlas, np.asarray(self.atlas_mask.dataobj) > 0)
