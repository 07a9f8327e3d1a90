"""Measures of a written registration."""

import json
from collections.abc import Callable
from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _JacobianMapInputSpec(BaseInterfaceInputSpec):
    transform = File(
        exists=True, mandatory=True, desc="ITK transform or displacement field, atlas to scan"
    )
    mask_file = File(exists=True, mandatory=True, desc="brain mask on the atlas's grid")


class _JacobianMapOutputSpec(TraitedSpec):
    out_file = File(desc="determinant on the atlas's grid, mm to mm, 0 outside the mask")
    summary_file = File(desc="JSON: folding with its denominator, and smoothness")


class JacobianMap(SimpleInterface):
    """Map the Jacobian determinant of a transform's deformable part and count its folding.

    Examples
    --------
    >>> node = JacobianMap()
    >>> node.inputs.transform = "T1w_to_atlas.h5"  # doctest: +SKIP
    >>> node.inputs.mask_file = "atlas_mask.nii.gz"  # doctest: +SKIP
    >>> node.run().outputs.out_file  # doctest: +SKIP
    '/work/jacobian.nii'
    >>> sorted(node.output_spec().copyable_trait_names())
    ['out_file', 'summary_file']
    """

    input_spec = _JacobianMapInputSpec
    output_spec = _JacobianMapOutputSpec

    def _run_interface(self, runtime):
        import numpy as np

        from vxmprep.evaluation.folding import (
            displacement_in_voxels,
            folding,
            jacobian_determinant,
            learn2reg_sdlogj,
            non_diffeomorphic_volume,
        )
        from vxmprep.evaluation.report import folding_summary
        from vxmprep.spatial.grid import Grid
        from vxmprep.spatial.images import like, load, save
        from vxmprep.spatial.transform import read_itk

        mask = load(self.inputs.mask_file, None)
        inside = np.asarray(mask.dataobj) > 0
        if not inside.any():
            raise ValueError(f"{self.inputs.mask_file}: marks no voxel; give the brain mask")
        deformable = read_itk(self.inputs.transform).deformable()
        if not deformable.members:
            raise ValueError(
                f"{self.inputs.transform}: holds no displacement field; give the whole transform"
            )
        transform, grid = deformable.as_itk(), Grid.of(mask)
        if not deformable.reaches(grid.world(np.argwhere(inside))):
            raise ValueError(
                f"{self.inputs.mask_file}: lies outside the field of {self.inputs.transform}; "
                "give the mask of what the transform resamples onto"
            )
        values = np.asarray(jacobian_determinant(transform, grid).dataobj)
        reversed_volume = non_diffeomorphic_volume(displacement_in_voxels(transform, grid), inside)
        found = folding_summary(
            folding(values, inside),
            learn2reg=learn2reg_sdlogj(values),
            reversed_volume=reversed_volume,
        )
        summary = Path(runtime.cwd) / "folding.json"
        summary.write_text(json.dumps(found), encoding="utf-8")
        self._results["summary_file"] = str(summary)
        shown = like(np.where(inside, values, 0).astype(np.float32), mask)
        self._results["out_file"] = str(save(shown, Path(runtime.cwd) / "jacobian.nii"))
        return runtime


class _EvaluateRegistrationInputSpec(BaseInterfaceInputSpec):
    atlas_labels = File(exists=True, desc="labels on the atlas's grid")
    affine_labels = File(exists=True, desc="the scan's segmentation there, affine only")
    full_labels = File(exists=True, desc="the scan's segmentation there, whole transform")
    reference = traits.Str("atlas", usedefault=True, desc="where the atlas's labels come from")
    affine_summary = File(exists=True, desc="JSON of the affine's measures, or its sidecar")
    register_summary = File(exists=True, desc="JSON of the maps' measures, or their sidecar")
    jacobian_summary = File(exists=True, desc="JSON of the folding")
    forward = File(exists=True, desc="ITK composite, atlas to scan, as written")
    inverse = File(exists=True, desc="ITK composite, scan to atlas, as written")
    atlas = File(exists=True, desc="skull-stripped atlas on its own grid")
    atlas_mask = File(exists=True, desc="its brain mask")
    warped = File(exists=True, desc="the scan on the atlas's grid, whole transform")
    warped_mask = File(exists=True, desc="its brain mask there")
    scan_flags = traits.List(traits.Str, desc="what is doubtful about the scan itself")
    flags = traits.List(traits.Str, desc="what is doubtful beyond the summaries' own flags")


class _EvaluateRegistrationOutputSpec(TraitedSpec):
    dice_file = File(desc="table of Dice per structure; header only without labels")
    metrics_file = File(desc="JSON: all that was measured, and the flags")


class EvaluateRegistration(SimpleInterface):
    """Compare a scan's segmentation with the atlas's labels and gather all measures.

    Examples
    --------
    >>> node = EvaluateRegistration(reference="FreeSurfer")
    >>> node.inputs.atlas_labels = "atlas_dseg.nii.gz"  # doctest: +SKIP
    >>> node.run().outputs.dice_file  # doctest: +SKIP
    '/work/dice.tsv'
    >>> node.inputs.reference
    'FreeSurfer'
    """

    input_spec = _EvaluateRegistrationInputSpec
    output_spec = _EvaluateRegistrationOutputSpec

    def _run_interface(self, runtime):
        import numpy as np

        from vxmprep.evaluation.report import as_tsv, dice_table, gather, read_summary
        from vxmprep.preparation.segmentation import load_whole
        from vxmprep.spatial.grid import Grid

        names = ("atlas_labels", "affine_labels", "full_labels")
        rows, overlap = [], {}
        if all(isdefined(getattr(self.inputs, name)) for name in names):
            images = _on_one_grid([getattr(self.inputs, name) for name in names], load_whole)
            rows, overlap = dice_table(
                *(np.asarray(image.dataobj) for image in images),
                reference=self.inputs.reference,
                spacing=Grid.of(images[0]).spacing,
            )
        given = {
            "Affine": self.inputs.affine_summary,
            "Deformable": self.inputs.register_summary,
            "Folding": self.inputs.jacobian_summary,
        }
        sections = {name: read_summary(path) for name, path in given.items() if isdefined(path)}
        sections |= self._inverse() | self._similarity()
        flags = [*(self.inputs.scan_flags or []), *(self.inputs.flags or [])]
        metrics = gather(sections, overlap, flags)
        outputs = {"dice_file": as_tsv(rows), "metrics_file": json.dumps(metrics, indent=2) + "\n"}
        for name, text in outputs.items():
            path = Path(runtime.cwd) / ("dice.tsv" if name == "dice_file" else "metrics.json")
            path.write_text(text, encoding="utf-8")
            self._results[name] = str(path)
        return runtime

    def _inverse(self) -> dict[str, dict]:
        """Follow points of the atlas to the scan and back."""
        from vxmprep.evaluation.folding import inverse_consistency
        from vxmprep.evaluation.report import inverse_summary
        from vxmprep.spatial.images import load
        from vxmprep.spatial.itk import read_transform

        names = ("forward", "inverse", "atlas_mask")
        if not all(isdefined(getattr(self.inputs, name)) for name in names):
            return {}
        maps = (read_transform(path) for path in (self.inputs.forward, self.inputs.inverse))
        found = inverse_consistency(*maps, load(self.inputs.atlas_mask))
        return {"InverseConsistency": inverse_summary(*found)}

    def _similarity(self) -> dict[str, dict]:
        """Compare the warped scan with the atlas."""
        import numpy as np

        from vxmprep.evaluation.report import similarity_summary
        from vxmprep.spatial.images import load

        names = ("atlas", "atlas_mask", "warped", "warped_mask")
        if not all(isdefined(getattr(self.inputs, name)) for name in names):
            return {}
        masks = (self.inputs.atlas_mask, self.inputs.warped_mask)
        images = _on_one_grid(
            [getattr(self.inputs, name) for name in names],
            lambda path: load(path, None if path in masks else np.float32),
        )
        atlas, mask, scan, own = (np.asarray(image.dataobj) for image in images)
        return {"Similarity": similarity_summary(atlas, np.where(own > 0, scan, 0), mask > 0)}


def _on_one_grid(paths: list[str], read: Callable) -> list:
    """Read images that are to be compared voxel by voxel."""
    from vxmprep.spatial.grid import Grid

    first, *others = images = [read(path) for path in paths]
    for path, image in zip(paths[1:], others, strict=True):
        if not Grid.of(image).matches(Grid.of(first)):
            raise ValueError(f"{path}: not on the grid of {paths[0]}; resample it to that")
    return images
