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

from vxmprep.reports.contents import FIGURES

FILES = {
    "t1w": "bias-corrected scan on its own grid",
    "mask": "brain mask on the scan's grid",
    "affine": "ITK affine that resamples the scan onto the atlas",
    "affine_summary": "JSON: what was measured of the affine; it goes into the affine's sidecar",
    "conformed": "brain on the network's grid, uint8",
    "conformed_labels": "segmentation on the network's grid",
    "forward": "ITK composite that resamples the scan onto the atlas",
    "inverse": "ITK composite that resamples atlas images onto the scan",
    "register_summary": "JSON: what was measured of the maps; it goes into forward's sidecar",
    "t1w_in_atlas": "scan on the atlas's grid",
    "mask_in_atlas": "brain mask on the atlas's grid",
    "labels_in_atlas": "segmentation on the atlas's grid",
    "labels_in_atlas_affine": "the same with the affine alone",
    "atlas_labels_in_scan": "the atlas's labels on the scan's grid",
    "jacobian": "determinant on the atlas's grid",
    "dice": "table of Dice per structure",
    "metrics": "JSON of all measures",
    **FIGURES,
}

MEASURES = {"affine_summary", "register_summary", "metrics"}
"""Those of the files that hold flags."""


class _SaveScanInputSpec(BaseInterfaceInputSpec):
    output_dir = Directory(mandatory=True, desc="root of the derivatives")
    entities = traits.List(
        traits.Tuple(traits.Str, traits.Str), mandatory=True, desc="BIDS entities of the scan"
    )
    space = traits.Str(mandatory=True, desc="label of the atlas's space")
    source = traits.Str(mandatory=True, desc="BIDS URI of the scan")
    segmentation_source = traits.Str(desc="BIDS URI of the scan's segmentation")
    common = traits.Dict(desc="what every sidecar says: versions, settings, atlas, model")
    strip_method = traits.Str("", usedefault=True, desc="how the mask was made")
    originals = traits.List(File(exists=True), desc="inputs whose checksums are wanted")
    flags = traits.List(traits.Str, desc="what is doubtful, beyond the flags of the measures")
    locals().update({name: File(exists=True, desc=what) for name, what in FILES.items()})


class _SaveScanOutputSpec(TraitedSpec):
    strip_method = traits.Str(desc="how the mask was made")
    checksums = traits.Dict(desc="SHA-256 of the originals by their path")
    files = traits.Dict(desc="the files written by what they hold, sidecars of measures included")
    flags = traits.List(traits.Str, desc="all that is doubtful")
    locals().update({name: File(desc=f"{what}, as written") for name, what in FILES.items()})


class SaveScan(SimpleInterface):
    """Write what was computed of a scan under its BIDS names.

    Examples
    --------
    >>> node = SaveScan(output_dir="out", entities=[("subject", "01")], space="MNI", source="a")
    >>> node.inputs.forward = "forward.h5"  # doctest: +SKIP
    >>> node.run().outputs.forward  # doctest: +SKIP
    'out/sub-01/anat/sub-01_from-T1w_to-MNI_mode-image_xfm.h5'
    >>> node.inputs.entities
    [('subject', '01')]
    """

    input_spec = _SaveScanInputSpec
    output_spec = _SaveScanOutputSpec
    _always_run = True

    def _run_interface(self, runtime):
        from vxmprep.bids.derivatives import ScanWriter
        from vxmprep.bids.outputs import write_scan
        from vxmprep.evaluation.report import read_summary
        from vxmprep.spatial.files import checksum

        given = {
            name: Path(getattr(self.inputs, name))
            for name in FILES
            if isdefined(getattr(self.inputs, name))
        }
        measures = [read_summary(given[name]) for name in given if name in MEASURES]
        writer = ScanWriter(
            Path(self.inputs.output_dir), tuple(self.inputs.entities), self.inputs.common or {}
        )
        sources = [self.inputs.source]
        if isdefined(self.inputs.segmentation_source):
            sources.append(self.inputs.segmentation_source)
        method = self.inputs.strip_method
        written = write_scan(writer, given, self.inputs.space, sources, strip_method=method)
        files = {name: str(path) for name, path in written.items()}
        self._results.update(
            files,
            files=files,
            strip_method=method,
            checksums={path: checksum(path) for path in self.inputs.originals or []},
            flags=[*(self.inputs.flags or []), *(f for m in measures for f in m.get("Flags", []))],
        )
        return runtime
