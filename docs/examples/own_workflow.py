"""A workflow of your own with vxmprep's parts: no BIDS, your files in, your files out.

    python own_workflow.py SCANS ATLAS OUT

SCANS holds a folder per subject with its T1w.nii.gz; every scan is skull-stripped, registered to
the image ATLAS, brought there and smoothed. Exchange DataGrabber, smoothing and DataSink for what
your study has.
"""

import argparse
from pathlib import Path

from nipype import DataGrabber, DataSink, Function, IdentityInterface, Node, Workflow

from vxmprep.interfaces import ApplyTransform, JacobianMap, PrepareAtlas
from vxmprep.workflows import init_alignment_wf, init_brain_wf, init_registration_wf


def smooth(in_file: str, fwhm: float) -> str:
    """Smooth an image with a Gaussian of so many millimetres: a step of your own."""
    from pathlib import Path

    from nilearn.image import smooth_img

    out_file = Path.cwd() / "smoothed.nii.gz"
    smooth_img(in_file, fwhm).to_filename(out_file)
    return str(out_file)


def build(scans: Path, atlas: Path, out: Path, work: Path, *, iterations: int) -> Workflow:
    """Connect it all."""
    subjects = sorted(path.parent.name for path in scans.glob("*/T1w.nii.gz"))
    workflow = Workflow("own_workflow", base_dir=str(work))

    infosource = Node(IdentityInterface(["subject"]), name="infosource")
    infosource.iterables = [("subject", subjects)]
    grabber = Node(DataGrabber(infields=["subject"], outfields=["t1w"]), name="grabber")
    grabber.inputs.base_directory = str(scans)
    grabber.inputs.template = "%s/T1w.nii.gz"
    grabber.inputs.sort_filelist = True

    # once for all subjects: the atlas on its own grid and on the network's
    template = Node(PrepareAtlas(image=str(atlas)), name="template")

    brain = init_brain_wf(skull_strip="auto")
    align = init_alignment_wf(affine="greedy")
    register = init_registration_wf(iterations=iterations)  # or model="model.pt"
    warp = Node(ApplyTransform(interpolation="cubic"), name="warp")
    jacobian = Node(JacobianMap(), name="jacobian")

    smoothing = Node(Function(function=smooth, output_names=["out_file"]), name="smoothing")
    smoothing.inputs.fwhm = 6.0
    sink = Node(DataSink(base_directory=str(out), parameterization=False), name="sink")

    workflow.connect([
        (infosource, grabber, [("subject", "subject")]),
        (grabber, brain, [("t1w", "inputnode.t1w")]),
        (brain, align, [
            ("outputnode.t1w", "inputnode.t1w"), ("outputnode.mask", "inputnode.mask"),
        ]),
        (template, align, [
            ("brain", "inputnode.atlas"), ("mask", "inputnode.atlas_mask"),
            ("network_brain", "inputnode.reference"),
        ]),
        (align, register, [
            ("outputnode.conformed", "inputnode.conformed"),
            ("outputnode.affine", "inputnode.affine"),
        ]),
        (template, register, [
            ("network_brain", "inputnode.atlas"), ("network_mask", "inputnode.atlas_mask"),
        ]),
        (brain, warp, [("outputnode.t1w", "in_file")]),
        (template, warp, [("brain", "reference")]),
        # "forward" resamples images of the scan onto the atlas, as antsApplyTransforms takes it
        (register, warp, [("outputnode.forward", "transform")]),
        (register, jacobian, [("outputnode.forward", "transform")]),
        (template, jacobian, [("mask", "mask_file")]),
        (warp, smoothing, [("out_file", "in_file")]),
        (infosource, sink, [("subject", "container")]),
        (smoothing, sink, [("out_file", "@smoothed")]),
        (jacobian, sink, [("out_file", "@jacobian")]),
        (register, sink, [("outputnode.forward", "@forward"), ("outputnode.inverse", "@inverse")]),
    ])  # fmt: skip
    return workflow


def main(argv: list[str] | None = None) -> None:
    """Run the workflow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path)
    parser.add_argument("atlas", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--nprocs", type=int, default=1)
    given = parser.parse_args(argv)
    paths = (path.absolute() for path in (given.scans, given.atlas, given.out, given.work))
    workflow = build(*paths, iterations=given.iterations)
    if given.nprocs == 1:
        workflow.run("Linear")
    else:
        workflow.run("MultiProc", plugin_args={"n_procs": given.nprocs})


if __name__ == "__main__":
    main()
