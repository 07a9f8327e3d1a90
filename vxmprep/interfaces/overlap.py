"""Overlap of two label maps."""

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _OverlapInputSpec(BaseInterfaceInputSpec):
    fixed = File(exists=True, mandatory=True, desc="label map; 0 is background")
    moving = File(exists=True, mandatory=True, desc="label map on the same grid")
    labels = traits.List(traits.Int, desc="those that the mean is taken over (default: all)")
    join_parcels = traits.Bool(
        False,
        usedefault=True,
        desc="count FreeSurfer's parcels of the cortex (1000s and 2000s) as 3 and 42, as "
        "EvaluateRegistration does; not for numbers of other atlases",
    )


class _OverlapOutputSpec(TraitedSpec):
    out_file = File(desc="TSV, a row per label: label, name, voxels_fixed, voxels_moving, dice")
    mean_dice = traits.Float(desc="over the labels that both maps hold; NaN if there is none")
    structures = traits.Int(desc="how many labels that are")


class Overlap(SimpleInterface):
    """Measure Dice per label of two label maps on one grid, names by FreeSurfer's table.

    Numbers are compared as they are, of whatever atlas they may be. Where one map is an aseg and
    the other an aparc+aseg, `join_parcels` lets them have the cortex in common.

    Examples
    --------
    >>> node = Overlap(labels=[17, 53])
    >>> node.inputs.fixed = "atlas_dseg.nii.gz"  # doctest: +SKIP
    >>> node.inputs.moving = "scan_space-atlas_dseg.nii.gz"  # doctest: +SKIP
    >>> node.run().outputs.mean_dice  # doctest: +SKIP
    0.871
    >>> node.inputs.labels
    [17, 53]
    """

    input_spec = _OverlapInputSpec
    output_spec = _OverlapOutputSpec

    def _run_interface(self, runtime):
        import numpy as np

        from vxmprep.evaluation.labels import name_of, without_parcels
        from vxmprep.evaluation.overlap import mean_dice, overlaps
        from vxmprep.evaluation.report import number
        from vxmprep.preparation.segmentation import load_whole
        from vxmprep.spatial.grid import Grid

        fixed, moving = (load_whole(path) for path in (self.inputs.fixed, self.inputs.moving))
        if not Grid.of(fixed).matches(Grid.of(moving)):
            raise ValueError(
                f"{self.inputs.moving}: not on the grid of {self.inputs.fixed}; bring it there "
                "first, e.g. with ApplyTransform"
            )
        maps = [np.asarray(image.dataobj) for image in (fixed, moving)]
        if self.inputs.join_parcels:
            maps = [without_parcels(labels) for labels in maps]
        found = overlaps(*maps)
        given = tuple(self.inputs.labels if isdefined(self.inputs.labels) else found)
        if isdefined(self.inputs.labels) and not found.keys() & set(given):
            raise ValueError(
                f"labels: neither {self.inputs.fixed} nor {self.inputs.moving} holds any of "
                f"{', '.join(map(str, given)) or 'none'}; give some of what they hold"
            )
        mean, count = mean_dice(found, given)
        rows = [("label", "name", "voxels_fixed", "voxels_moving", "dice")]
        rows += [
            (o.label, name_of(o.label), o.voxels_fixed, o.voxels_moving, number(o.dice))
            for o in found.values()
        ]
        path = Path(runtime.cwd) / "overlap.tsv"
        text = "".join("\t".join(str(cell) for cell in row) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
        self._results.update(out_file=str(path), mean_dice=mean, structures=count)
        return runtime
