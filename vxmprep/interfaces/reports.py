"""Pictures for the page of a participant."""

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from vxmprep.reports.contents import FIGURES


class _DrawFiguresInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="bias-corrected scan on its own grid")
    mask = File(exists=True, mandatory=True, desc="brain mask on the scan's grid")
    affine = File(exists=True, desc="ITK affine, atlas to scan; that of forward by default")
    forward = File(exists=True, desc="ITK composite, atlas to scan, as written")
    atlas = File(exists=True, mandatory=True, desc="skull-stripped atlas")
    atlas_mask = File(exists=True, mandatory=True, desc="brain mask on the atlas's grid")
    atlas_labels = File(exists=True, desc="labels on the atlas's grid")
    labels_in_atlas = File(exists=True, desc="the scan's segmentation there")
    jacobian = File(exists=True, desc="determinant of the deformable part on the atlas's grid")
    dice = File(exists=True, desc="table of Dice per structure")
    wanted = traits.List(
        traits.Str, desc="outputs that are drawn; by default all that there are files for"
    )


class _DrawFiguresOutputSpec(TraitedSpec):
    flags = traits.List(traits.Str, desc="a line for each picture that could not be drawn")
    locals().update({name: File(desc=f"for its page: {what}") for name, what in FIGURES.items()})


class DrawFigures(SimpleInterface):
    """Draw a written registration, or an affine alone.

    A picture that cannot be drawn is left out, and told.

    Examples
    --------
    >>> node = DrawFigures()
    >>> node.inputs.forward = "T1w_to_atlas.h5"  # doctest: +SKIP
    >>> node.run().outputs.figure_full  # doctest: +SKIP
    '/work/figure_full.webp'
    >>> "figure_jacobian" in node.output_spec().copyable_trait_names()
    True
    """

    input_spec = _DrawFiguresInputSpec
    output_spec = _DrawFiguresOutputSpec

    def _run_interface(self, runtime):
        from vxmprep.reports.scan import draw_scan

        given = {name: value for name, value in self.inputs.get().items() if isdefined(value)}
        wanted = given.pop("wanted", None) or list(FIGURES)
        if unknown := sorted(set(wanted) - FIGURES.keys()):
            raise ValueError(f"DrawFigures: wanted: {unknown[0]} is no picture; see its outputs")
        if not {"affine", "forward"} & given.keys():
            raise ValueError("DrawFigures: no transform; give affine, forward or both")
        paths = {name: Path(path) for name, path in given.items()}
        made, problems = draw_scan(paths, Path(runtime.cwd), wanted)
        self._results.update({name: str(path) for name, path in made.items()}, flags=problems)
        return runtime
