"""``vxmprep-doctor`` names what is wrong with a dataset."""

import json
import shutil
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from vxmprep.cli.doctor import build_parser, main
from vxmprep.preparation.checkup import examine_voxels
from vxmprep.preparation.shape import MaskShape


def findings(study, capsys, *more: str) -> tuple[int, list[dict]]:
    """Run the command, and give its exit code and what it found."""
    code = main([str(study.bids), "--fs-subjects-dir", str(study.freesurfer), "--json", *more])
    return code, json.loads(capsys.readouterr().out)["findings"]


def about(found: list[dict], file: Path | str, level: str) -> list[str]:
    name = str(file)
    return [f["what"] for f in found if f["file"] == name and f["level"] == level]


def change(path: Path, *, data=None, sform=None, qform=None) -> None:
    image = nb.load(path)
    out = nb.Nifti1Image(np.asarray(image.dataobj) if data is None else data, image.affine)
    out.set_sform(image.affine if sform is None else sform, code=1)
    out.set_qform(image.affine if qform is None else qform, code=1)
    nb.save(out, path)


def test_a_good_dataset_has_notes_only(study, capsys):
    study.tiny.segmentation(study.aseg("02"), 2)
    code, found = findings(study, capsys)
    assert code == 0
    sizes, others = ([f for f in found if (" ml, expected" in f["what"]) is is_size]
                     for is_size in (True, False))  # fmt: skip
    assert {f["level"] for f in others} == {"note"}
    assert {f["file"].split(" of ")[0] for f in others} == {"skull", "time", "GPU", "disk"}
    # The brains of these tests are as small as an ape's.
    assert {f["file"]: f["level"] for f in sizes} == {
        str(study.t1w(label)): "warning" for label in ("01", "02")
    }


def test_a_scan_whose_content_was_not_fetched_is_an_error(study, capsys):
    path = study.t1w("02")
    path.unlink()
    path.symlink_to("../../.git/annex/objects/x.nii.gz")
    code, found = findings(study, capsys)
    assert code == 1
    assert "datalad get" in about(found, path, "error")[0]


def test_left_and_right_that_sform_and_qform_exchange_are_an_error(study, capsys):
    path = study.t1w("01")
    affine = nb.load(path).affine
    change(path, qform=np.diag([-1.0, 1, 1, 1]) @ affine)
    code, found = findings(study, capsys, "--headers-only")
    assert code == 1
    assert "left and right" in about(found, path, "error")[0]


def test_forms_that_lie_apart_are_a_warning(study, capsys):
    path = study.t1w("01")
    away = nb.load(path).affine.copy()
    away[1, 3] += 12
    change(path, qform=away)
    code, found = findings(study, capsys, "--headers-only")
    assert code == 0
    assert "12.0 mm apart" in about(found, path, "warning")[0]


def test_no_orientation_is_an_error(study, capsys):
    path = study.t1w("01")
    image = nb.load(path)
    bare = nb.Nifti1Image(np.asarray(image.dataobj), None)
    nb.save(bare, path)
    code, found = findings(study, capsys, "--headers-only")
    assert code == 1
    assert "left and right cannot be told apart" in about(found, path, "error")[0]


def test_coarse_voxels_are_a_warning(study, capsys):
    path = study.t1w("01")
    change(path, sform=nb.load(path).affine @ np.diag([1, 1, 3.5, 1]))
    image = nb.load(path)
    image.set_qform(image.affine, code=1)
    nb.save(image, path)
    _, found = findings(study, capsys, "--headers-only")
    assert "voxels of 1x1x3.5 mm" in about(found, path, "warning")[0]


def test_a_brain_that_is_cut_off_is_a_warning(study, capsys):
    path = study.t1w("01")
    image = nb.load(path)
    inside = np.argwhere(np.asarray(image.dataobj) > 0)
    middle = int(inside[:, 2].mean())
    nb.save(image.slicer[:, :, : middle + 8], path)
    _, found = findings(study, capsys)
    (told,) = (what for what in about(found, path, "warning") if "(top)" in what)
    # --exclude is no option of this command, and leaves a scan out of training and group only.
    assert told.endswith("choose the others with --participant-label or --bids-filter-file")


def test_one_scan_under_two_names_is_an_error(study, capsys):
    image = nb.load(study.t1w("01"))
    # another type and scale of the same voxels
    data = np.asarray(image.dataobj).astype(np.float32) * 3
    nb.save(nb.Nifti1Image(data, image.affine), study.t1w("02"))
    code, found = findings(study, capsys)
    assert code == 1
    assert about(found, study.t1w("02"), "error") == [
        "its values are those of sub-01_T1w.nii.gz, in place or turned: one scan under two names; "
        "remove one"
    ]


def test_several_scans_of_a_session_are_told(study, capsys):
    first, second = (study.bids / "sub-02" / "anat" / f"sub-02_run-{n}_T1w.nii.gz" for n in (1, 2))
    study.t1w("02").rename(first)
    study.tiny.scan(second, 3)
    _, found = findings(study, capsys, "--headers-only")
    assert "2 T1w of one session" in about(found, f"{first.name}, {second.name}", "note")[0]


def test_all_misnamed_scans_are_errors_and_the_others_are_looked_at(study, capsys):
    names = ("sub-bad_name/anat/sub-bad_name_T1w.nii.gz", "sub-mism/anat/sub-other_T1w.nii.gz")
    twin = study.bids / "sub-01/anat/sub-01_desc-copy_T1w.nii.gz"
    for path in (wrong := [study.bids / name for name in names]):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"not read")
    twin.write_bytes(b"not read")
    change(study.t1w("02"), sform=nb.load(study.t1w("02")).affine @ np.diag([1, 1, 3.5, 1]))
    code, found = findings(study, capsys, "--headers-only")
    assert code == 1
    assert [f["file"] for f in found if f["level"] == "error"] == [*map(str, wrong), str(twin)]
    for path in wrong:
        assert about(found, path, "error")[0].startswith("its name must begin with")
    assert "same BIDS entities as sub-01_T1w.nii.gz" in about(found, twin, "error")[0]
    assert "voxels of 1x1x3.5 mm" in about(found, study.t1w("02"), "warning")[0]


def test_where_all_scans_are_misnamed_that_is_all_that_is_told(study, capsys):
    for label in ("01", "02"):
        study.t1w(label).rename(study.t1w(label).with_name("sub-x_T1w.nii.gz"))
    code, found = findings(study, capsys)
    assert code == 1
    assert [f["level"] for f in found] == ["error", "error"]


def test_participants_without_a_scan_are_named(study, tmp_path, capsys):
    other = study.bids / "sub-03" / "anat" / "sub-03_T2w.nii.gz"
    other.parent.mkdir(parents=True)
    other.touch()
    # With and without sub-, as tables have it; seven more are too many to name.
    listed = ["sub-01", "02", "sub-03", *(f"sub-1{n}" for n in range(7))]
    table = "\n".join(["participant_id\tage", *(f"{one}\tn/a" for one in listed)])
    (study.bids / "participants.tsv").write_text(table)
    code, found = findings(study, capsys, "--headers-only")
    assert code == 0
    empty = "a folder, but no T1w scan (anat/*_T1w.nii.gz){}: nothing to register"
    assert about(found, "sub-03", "note") == [empty.format("")]
    absent = "sub-10, sub-11, sub-12, sub-13, sub-14 and 2 more"
    assert about(found, absent, "note") == [
        "in participants.tsv, but without a folder in the dataset"
    ]
    (tmp_path / "filter.json").write_text('{"t1w": {"subject": "01"}}')
    _, found = findings(
        study, capsys, "--headers-only", "--bids-filter-file", str(tmp_path / "filter.json")
    )
    assert about(found, "sub-02, sub-03", "note") == [
        empty.format(" that --bids-filter-file lets pass")
    ]
    _, found = findings(study, capsys, "--headers-only", "--participant-label", "01")
    assert not [f for f in found if "sub-03" in f["file"] or "sub-10" in f["file"]]


def test_scans_without_labels_are_named(study, capsys):
    _, found = findings(study, capsys, "--headers-only")
    assert "without labels" in about(found, "sub-02_T1w.nii.gz", "warning")[0]
    shutil.rmtree(study.freesurfer / "sub-01")
    _, found = findings(study, capsys, "--headers-only")
    assert "no scan has labels" in about(found, "labels", "warning")[0]


def test_labels_that_are_given_twice_add_up(study, capsys):
    given = ["--participant-label", "01", "--participant-label", "sub-02"]
    main([str(study.bids), "--headers-only", *given])
    assert "2 T1w scans:" in capsys.readouterr().out
    given = ["--session-label", "pre", "--session-label", "post"]
    assert build_parser().parse_args(["bids", *given]).session_label == ["pre", "post"]


def test_freesurfer_is_looked_for_where_a_run_does(study, capsys):
    for place in ("sourcedata", "derivatives"):
        (study.bids / place / "freesurfer").mkdir(parents=True)
    main([str(study.bids), "--headers-only"])
    said = capsys.readouterr().out
    assert f"no scan has labels in {study.bids / 'derivatives' / 'freesurfer'}" in said


def test_a_segmentation_of_another_scan_is_an_error(study, capsys):
    labels = nb.load(study.aseg("01"))
    moved = labels.affine.copy()
    moved[:3, 3] += 40
    nb.save(nb.MGHImage(np.asarray(labels.dataobj).astype(np.int32), moved), study.aseg("01"))
    code, found = findings(study, capsys)
    assert code == 1
    assert "another scan's" in about(found, study.aseg("01"), "error")[0]


def test_stripped_and_whole_heads_together_are_a_warning(study, capsys):
    data = np.asarray(nb.load(study.t1w("02")).dataobj)
    noise = np.random.default_rng(0).integers(1, 60, data.shape)
    change(study.t1w("02"), data=(data + noise).astype(np.int16))
    _, found = findings(study, capsys)
    (told,) = about(found, "sub-01_T1w.nii.gz", "warning")
    assert told.startswith("1 of 2 scans is skull-stripped, unlike the others")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fs-subjects-dir", "none"], "--fs-subjects-dir none: no such folder"),
        (["-d", "a=none"], "--derivatives none: no such folder"),
        (["-d", "none"], "--derivatives none: no such folder"),
        (["--bids-filter-file", "none.json"], "none.json: no such file"),
    ],
)
def test_bad_usage_is_told_in_one_line(study, words, message, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([str(study.bids), *words])
    assert leaving.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_bad_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([str(tmp_path / "nowhere")])
    assert leaving.value.code == 2
    assert "nowhere: no such folder; give the root" in capsys.readouterr().err


def test_sessions_and_filters_choose_as_they_do_for_the_command(study, tmp_path, capsys):
    for session in ("a", "b"):
        study.tiny.scan(
            study.bids / "sub-03" / f"ses-{session}" / "anat" / f"sub-03_ses-{session}_T1w.nii.gz"
        )
    words = [str(study.bids), "--headers-only", "--json"]
    main([*words, "--session-label", "ses-b"])
    assert json.loads(capsys.readouterr().out)["scans"] == 1
    (tmp_path / "filter.json").write_text('{"t1w": {"session": "a"}}')
    main([*words, "--bids-filter-file", str(tmp_path / "filter.json")])
    assert json.loads(capsys.readouterr().out)["scans"] == 1


def test_masks_of_derivatives_are_told(study, capsys):
    folder = study.root / "masks"
    for label in ("01", "02"):
        path = folder / f"sub-{label}" / "anat" / f"sub-{label}_desc-brain_mask.nii.gz"
        path.parent.mkdir(parents=True)
        shutil.copyfile(study.t1w(label), path)
    description = {"Name": "masks", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    _, found = findings(study, capsys, "--headers-only", "-d", f"masks={folder}")
    assert about(found, "skull", "note") == [
        "all scans have a mask in --derivatives, which is taken"
    ]
    moved = nb.load(path)
    moved.affine[:3, 3] += 400
    nb.save(nb.Nifti1Image(moved.dataobj, moved.affine), path)
    code, found = findings(study, capsys, "-d", f"masks={folder}")
    assert code == 1
    assert about(found, path, "error") == [
        "the brain mask given does not overlap the image: is it of another one?"
    ]
    path.unlink()
    _, found = findings(study, capsys, "--headers-only", "-d", f"masks={folder}")
    assert "1 of 2 scans lacks the brain mask" in about(found, "sub-02_T1w.nii.gz", "warning")[0]


def test_masks_that_were_not_fetched_are_errors_and_segmentations_are_warned_of(study, capsys):
    aseg = study.aseg("02")
    aseg.parent.mkdir(parents=True)
    mask, other = study.mask("01"), study.mask("02")
    for path in (aseg, mask):
        path.symlink_to("../../.git/annex/objects/x")
    words = ("--headers-only", "-d", f"masks={study.root / 'masks'}")
    code, found = findings(study, capsys, *words)
    assert code == 0, "where some scans have no mask none is taken"
    assert "datalad get" in about(found, aseg, "warning")[0]
    shutil.copyfile(study.t1w("02"), other)
    code, found = findings(study, capsys, *words)
    assert code == 1
    assert "datalad get" in about(found, mask, "error")[0]


def test_a_scan_turned_is_one_scan_under_two_names(study, capsys):
    image = nb.load(study.t1w("01"))
    orientation = nb.orientations.axcodes2ornt(("P", "I", "R"))
    turned = nb.orientations.ornt_transform(nb.io_orientation(image.affine), orientation)
    nb.save(image.as_reoriented(turned), study.t1w("02"))
    code, found = findings(study, capsys)
    assert code == 1
    assert "one scan under two names" in about(found, study.t1w("02"), "error")[0]


@pytest.mark.parametrize(
    ("side", "part"),
    [
        (None, np.s_[:, :, :]),
        ("bottom", np.s_[:, :, 80:]),
        ("back", np.s_[:, 45:]),
        ("left", np.s_[35:]),
        ("right", np.s_[:-35]),
    ],
)
def test_a_brain_cut_off_within_its_head_is_noticed_at_every_side(
    side, part, shared_data, tmp_path
):
    whole = shared_data / "whole-head-cohort" / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    image = nb.as_closest_canonical(nb.load(whole))
    nb.save(image.slicer[part], tmp_path / "cut.nii.gz")
    assert examine_voxels(tmp_path / "cut.nii.gz").cut == (() if side is None else (side,))


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("name", ["whole-head-cohort/sub-02", "training-cohort/sub-01"])
def test_a_half_that_is_empty_is_noticed(name, number, shared_data, tmp_path):
    (whole,) = (shared_data / name / "anat").glob("*_T1w.nii.gz")
    image = nb.as_closest_canonical(nb.load(whole))
    data = np.asarray(image.dataobj).copy()
    axis, upper = divmod(number, 2)
    places = np.nonzero(data > np.percentile(data, 60))[axis]
    middle = int(np.median(places))
    np.moveaxis(data, axis, 0)[np.s_[middle:] if upper else np.s_[:middle]] = 0
    nb.save(nb.Nifti1Image(data, image.affine), tmp_path / "half.nii")
    side = ("left", "right", "back", "front", "bottom", "top")[number]
    assert examine_voxels(tmp_path / "half.nii").cut == (side,)


def test_the_first_of_thick_slices_is_not_a_plane_at_which_a_head_ends(shared_data, tmp_path):
    """Where slices of 6.7 mm begin is chance: at one of five places the first is wide."""
    whole = shared_data / "whole-head-cohort" / "sub-02" / "anat" / "sub-02_T1w.nii.gz"
    image = nb.as_closest_canonical(nb.load(whole))
    data = np.pad(np.asarray(image.dataobj), ((0, 0), (0, 0), (0, 12)))
    for first in range(5):
        count = (data.shape[2] - first) // 5
        slices = data[..., first : first + 5 * count].reshape(*data.shape[:2], count, 5)
        thick = image.affine @ np.diag([1, 1, 5, 1])
        nb.save(nb.Nifti1Image(slices.mean(axis=-1), thick), tmp_path / "thick.nii")
        assert examine_voxels(tmp_path / "thick.nii").cut == ()


@pytest.mark.parametrize("cohort", ["labelled-cohort/sub-1000", "whole-head-cohort/sub-02"])
def test_an_impossible_size_is_told(cohort, shared_data, tmp_path):
    (whole,) = (shared_data / cohort / "anat").glob("*_T1w.nii.gz")
    image = nb.load(whole)
    usual = MaskShape(1886.0, 0.76, 0.94)
    assert examine_voxels(whole, usual=usual).doubts == ()
    shrunk = image.affine @ np.diag([0.5, 0.5, 0.5, 1])
    nb.save(nb.Nifti1Image(np.asarray(image.dataobj), shrunk), tmp_path / "small.nii")
    (doubt,) = examine_voxels(tmp_path / "small.nii", usual=usual).doubts
    assert "the voxel size is wrong" in doubt


def test_a_single_voxel_is_told_and_does_not_end_the_command(study, capsys):
    data = np.zeros(nb.load(study.t1w("01")).shape, np.int16)
    data[20, 20, 20] = 7
    change(study.t1w("01"), data=data)
    _, found = findings(study, capsys)
    assert any("hardly a voxel" in what for what in about(found, study.t1w("01"), "warning"))


def test_what_is_told_of_one_is_told_of_one(study, capsys):
    data = np.asarray(nb.load(study.t1w("01")).dataobj).astype(np.float32)
    data[0, 0, 0] = np.nan
    change(study.t1w("01"), data=data)
    main([str(study.bids), "--participant-label", "01"])
    said = capsys.readouterr().out
    assert "\n1 T1w scan: 0 errors, 2 warnings, " in said
    assert " minutes for 1 scan, 1 at once" in said
    assert ": 1 voxel is not finite" in said


def test_a_mask_of_impossible_size_is_told(study, capsys):
    for label in ("01", "02"):
        shutil.copyfile(study.t1w(label), study.mask(label))
    _, found = findings(study, capsys, "-d", str(study.root / "masks"))
    assert "ml, expected" in about(found, study.mask("01"), "warning")[0]


def test_a_folder_that_is_no_dataset_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path)]) == 1
    assert f"error: {tmp_path}: not a BIDS dataset" in capsys.readouterr().out


def test_real_scans_have_neither_errors_nor_warnings(shared_data, capsys):
    assert main([str(shared_data / "labelled-cohort"), "--participant-label", "1000", "1003"]) == 0
    assert "2 T1w scans: 0 errors, 0 warnings" in capsys.readouterr().out
