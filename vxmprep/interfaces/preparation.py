"""From a scan to a brain on the network's grid."""

import json
from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    CommandLine,
    CommandLineInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


def load_masked(path, mask_path) -> tuple:
    """Load an image and its brain mask.

    Raises
    ------
    ValueError
        If they are not on one grid, or the mask marks nothing, or nothing in the image.
    """
    import numpy as np

    from vxmprep.spatial.grid import Grid
    from vxmprep.spatial.images import load

    image, mask = load(path), load(mask_path)
    if not Grid.of(mask).matches(Grid.of(image)):
        raise ValueError(f"{mask_path}: not on the grid of {path}; resample it to that")
    inside = np.asanyarray(mask.dataobj) > 0
    if not inside.any():
        raise ValueError(f"{mask_path}: marks no voxel; give a brain mask")
    if not np.any(np.asanyarray(image.dataobj)[inside]):
        raise ValueError(f"{path}: is 0 wherever {mask_path} marks a brain; give the scan itself")
    return image, mask


class _SkullStripInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="T1w scan")
    method = traits.Enum(
        "auto",
        "deepbet",
        "none",
        usedefault=True,
        desc="auto: deepbet unless the scan is already stripped; none: it is stripped",
    )
    mask_file = File(exists=True, desc="a mask made elsewhere, in the scan's world, used instead")
    use_gpu = traits.Bool(False, usedefault=True, nohash=True, desc="run deepbet on a GPU")


class _SkullStripOutputSpec(TraitedSpec):
    mask_file = File(desc="brain mask on the scan's grid")
    method = traits.Str(desc="how it was made: deepbet, none (already stripped) or given")
    flags = traits.List(traits.Str, desc="what is doubtful about the scan itself")


class SkullStrip(SimpleInterface):
    """Find the brain in a scan.

    Examples
    --------
    >>> node = SkullStrip(method="auto")
    >>> node.inputs.method
    'auto'
    """

    input_spec = _SkullStripInputSpec
    output_spec = _SkullStripOutputSpec

    def _run_interface(self, runtime):
        from vxmprep.preparation.brain import brain_mask
        from vxmprep.spatial.images import ImageError, load, load_scan, not_finite, save

        given, scan = self.inputs.mask_file, load_scan(self.inputs.in_file)
        other = load(given) if isdefined(given) else None
        try:
            mask, method = brain_mask(
                scan, self.inputs.method, given=other, use_gpu=self.inputs.use_gpu
            )
        except ImageError as error:
            raise ImageError(f"{given if other else self.inputs.in_file}: {error}") from error
        self._results["mask_file"] = str(save(mask, Path(runtime.cwd) / "mask.nii"))
        self._results["method"] = method
        odd = not_finite(scan)
        self._results["flags"] = [f"scan: {odd} voxels are not finite and count as 0"] * bool(odd)
        return runtime


class _SynthStripInputSpec(CommandLineInputSpec):
    in_file = File(exists=True, mandatory=True, argstr="-i %s", desc="T1w scan")
    mask_file = File(
        "mask.nii.gz", usedefault=True, argstr="-m %s", desc="brain mask on the scan's grid"
    )
    no_csf = traits.Bool(argstr="--no-csf", desc="leave CSF out of the mask")
    use_gpu = traits.Bool(argstr="-g", nohash=True, desc="run on a GPU, and take a GPU slot")


class _SynthStripOutputSpec(TraitedSpec):
    mask_file = File(desc="brain mask on the scan's grid")


class SynthStrip(CommandLine):
    """Find the brain with FreeSurfer's mri_synthstrip.

    Examples
    --------
    >>> node = SynthStrip()
    >>> node.cmd
    'mri_synthstrip'
    """

    _cmd = "mri_synthstrip"
    input_spec = _SynthStripInputSpec
    output_spec = _SynthStripOutputSpec

    def _list_outputs(self):
        return {"mask_file": str(Path(self.inputs.mask_file).absolute())}


class _BiasCorrectInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="T1w scan")
    mask_file = File(exists=True, mandatory=True, desc="brain mask on the scan's grid")


class _BiasCorrectOutputSpec(TraitedSpec):
    out_file = File(desc="bias-corrected scan on its own grid, float32, not stripped")


class BiasCorrect(SimpleInterface):
    """Correct the bias field of a scan with N4, fitted inside a mask.

    Examples
    --------
    >>> node = BiasCorrect()
    >>> node.inputs.in_file = "T1w.nii.gz"  # doctest: +SKIP
    >>> node.inputs.mask_file = "mask.nii.gz"  # doctest: +SKIP
    >>> node.run().outputs.out_file  # doctest: +SKIP
    '/work/corrected.nii'
    >>> node.output_spec().copyable_trait_names()
    ['out_file']
    """

    input_spec = _BiasCorrectInputSpec
    output_spec = _BiasCorrectOutputSpec

    def _run_interface(self, runtime):
        from vxmprep.preparation.bias import correct_bias
        from vxmprep.spatial.images import save

        corrected = correct_bias(*load_masked(self.inputs.in_file, self.inputs.mask_file))
        self._results["out_file"] = str(save(corrected, Path(runtime.cwd) / "corrected.nii"))
        return runtime


class _AffineAlignInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="scan, with or without skull")
    mask_file = File(exists=True, mandatory=True, desc="brain mask on the scan's grid")
    atlas_file = File(exists=True, mandatory=True, desc="skull-stripped atlas")
    atlas_mask = File(exists=True, mandatory=True, desc="brain mask on the atlas's grid")
    method = traits.Enum(
        "greedy",
        "ants",
        "flirt",
        "none",
        usedefault=True,
        desc="the program that searches (ants: antsRegistration); none: aligned already",
    )


class _AffineAlignOutputSpec(TraitedSpec):
    affine_file = File(desc="ITK affine, atlas points to scan points (resamples the scan)")
    summary_file = File(desc="JSON: similarity, overlap, scales, shear, rotation, flags")


class AffineAlign(SimpleInterface):
    """Register a scan to the atlas with 12 degrees of freedom, and judge it and the mask.

    Examples
    --------
    >>> node = AffineAlign(method="greedy")
    >>> node.inputs.in_file = "T1w.nii.gz"  # doctest: +SKIP
    >>> node.inputs.atlas_file = "atlas_brain.nii.gz"  # doctest: +SKIP
    >>> node.run().outputs.affine_file  # doctest: +SKIP
    '/work/affine.txt'
    >>> node.inputs.method
    'greedy'
    """

    input_spec = _AffineAlignInputSpec
    output_spec = _AffineAlignOutputSpec

    def _run_interface(self, runtime):
        from vxmprep.interfaces.affine import ants, flirt
        from vxmprep.preparation.align import align, greedy
        from vxmprep.preparation.shape import MaskShape
        from vxmprep.spatial.itk import write_affine

        images = (
            *load_masked(self.inputs.in_file, self.inputs.mask_file),
            *load_masked(self.inputs.atlas_file, self.inputs.atlas_mask),
        )
        searches = {"greedy": greedy, "ants": ants, "flirt": flirt, "none": None}
        found = align(*images, search=searches[self.inputs.method])
        affine, summary = (Path(runtime.cwd) / name for name in ("affine.txt", "affine.json"))
        write_affine(affine, found.atlas_to_scan)
        said, shape, usual = found.summary(), *(MaskShape.of(images[i]) for i in (1, 3))
        said |= {**shape.summary(), "Flags": [*shape.doubts(usual), *said["Flags"]]}
        summary.write_text(json.dumps(said), encoding="utf-8")
        self._results.update(affine_file=str(affine), summary_file=str(summary))
        return runtime


class _ConformInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="bias-corrected scan")
    mask_file = File(exists=True, mandatory=True, desc="brain mask on the scan's grid")
    affine_file = File(exists=True, mandatory=True, desc="ITK affine, atlas to scan")
    reference = File(exists=True, mandatory=True, desc="image on the network's grid")


class _ConformOutputSpec(TraitedSpec):
    out_file = File(desc="brain on the network's grid, uint8")


class Conform(SimpleInterface):
    """Bring a brain to the network's grid and intensities with one interpolation.

    Examples
    --------
    >>> node = Conform()
    >>> node.inputs.affine_file = "affine.txt"  # doctest: +SKIP
    >>> node.inputs.reference = "network_brain.nii"  # doctest: +SKIP
    >>> node.run().outputs.out_file  # doctest: +SKIP
    '/work/conformed.nii'
    >>> node.output_spec().copyable_trait_names()
    ['out_file']
    """

    input_spec = _ConformInputSpec
    output_spec = _ConformOutputSpec

    def _run_interface(self, runtime):
        from vxmprep.preparation.conform import conform
        from vxmprep.spatial.grid import Grid
        from vxmprep.spatial.images import load, save
        from vxmprep.spatial.itk import read_affine

        brain = load_masked(self.inputs.in_file, self.inputs.mask_file)
        grid = Grid.of(load(self.inputs.reference))
        affine = read_affine(self.inputs.affine_file)
        try:
            conformed = conform(*brain, grid, affine)
        except ValueError as error:
            raise ValueError(
                f"{self.inputs.in_file}: {error}; by {self.inputs.affine_file}"
            ) from error
        self._results["out_file"] = str(save(conformed, Path(runtime.cwd) / "conformed.nii"))
        return runtime
