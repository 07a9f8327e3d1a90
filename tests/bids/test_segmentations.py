"""Where other programs left a scan's segmentation or brain mask."""

import json
from pathlib import Path

import pytest
from bids.layout.writing import build_path

from vxmprep.bids.dataset import Scan
from vxmprep.bids.segmentations import find_brain_mask, find_freesurfer_dir, find_segmentation
from vxmprep.bids.transforms import find_transform

PLAIN = Scan(Path("/d/sub-01/anat/sub-01_T1w.nii.gz"), (("subject", "01"),))
IN_SESSION = Scan(
    Path("/d/sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w.nii.gz"),
    (("subject", "01"), ("session", "a"), ("run", "1")),
)
SEGMENTATIONS = (
    "sub-01_ses-a/mri/aseg.mgz",
    "sub-01_ses-a/mri/aparc+aseg.mgz",
    "sub-01/mri/aseg.mgz",
    "sub-01/mri/aparc+aseg.mgz",
    "sub-01_ses-a.long.base/mri/aseg.mgz",
    "sub-01.long.base/mri/aseg.mgz",
)
"""From what is taken first to what is taken last."""


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(scan: Scan, freesurfer: Path | None = None, *derivatives: Path) -> Path | None:
    return find_segmentation(scan, freesurfer_dir=freesurfer, derivatives=derivatives)


@pytest.mark.parametrize("first", range(len(SEGMENTATIONS)))
def test_freesurfer_is_asked_for_session_then_participant_then_longitudinal(first, tmp_path):
    root = touch(tmp_path, *SEGMENTATIONS[first:])
    assert found(IN_SESSION, root) == root / SEGMENTATIONS[first]


def test_a_scan_without_session_takes_no_session(tmp_path):
    root = touch(tmp_path, *SEGMENTATIONS[:2])
    assert found(PLAIN, root) is None


def test_another_participant_is_not_taken(tmp_path):
    root = touch(tmp_path, "sub-011/mri/aseg.mgz", "sub-011.long.base/mri/aseg.mgz")
    assert found(PLAIN, root) is None


def test_another_session_is_not_taken(tmp_path):
    root = touch(tmp_path, "sub-01_ses-b/mri/aseg.mgz", "sub-01_ses-b.long.base/mri/aseg.mgz")
    assert found(IN_SESSION, root) is None


def test_without_a_folder_there_is_none():
    assert found(PLAIN) is None


def test_freesurfers_own_volume_goes_before_derivatives(tmp_path):
    freesurfer = touch(tmp_path / "fs", "sub-01/mri/aparc+aseg.mgz")
    other = touch(tmp_path / "d", "sub-01/anat/sub-01_desc-aseg_dseg.nii.gz")
    assert found(PLAIN, freesurfer, other) == freesurfer / "sub-01/mri/aparc+aseg.mgz"


@pytest.mark.parametrize("desc", ["aseg", "aparcaseg"])
def test_a_freesurfer_numbered_derivative_is_taken(desc, tmp_path):
    root = touch(tmp_path, f"sub-01/anat/sub-01_desc-{desc}_dseg.nii.gz")
    assert found(PLAIN, None, root) == root / f"sub-01/anat/sub-01_desc-{desc}_dseg.nii.gz"


def test_aseg_goes_before_aparcaseg_in_derivatives(tmp_path):
    root = touch(
        tmp_path,
        "sub-01/anat/sub-01_desc-aparcaseg_dseg.nii.gz",
        "sub-01/anat/sub-01_desc-aseg_dseg.nii.gz",
    )
    assert found(PLAIN, None, root).name == "sub-01_desc-aseg_dseg.nii.gz"


def test_the_first_folder_given_goes_first(tmp_path):
    name = "sub-01/anat/sub-01_desc-aseg_dseg.nii.gz"
    one, other = touch(tmp_path / "b", name), touch(tmp_path / "a", name)
    assert found(PLAIN, None, one, other) == one / name


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_dseg.nii.gz",
        "sub-01_space-MNI152NLin2009cAsym_desc-aseg_dseg.nii.gz",
        "sub-01_desc-aseg_dseg.json",
        "sub-01_run-1_desc-aseg_dseg.nii.gz",
    ],
)
def test_tissue_classes_other_spaces_and_other_scans_are_never_taken(name, tmp_path):
    assert found(PLAIN, None, touch(tmp_path, f"sub-01/anat/{name}")) is None


def test_the_derivative_of_a_run_in_a_session_is_its_own(tmp_path):
    folder = "sub-01/ses-a/anat"
    root = touch(
        tmp_path,
        f"{folder}/sub-01_ses-a_run-1_desc-aseg_dseg.nii.gz",
        f"{folder}/sub-01_ses-a_run-2_desc-aseg_dseg.nii.gz",
    )
    assert found(IN_SESSION, None, root).name == "sub-01_ses-a_run-1_desc-aseg_dseg.nii.gz"


def test_the_real_segmentations_of_a_cohort_are_found(shared_data):
    root = shared_data / "labelled-cohort"
    scan = Scan(root / "sub-1001/anat/sub-1001_T1w.nii.gz", (("subject", "1001"),))
    assert found(scan, None, root / "derivatives" / "manual").is_file()


def test_freesurfers_brainmask_is_found(freesurfer_dir):
    bert = Scan(Path("sub-bert_T1w.nii.gz"), (("subject", "bert"),))
    mask = find_brain_mask(bert, freesurfer_dir=freesurfer_dir)
    assert mask == freesurfer_dir / "sub-bert" / "mri" / "brainmask.mgz"


def test_a_brain_mask_of_derivatives_is_found(tmp_path):
    name = "sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    assert find_brain_mask(PLAIN, derivatives=[touch(tmp_path, name)]) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["sub-01_space-T1w_desc-brain_mask.nii.gz", "sub-01_desc-roi_mask.nii.gz"]
)
def test_another_mask_is_not_taken(name, tmp_path):
    assert find_brain_mask(PLAIN, derivatives=[touch(tmp_path, f"sub-01/anat/{name}")]) is None


def test_freesurfers_folder_is_looked_for_in_the_output_and_then_in_the_dataset(tmp_path):
    output, dataset = tmp_path / "out", tmp_path / "bids"
    assert find_freesurfer_dir(None, output, dataset) is None
    for folder in (
        dataset / "sourcedata" / "freesurfer",
        dataset / "derivatives" / "freesurfer",
        output / "sourcedata" / "freesurfer",
    ):
        folder.mkdir(parents=True)
        assert find_freesurfer_dir(None, output, dataset) == folder
    assert find_freesurfer_dir(tmp_path, output, dataset) == tmp_path


def test_what_niworkflows_writes_under_its_own_names_is_found(tmp_path):
    data = pytest.importorskip("niworkflows.data")
    patterns = json.loads(data.load("nipreps.json").read_text())["default_path_patterns"]

    def written(**entities: str) -> Path:
        whose = dict(IN_SESSION.entities, datatype="anat")
        path = tmp_path / build_path({**whose, **entities}, patterns)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    for space in ({}, {"space": "MNI152NLin2009cAsym"}):
        mask = written(desc="brain", suffix="mask", extension=".nii.gz", **space)
        tissues = written(suffix="dseg", extension=".nii.gz", **space)
        aseg = written(desc="aseg", suffix="dseg", extension=".nii.gz", **space)
        if not space:
            wanted = mask, aseg
            assert tissues.name == "sub-01_ses-a_run-1_dseg.nii.gz"
    ways = (
        {"from": "T1w", "to": "MNI152NLin2009cAsym"},
        {"from": "MNI152NLin2009cAsym", "to": "T1w"},
    )
    forward, back = (written(mode="image", suffix="xfm", extension=".h5", **way) for way in ways)
    assert find_brain_mask(IN_SESSION, derivatives=[tmp_path]) == wanted[0]
    assert found(IN_SESSION, None, tmp_path) == wanted[1]
    image = "sub-01_ses-a_task-rest_bold.nii.gz"
    assert find_transform(tmp_path, image, to="MNI152NLin2009cAsym") == forward
    assert find_transform(tmp_path, image, to="T1w") == back
