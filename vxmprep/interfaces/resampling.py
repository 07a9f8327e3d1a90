"""Images and labels through written transforms."""

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _ApplyTransformInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image of one volume or several")
    reference = File(exists=True, mandatory=True, desc="image on the grid wanted")
    transform = InputMultiObject(
        File(exists=True),
        mandatory=True,
        desc="transforms of ITK (points of the reference to points of in_file), one or several: "
        "in the order of antsApplyTransforms, the last acts on the image first",
    )
    interpolation = traits.Enum(
        "linear",
        "cubic",
        "nearest",
        "label",
        usedefault=True,
        desc="nearest or label (smoother borders) for label maps, which the others would blend",
    )
    modulation = traits.Enum(
        "full",
        "deformable",
        desc="multiply by the Jacobian determinant of the map, or of it without its affines",
    )


class _ApplyTransformOutputSpec(TraitedSpec):
    out_file = File(desc="image on the reference's grid; float32, or in_file's type for labels")


class ApplyTransform(SimpleInterface):
    """Resample an image through ITK transforms with one interpolation.

    Examples
    --------
    >>> node = ApplyTransform(interpolation="cubic")
    >>> node.inputs.in_file = "flair.nii.gz"  # doctest: +SKIP
    >>> node.inputs.reference = "atlas.nii.gz"  # doctest: +SKIP
    >>> node.inputs.transform = ["T1w_to_atlas.h5", "flair_to_T1w.txt"]  # doctest: +SKIP
    >>> node.run().outputs.out_file  # doctest: +SKIP
    '/work/warped.nii'
    >>> node.inputs.interpolation
    'cubic'
    """

    input_spec = _ApplyTransformInputSpec
    output_spec = _ApplyTransformOutputSpec

    def _run_interface(self, runtime):
        from vxmprep.bids.transforms import holds_ids
        from vxmprep.spatial.grid import Grid
        from vxmprep.spatial.opening import open_series
        from vxmprep.spatial.series import resample_file
        from vxmprep.spatial.transform import Transform, read_itk

        if self.inputs.interpolation in ("linear", "cubic") and holds_ids(self.inputs.in_file):
            raise ValueError(
                f"{self.inputs.in_file}: by its name a label map, whose numbers "
                f"{self.inputs.interpolation} interpolation would blend; give nearest or label, "
                "or another name if it holds none"
            )
        chain = Transform(())
        for path in self.inputs.transform:
            chain = chain.then(read_itk(path))
        modulation = self.inputs.modulation
        out = Path(runtime.cwd) / "warped.nii"
        resample_file(
            self.inputs.in_file,
            out,
            Grid.of(open_series(self.inputs.reference)),
            chain,
            interpolation=self.inputs.interpolation,
            modulation=modulation if isdefined(modulation) else None,
        )
        self._results["out_file"] = str(out)
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
    """Bring a scan's segmentation to the atlas, unless it is another scan's.

    Examples
    --------
    >>> node = CarryLabels()
    >>> node.inputs.labels_file = "aseg.mgz"  # doctest: +SKIP
    >>> node.run().outputs.full  # doctest: +SKIP
    '/work/full.nii'
    >>> sorted(node.output_spec().copyable_trait_names())
    ['affine', 'flags', 'full']
    """

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
