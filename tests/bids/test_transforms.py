"""Which saved transform belongs to an image."""

from pathlib import Path

import pytest

from vxmprep.bids.transforms import find_transform, grid_file, named_in
from vxmprep.config import UsageError


def make(root: Path, *names: str) -> Path:
    for name in names:
        words = name.split("_")
        folder = root.joinpath(*(w for w in words if w.startswith(("sub-", "ses-"))), "anat")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}_mode-image_xfm.h5").touch()
    return root


def found(root: Path, name: str, **how) -> str:
    return find_transform(root, name, **how).name.removesuffix("_mode-image_xfm.h5")


def test_the_name_of_an_image_tells_whose_transform(tmp_path):
    make(tmp_path, "sub-01_from-T1w_to-MNI", "sub-01_from-MNI_to-T1w", "sub-010_from-T1w_to-MNI")
    assert found(tmp_path, "sub-01_FLAIR.nii.gz", to="MNI") == "sub-01_from-T1w_to-MNI"
    assert found(tmp_path, "sub-01_x.nii", to="T1w") == "sub-01_from-MNI_to-T1w"
    assert found(tmp_path, "a.nii", to="MNI", participant="010") == "sub-010_from-T1w_to-MNI"


def test_the_session_chooses(tmp_path):
    make(tmp_path, "sub-1_ses-a_from-T1w_to-MNI", "sub-1_ses-b_from-T1w_to-MNI")
    wanted = "sub-1_ses-b_from-T1w_to-MNI"
    assert found(tmp_path, "sub-1_ses-b_task-rest_bold.nii.gz", to="MNI") == wanted
    assert found(tmp_path, "sub-1_ses-a_T1w.nii.gz", to="MNI", session="b") == wanted
    with pytest.raises(UsageError, match=r"several transforms fit.*--session-label or -t"):
        found(tmp_path, "sub-1_T2w.nii.gz", to="MNI")


def test_the_only_t1w_of_a_participant_serves_all_sessions(tmp_path):
    make(tmp_path, "sub-1_from-T1w_to-MNI")
    assert found(tmp_path, "sub-1_ses-b_bold.nii", to="MNI") == "sub-1_from-T1w_to-MNI"


def test_a_transform_of_another_session_is_only_taken_where_it_is_asked_for(tmp_path):
    make(tmp_path, "sub-1_ses-a_from-T1w_to-MNI")
    with pytest.raises(UsageError, match=r"for sub-1 ses-b, but of session a; .*--session-label"):
        found(tmp_path, "sub-1_ses-b_FLAIR.nii", to="MNI")
    taken = found(tmp_path, "sub-1_ses-b_FLAIR.nii", to="MNI", session="a")
    assert taken == "sub-1_ses-a_from-T1w_to-MNI"


def test_the_scan_of_the_same_name_is_preferred(tmp_path):
    make(tmp_path, "sub-1_run-1_from-T1w_to-MNI", "sub-1_run-2_from-T1w_to-MNI")
    assert found(tmp_path, "sub-1_run-2_T1w.nii", to="MNI") == "sub-1_run-2_from-T1w_to-MNI"


def test_the_run_of_another_image_is_not_that_of_the_t1w(tmp_path):
    make(tmp_path, "sub-1_run-1_from-T1w_to-MNI", "sub-1_run-2_from-T1w_to-MNI")
    for name in ("task-rest_run-2_bold", "task-rest_run-2_desc-brain_mask", "run-2_FLAIR"):
        with pytest.raises(UsageError, match="several transforms fit"):
            found(tmp_path, f"sub-1_{name}.nii.gz", to="MNI")
    for name in ("run-2_desc-aseg_dseg.nii.gz", "run-2_hemi-L_pial.surf.gii"):
        assert found(tmp_path, f"sub-1_{name}", to="MNI") == "sub-1_run-2_from-T1w_to-MNI"


def test_the_atlas_that_images_come_from_may_have_to_be_said(tmp_path):
    make(tmp_path, "sub-1_from-A_to-T1w", "sub-1_from-B_to-T1w")
    with pytest.raises(UsageError, match=r"--from \(A, B\)"):
        found(tmp_path, "sub-1_x.nii", to="T1w")
    assert found(tmp_path, "sub-1_x.nii", to="T1w", start="B") == "sub-1_from-B_to-T1w"


def test_what_is_not_there_is_said(tmp_path):
    make(tmp_path, "sub-1_from-T1w_to-MNI", "sub-1_desc-other")
    with pytest.raises(UsageError, match=r"no transform to OASIS for sub-1; there are .* to MNI"):
        found(tmp_path, "sub-1_x.nii", to="OASIS")
    with pytest.raises(UsageError, match=r"there is no sub-2; check --participant-label"):
        found(tmp_path, "sub-2_x.nii", to="MNI")
    with pytest.raises(UsageError, match=r"x\.nii: .*give --participant-label"):
        found(tmp_path, "x.nii", to="MNI")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("sub-1_T1w.nii.gz", "sub-1_space-M_T1w.nii.gz"),
        ("sub-1_hemi-L_white.surf.gii", "sub-1_hemi-L_space-M_white.nii.gz"),
        ("sub-1_space-T1w_res-2_desc-aseg_dseg.nii", "sub-1_space-M_desc-aseg_dseg.nii.gz"),
        ("lesion.v2.nii.gz", "lesion_space-M.nii.gz"),
    ],
)
def test_names_say_the_new_space(before, after):
    assert named_in("M", before, ".nii.gz") == after


def test_the_grid_is_that_of_the_preprocessed_scan_there():
    folder = Path("d/anat")
    path = folder / "sub-1_run-1_from-T1w_to-M_mode-image_xfm.h5"
    assert grid_file(path) == folder / "sub-1_run-1_space-M_desc-preproc_T1w.nii.gz"
    path = folder / "sub-1_from-M_to-T1w_mode-image_xfm.h5"
    assert grid_file(path) == folder / "sub-1_desc-preproc_T1w.nii.gz"
