"""Images and labels through written transforms."""

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _ApplyTransformInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="3-D image")
    reference = File(exists=True, mandatory=True, desc="image on the grid wanted")
    transform = File(exists=True, mandatory=True, desc="ITK transform, reference to in_file")
    interpolation = traits.Enum("linear", "nearest", usedefault=True, desc="nearest for labels")


class _ApplyTransformOutputSpec(TraitedSpec):
    out_file = File(desc="image on the reference's grid")


class ApplyTransform(SimpleInterface):
    """Resample an image through an ITK transform with one interpolation."""

    input_spec = _ApplyTransformInputSpec
    output_spec = _ApplyTransformOutputSpec

    def _run_interface(self, runtime):
        import numpy as np

        from vxmprep.spatial.grid import Grid
        from vxmprep.spatial.images import load, save
        from vxmprep.spatial.itk import read_transform
        from vxmprep.spatial.resample import resample

        nearest = self.inputs.interpolation == "nearest"
        warped = resample(
            load(self.inputs.in_file, np.int32 if nearest else np.float32),
            Grid.of(load(self.inputs.reference)),
            read_transform(self.inputs.transform),
            nearest=nearest,
        )
        self._results["out_file"] = str(save(warped, Path(runtime.cwd) / "warped.nii"))
        return runtime


class _CarryLabelsInputSpec(BaseInterfaceInputSpec):
    labels_file = File(exists=True, desc="the scan's segmentation, on any grid of its world")
    mask_file = File(exists=True, mandatory=True, desc="brain mask on the scan's grid")
    reference = File(exists=True, mandatory=True, desc="the atlas")
    transform = File(exists=True, mandatory=True, desc="ITK composite, atlas to scan")


class _CarryLabelsOutputSpec(TraitedSpec):
    full = File(desc="labels on the atlas's grid, whole transform; undefined if refused")
    affine = File(desc="labels on the atlas's grid, affine only; undefined if refused")
    flags = traits.List(traits.Str, desc="why the segmentation was refused, if it was")


class CarryLabels(SimpleInterface):
    """Bring a scan's segmentation to the atlas, unless it is another scan's."""

    input_spec = _CarryLabelsInputSpec
    output_spec = _CarryLabelsOutputSpec

    def _run_interface(self, runtime):

        from vxmprep.preparation.segmentation import load_labels, misplaced
        from vxmprep.spatial.grid import Grid
        from vxmprep.spatial.images import ImageError, load, save
        from vxmprep.spatial.itk import affine_members, read_transform
        from vxmprep.spatial.resample import resample

        self._results["flags"] = []
        if not isdefined(self.inputs.labels_file):
            return runtime
        try:
            labels = load_labels(self.inputs.labels_file)
            reason = misplaced(labels, load(self.inputs.mask_file))
        except ImageError as error:
            self._results["flags"] = [str(error)]
            return runtime
        if reason:
            self._results["flags"] = [f"{self.inputs.labels_file}: {reason}"]
            return runtime
        transform = read_transform(self.inputs.transform)
        grid = Grid.of(load(self.inputs.reference))
        for name, chain in (("full", transform), ("affine", affine_members(transform))):
            warped = resample(labels, grid, chain, nearest=True)
            self._results[name] = str(save(warped, Path(runtime.cwd) / f"{name}.nii"))
        return runtime
