"""Which scans a dataset holds."""

import json

import pytest

from vxmprep.bids.dataset import DatasetError, find_scans


def make(root, *names: str):
    """A dataset with empty files of these names."""
    root.mkdir(parents=True, exist_ok=True)
    description = {"Name": "made up", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def complaint(*args, **kwargs) -> str:
    with pytest.raises(DatasetError) as caught:
        find_scans(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cohort", "number"),
    [
        ("freesurfer-cohort", 2),
        ("labelled-cohort", 25),
        ("training-cohort", 36),
        ("whole-head-cohort", 6),
    ],
)
def test_all_scans_of_a_real_cohort_are_found(cohort, number, shared_data):
    scans = find_scans(shared_data / cohort)
    assert len(scans) == number
    assert all(scan.path.is_file() for scan in scans)
    assert len({scan.participant for scan in scans}) == number


def test_sessions_and_runs_are_scans_of_their_own_in_order(tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_run-2_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_run-1_T1w.nii.gz",
    )
    assert [scan.stem for scan in find_scans(root)] == [
        "sub-01_ses-a_run-1",
        "sub-01_ses-a_run-2",
        "sub-01_ses-b",
        "sub-02",
    ]


def test_entities_are_kept_in_the_order_of_bids(tmp_path):
    name = "sub-01_ses-a_acq-mprage_ce-gd_rec-norm_run-02_echo-1_part-mag_T1w.nii.gz"
    (scan,) = find_scans(make(tmp_path / "bids", f"sub-01/ses-a/anat/{name}"))
    assert scan.entities == (
        ("subject", "01"),
        ("session", "a"),
        ("acquisition", "mprage"),
        ("ceagent", "gd"),
        ("reconstruction", "norm"),
        ("run", "02"),
        ("echo", "1"),
        ("part", "mag"),
    )
    assert (scan.participant, scan.session) == ("01", "a")


@pytest.mark.parametrize("entity", ["chunk", "task"])
def test_scans_that_differ_in_one_entity_have_entities_that_differ(entity, tmp_path):
    names = [f"sub-01_{entity}-{i}_T1w.nii.gz" for i in (1, 2)]
    scans = find_scans(make(tmp_path / "bids", *(f"sub-01/anat/{name}" for name in names)))
    assert len({scan.entities for scan in scans}) == 2


def test_a_scan_without_session_has_none(tmp_path):
    (scan,) = find_scans(make(tmp_path / "bids", "sub-01/anat/sub-01_T1w.nii"))
    assert scan.session is None
    assert scan.stem == "sub-01"


def test_other_images_and_other_folders_are_no_scans(tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T1w.json",
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
        "derivatives/other/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
        "derivatives/other/sub-02/anat/sub-02_T1w.nii.gz",
        "sourcedata/sub-03/anat/sub-03_T1w.nii.gz",
        ".git/annex/sub-04/anat/sub-04_T1w.nii.gz",
    )
    assert [scan.path for scan in find_scans(root)] == [root / "sub-01/anat/sub-01_T1w.nii.gz"]


def test_an_output_folder_in_the_dataset_holds_no_scans(tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "vxmprep/sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
        "vxmprep/sub-01/anat/sub-01_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz",
    )
    assert [scan.stem for scan in find_scans(root)] == ["sub-01"]


@pytest.mark.parametrize("label", ["02", "sub-02"])
def test_a_participant_is_chosen_with_or_without_sub(label, tmp_path):
    root = make(
        tmp_path / "bids", "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz"
    )
    assert [scan.participant for scan in find_scans(root, participants=[label])] == ["02"]


@pytest.mark.parametrize("label", ["b", "ses-b"])
def test_a_session_is_chosen_with_or_without_ses(label, tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
    )
    assert [scan.session for scan in find_scans(root, sessions=[label])] == ["b"]


def test_a_dataset_inside_a_hidden_folder_is_read_all_the_same(tmp_path):
    root = make(tmp_path / ".cache" / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    assert len(find_scans(root)) == 1


def test_a_dataset_under_a_folder_called_derivatives_is_read_all_the_same(tmp_path):
    root = make(tmp_path / "derivatives" / "x", "sub-01/anat/sub-01_T1w.nii.gz")
    assert len(find_scans(root)) == 1


@pytest.mark.parametrize("folder", ["func", "meg", "eeg"])
def test_a_dataset_under_a_folder_called_like_a_data_type_is_read_all_the_same(folder, tmp_path):
    root = make(tmp_path / folder / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    assert len(find_scans(root)) == 1


@pytest.mark.parametrize("folder", ["sub-99", "ses-b", "job_run-3"])
def test_folders_above_the_dataset_give_a_scan_no_entities(folder, tmp_path):
    root = make(tmp_path / folder / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    assert [scan.entities for scan in find_scans(root)] == [(("subject", "01"),)]


def test_an_unknown_participant_is_named(tmp_path):
    root = make(tmp_path / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    assert "sub-99" in complaint(root, participants=["01", "99"])


def test_an_unknown_session_is_named(tmp_path):
    root = make(tmp_path / "bids", "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz")
    assert "ses-z" in complaint(root, sessions=["z"])


@pytest.mark.parametrize("names", [(), ("sub-01/anat/sub-01_T2w.nii.gz",)])
def test_a_dataset_without_a_t1w_is_refused(names, tmp_path):
    root = make(tmp_path / "bids", *names)
    assert complaint(root).startswith(f"{root}: no T1w scan found")


def test_a_participant_without_a_t1w_is_refused(tmp_path):
    root = make(
        tmp_path / "bids", "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T2w.nii.gz"
    )
    assert "no T1w scan of sub-02" in complaint(root, participants=["02"])


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    assert "dataset_description.json is missing" in complaint(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert "no such folder" in complaint(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"BIDSVersion": "1.0.0"}'])
def test_a_flawed_description_does_no_harm(text, tmp_path):
    root = make(tmp_path / "bids", "sub-01/anat/sub-01_T1w.nii.gz")
    (root / "dataset_description.json").write_text(text)
    assert len(find_scans(root)) == 1


def test_scans_whose_results_would_overwrite_each_other_are_refused(tmp_path):
    root = make(
        tmp_path / "bids",
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz",
    )
    assert "same BIDS entities" in complaint(root)
