"""One full-size run on a simulated subject, and what it must leave behind."""

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
import SimpleITK as sitk

from vxmprep.cli import demo

SPACE = "MNI152NLin2009cAsym"
EXPECTED = (
    "desc-preproc_T1w.nii.gz",
    "desc-brain_mask.nii.gz",
    f"space-{SPACE}_desc-preproc_T1w.nii.gz",
    f"space-{SPACE}_desc-brain_mask.nii.gz",
    f"space-{SPACE}_desc-aseg_dseg.nii.gz",
    f"space-{SPACE}_desc-asegaffine_dseg.nii.gz",
    "desc-atlas_dseg.nii.gz",
    f"space-{SPACE}_desc-jacobian_map.nii.gz",
    f"space-{SPACE}_res-network_desc-conformed_T1w.nii.gz",
    f"space-{SPACE}_res-network_desc-conformed_dseg.nii.gz",
    f"from-T1w_to-{SPACE}_mode-image_xfm.h5",
    f"from-{SPACE}_to-T1w_mode-image_xfm.h5",
    f"from-T1w_to-{SPACE}_mode-image_desc-affine_xfm.txt",
    f"space-{SPACE}_desc-registration_dice.tsv",
    f"space-{SPACE}_desc-registration_metrics.json",
)


class Run:
    """A finished demo of one subject."""

    def __init__(self, root: Path) -> None:
        self.layout = demo.Layout(root)
        self.anat = self.layout.result / "sub-01" / "anat"
        self.scan = next((self.layout.bids / "sub-01" / "anat").glob("*_T1w.nii.gz"))
        self.segmentation = self.layout.freesurfer / "sub-01" / "mri" / "aseg.mgz"

    def path(self, ending: str) -> Path:
        return self.anat / f"sub-01_{ending}"

    def transform(self, start: str, end: str) -> sitk.Transform:
        return sitk.ReadTransform(str(self.path(f"from-{start}_to-{end}_mode-image_xfm.h5")))

    def metrics(self) -> dict:
        return json.loads(self.path(f"space-{SPACE}_desc-registration_metrics.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("one run") / "démo"
    assert demo.main([str(root), "--subjects", "1"]) == 0
    return Run(root)


def brain_points(run: Run, count: int) -> np.ndarray:
    """Brain voxels of the atlas as LPS points."""
    mask = sitk.ReadImage(str(run.path(f"space-{SPACE}_desc-brain_mask.nii.gz")))
    inside = np.argwhere(sitk.GetArrayFromImage(mask) > 0)[:, ::-1]
    chosen = np.random.default_rng(0).choice(inside, count, replace=False)
    return np.array([mask.TransformIndexToPhysicalPoint(i.tolist()) for i in chosen])


def test_every_file_of_the_design_is_written_and_no_other(run):
    named = {f"sub-01_{ending}" for ending in EXPECTED}
    images = {n for n in named if n.endswith(("nii.gz", ".h5", ".txt"))}
    sidecars = {n.split(".")[0] + ".json" for n in images}
    assert {path.name for path in run.anat.iterdir()} == named | sidecars


def test_the_derivatives_are_valid_bids(run, bids_errors):
    assert bids_errors(run.layout.result) == []


def test_registration_improves_on_the_affine(run):
    overlap = run.metrics()["Overlap"]
    assert overlap["Structures"] == 30
    assert overlap["DiceMean"] > overlap["DiceMeanAffine"] + 0.1


def test_the_known_deformation_is_found_better_than_by_the_affine(run):
    scored = demo.score(run.layout, next(run.layout.truth.glob("*_points.tsv")))
    assert scored.error_mm < 0.6 * scored.error_affine_mm


def test_nothing_folds_by_simpleitk(run):
    """Central differences of the whole map in the array's frame; the affine has no mirror."""
    atlas = sitk.ReadImage(str(run.path(f"space-{SPACE}_desc-brain_mask.nii.gz")))
    size, spacing = atlas.GetSize(), atlas.GetSpacing()
    field = sitk.TransformToDisplacementField(
        run.transform("T1w", SPACE),
        sitk.sitkVectorFloat64,
        size,
        atlas.GetOrigin(),
        spacing,
        atlas.GetDirection(),
    )
    direction = np.array(atlas.GetDirection()).reshape(3, 3)
    turned = sitk.GetImageFromArray(sitk.GetArrayFromImage(field) @ direction, isVector=True)
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(turned))
    assert (determinant[sitk.GetArrayFromImage(atlas) > 0] > 0).all()
    assert run.metrics()["Folding"]["FoldedVoxels"] == 0


def test_forward_then_inverse_returns_brain_points(run):
    forward, inverse = run.transform("T1w", SPACE), run.transform(SPACE, "T1w")
    points = brain_points(run, 5000)
    back = np.array([inverse.TransformPoint(forward.TransformPoint(p)) for p in points.tolist()])
    errors = np.linalg.norm(back - points, axis=1)
    assert errors.mean() < 0.3
    assert np.percentile(errors, 99) < 1


def test_the_composite_is_an_affine_and_a_field_and_the_affine_is_the_one_of_the_text_file(run):
    forward = sitk.CompositeTransform(run.transform("T1w", SPACE))
    assert forward.GetNumberOfTransforms() == 2
    affine = sitk.AffineTransform(forward.GetNthTransform(0))
    text = sitk.ReadTransform(str(run.path(f"from-T1w_to-{SPACE}_mode-image_desc-affine_xfm.txt")))
    point = (10.0, -20.0, 30.0)
    assert affine.TransformPoint(point) == pytest.approx(text.TransformPoint(point), abs=1e-9)


def test_simpleitk_makes_the_same_labels_and_the_same_image_from_the_written_files(run):
    reference = sitk.ReadImage(str(run.path(f"space-{SPACE}_desc-aseg_dseg.nii.gz")))
    segmentation = nb.load(run.segmentation)
    plain = run.layout.root / "aseg.nii"
    nb.save(nb.Nifti1Image(np.asarray(segmentation.dataobj, np.int16), segmentation.affine), plain)
    labels = sitk.Resample(
        sitk.ReadImage(str(plain)),
        reference,
        run.transform("T1w", SPACE),
        sitk.sitkNearestNeighbor,
    )
    assert (sitk.GetArrayFromImage(labels) == sitk.GetArrayFromImage(reference)).all()
    written = sitk.ReadImage(str(run.path(f"space-{SPACE}_desc-preproc_T1w.nii.gz")))
    scan = sitk.ReadImage(str(run.path("desc-preproc_T1w.nii.gz")), sitk.sitkFloat32)
    again = sitk.Resample(scan, written, run.transform("T1w", SPACE), sitk.sitkLinear)
    difference = sitk.GetArrayFromImage(again) - sitk.GetArrayFromImage(written)
    assert np.abs(difference).max() < sitk.GetArrayFromImage(written).max() / 2000


def test_the_field_ends_smoothly(run):
    field = sitk.DisplacementFieldTransform(
        sitk.CompositeTransform(run.transform("T1w", SPACE)).GetNthTransform(1)
    )
    vectors = sitk.GetArrayFromImage(field.GetDisplacementField())
    for axis in range(3):
        assert np.abs(np.take(vectors, [0, -1], axis=axis)).max() < 0.01
    assert np.abs(vectors).max() > 2


def test_files_are_no_larger_than_need_be(run):
    files = list((run.layout.result / "sub-01").rglob("*"))
    assert max(f.stat().st_size for f in files if f.suffix == ".h5") < 24e6
    assert sum(f.stat().st_size for f in files) < 80e6


def test_sidecars_say_where_a_file_comes_from(run):
    path = run.path(f"space-{SPACE}_desc-preproc_T1w.json")
    sidecar = json.loads(path.read_text())
    assert sidecar["Sources"] == [f"bids:raw:sub-01/anat/{run.scan.name}"]
    assert sidecar["SkullStripped"] is True
    assert sidecar["Model"]["File"] == "bundled.pt"
    assert len(sidecar["Atlas"]["Image"]["SHA256"]) == 64


def test_a_record_tells_the_seconds_of_each_step_and_the_work_folder_is_empty(run):
    record = json.loads((run.layout.result / "logs" / "sub-01_T1w.json").read_text())
    assert record["status"] == "done"
    assert record["steps"]["register"]["seconds"] > 0
    assert 0.5 < record["steps"]["register"]["peak_gb"] < 6
    assert not run.layout.work.exists()
