"""Writing a scan's derivatives."""

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)


class _SaveScanInputSpec(BaseInterfaceInputSpec):
    output_dir = Directory(mandatory=True, desc="root of the derivatives")
    entities = traits.List(
        traits.Tuple(traits.Str, traits.Str), mandatory=True, desc="BIDS entities of the scan"
    )
    space = traits.Str(mandatory=True, desc="label of the atlas's space")
    source = traits.Str(mandatory=True, desc="BIDS URI of the scan")
    segmentation_source = traits.Str(desc="BIDS URI of the scan's segmentation")
    common = traits.Dict(desc="what every sidecar says: versions, settings, atlas, model")
    strip_method = traits.Str(desc="how the mask was made")
    t1w = File(exists=True, desc="bias-corrected scan on its own grid")
    mask = File(exists=True, desc="brain mask on the scan's grid")
    t1w_in_atlas = File(exists=True, desc="scan on the atlas's grid")
    mask_in_atlas = File(exists=True, desc="brain mask on the atlas's grid")
    labels_in_atlas = File(exists=True, desc="segmentation on the atlas's grid")
    labels_in_atlas_affine = File(exists=True, desc="the same with the affine alone")
    atlas_labels_in_scan = File(exists=True, desc="the atlas's labels on the scan's grid")
    jacobian = File(exists=True, desc="determinant on the atlas's grid")
    forward = File(exists=True, desc="ITK composite that resamples the scan onto the atlas")
    inverse = File(exists=True, desc="ITK composite that resamples atlas images onto the scan")
    affine = File(exists=True, desc="ITK affine that resamples the scan onto the atlas")
    dice = File(exists=True, desc="table of Dice per structure")
    metrics = File(exists=True, desc="JSON of all measures")


class _SaveScanOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="the files written")


class SaveScan(SimpleInterface):
    """Write what was computed of a scan under its BIDS names."""

    input_spec = _SaveScanInputSpec
    output_spec = _SaveScanOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        from vxmprep.bids.derivatives import ScanWriter
        from vxmprep.bids.outputs import write_scan

        given = {
            name: Path(value)
            for name, value in self.inputs.get().items()
            if isinstance(self.inputs.trait(name).trait_type, File) and isdefined(value)
        }
        writer = ScanWriter(
            Path(self.inputs.output_dir), tuple(self.inputs.entities), self.inputs.common or {}
        )
        sources = [self.inputs.source]
        if isdefined(self.inputs.segmentation_source):
            sources.append(self.inputs.segmentation_source)
        written = write_scan(
            writer, given, self.inputs.space, sources, strip_method=self.inputs.strip_method
        )
        self._results["out_files"] = [str(path) for path in written]
        return runtime
