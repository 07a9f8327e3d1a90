"""What is handed over to fMRIPrep is found there, once each, and maps points as before."""

import json
import os
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from bids.layout import BIDSLayout, Query
from nibabel.affines import apply_affine, from_matvec

from vxmprep.bids.precomputed import hand_over
from vxmprep.cli.convert import main
from vxmprep.config import UsageError
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.itk import write_affine, write_composite
from vxmprep.spatial.transform import Field, read_itk

ATLAS = Grid((20, 22, 18), from_matvec(np.eye(3), [-9.0, -11.0, -8.0]))
COARSE = Grid((15, 16, 14), from_matvec(2 * np.eye(3), [-13.0, -15.0, -12.5]))
SCAN = Grid((15, 12, 13), from_matvec(np.diag([-2.0, 2.0, 2.0]), [14.0, -10.0, -12.0]))
AFFINE = from_matvec(np.diag([1.1, 1.0, 0.9]), [1.0, 1.0, -1.0])

# What sMRIPrep 0.19.5 asks for of a participant (smriprep/data/io_spec.json), in pybids' words.
WANTED = {
    "t1w_preproc": {"space": Query.NONE, "desc": "preproc", "suffix": "T1w"},
    "t1w_mask": {"space": Query.NONE, "desc": "brain", "suffix": "mask"},
    "forward": {"from": "T1w", "to": "A", "suffix": "xfm", "mode": "image"},
    "reverse": {"from": "A", "to": "T1w", "suffix": "xfm", "mode": "image"},
}
EXTENSIONS = {"t1w": [".nii.gz", ".nii"], "forward": [".h5", ".txt"], "reverse": [".h5", ".txt"]}


def one_scan(root: Path, stem: str, space: str = "A", verdict: str = "pass") -> Path:
    """Write what vxmprep leaves of a scan, small."""
    folder = (
        root / "/".join(word for word in stem.split("_") if word[:3] in ("sub", "ses")) / "anat"
    )
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for there, back, first in (("T1w", space, True), (space, "T1w", False)):
        write_composite(
            folder / f"{stem}_from-{there}_to-{back}_mode-image_xfm.h5",
            affine=AFFINE if first else np.linalg.inv(AFFINE),
            displacement=generator.normal(size=(*COARSE.shape, 3)),
            grid=COARSE,
            field_acts_first=first,
        )
    write_affine(folder / f"{stem}_from-T1w_to-{space}_mode-image_desc-affine_xfm.txt", AFFINE)
    sidecar = folder / f"{stem}_from-T1w_to-{space}_mode-image_xfm.json"
    sidecar.write_text(json.dumps({"Atlas": {"Name": space}}))
    for name, grid in (
        (f"space-{space}_desc-preproc_T1w", ATLAS),
        ("desc-preproc_T1w", SCAN),
        ("desc-brain_mask", SCAN),
        (f"space-{space}_desc-brain_mask", ATLAS),
        (f"space-{space}_res-network_desc-conformed_T1w", ATLAS),
        ("desc-atlas_dseg", SCAN),
    ):
        image = nb.Nifti1Image(np.ones(grid.shape, np.uint8), grid.affine)
        nb.save(image, folder / f"{stem}_{name}.nii.gz")
    metrics = folder / f"{stem}_space-{space}_desc-registration_metrics.json"
    metrics.write_text(json.dumps({"Quality": {"Verdict": verdict}}))
    return folder


def collected(root: Path, participant: str) -> dict[str, list[str]]:
    """Ask as sMRIPrep does."""
    layout = BIDSLayout(root, validate=False, config=["bids", "derivatives"])
    found = {}
    for name, query in WANTED.items():
        extension = EXTENSIONS.get(name, EXTENSIONS["t1w"])
        query = {**query, "datatype": "anat", "extension": extension, "subject": participant}
        found[name] = [Path(path).name for path in layout.get(return_type="filename", **query)]
    return found


def test_smriprep_finds_each_file_once(tmp_path):
    one_scan(tmp_path / "out", "sub-01_ses-1_run-1")
    one_scan(tmp_path / "out", "sub-01_ses-2_run-1")
    assert len(collected(tmp_path / "out", "01")["forward"]) == 4
    list(hand_over(tmp_path / "out", tmp_path / "given"))
    stem = "sub-01_ses-1_run-1"
    assert collected(tmp_path / "given", "01") == {
        "t1w_preproc": [f"{stem}_desc-preproc_T1w.nii.gz"],
        "t1w_mask": [f"{stem}_desc-brain_mask.nii.gz"],
        "forward": [f"{stem}_from-T1w_to-A_mode-image_xfm.h5"],
        "reverse": [f"{stem}_from-A_to-T1w_mode-image_xfm.h5"],
    }


def test_what_smriprep_itself_collects_is_what_was_handed_over(tmp_path):
    loader = pytest.importorskip("smriprep.utils.bids")
    for session in ("1", "2"):
        one_scan(tmp_path / "out", f"sub-01_ses-{session}", "MNI")
    root = tmp_path / "given"
    for sessionwise, chosen in ((False, "1"), (True, "2")):
        list(hand_over(tmp_path / "out", root, sessionwise=sessionwise))
        found = loader.collect_derivatives(
            root, "01", ["MNI"], session_id=chosen if sessionwise else None
        )
        stem = root / "sub-01" / f"ses-{chosen}" / "anat" / f"sub-01_ses-{chosen}"
        assert found["t1w_preproc"] == f"{stem}_desc-preproc_T1w.nii.gz"
        assert found["t1w_mask"] == f"{stem}_desc-brain_mask.nii.gz"
        assert found["transforms"] == {
            "MNI": {
                "forward": f"{stem}_from-T1w_to-MNI_mode-image_xfm.h5",
                "reverse": f"{stem}_from-MNI_to-T1w_mode-image_xfm.h5",
            }
        }


def test_scans_that_are_not_handed_over_are_named(tmp_path):
    for stem in ("sub-01_ses-1_run-1", "sub-01_ses-1_run-2", "sub-01_ses-2"):
        one_scan(tmp_path / "out", stem)
    [line] = hand_over(tmp_path / "out", tmp_path / "given")
    assert line.endswith(
        "(A); not sub-01_ses-1_run-2, sub-01_ses-2: fMRIPrep takes one scan of a participant"
    )
    first, second = hand_over(tmp_path / "out", tmp_path / "each", sessionwise=True)
    assert first.startswith("sub-01_ses-1 -> ")
    assert first.endswith("(A); not sub-01_ses-1_run-2: fMRIPrep takes one scan of a session")
    assert second.endswith("ses-2/anat (A)")
    names = {path.name.split("_desc-")[0] for path in (tmp_path / "each").rglob("*_mask.nii.gz")}
    assert names == {"sub-01_ses-1_run-1", "sub-01_ses-2"}


def test_all_atlases_of_a_scan_go_together(tmp_path):
    one_scan(tmp_path / "out", "sub-01")
    one_scan(tmp_path / "out", "sub-01", "B")
    assert list(hand_over(tmp_path / "out", tmp_path / "given")) == [
        f"sub-01 -> {tmp_path / 'given' / 'sub-01' / 'anat'} (A, B)"
    ]
    assert len(list((tmp_path / "given").rglob("*.h5"))) == 4


def test_templates_with_cohorts_are_called_as_fmriprep_calls_them(tmp_path):
    folder = one_scan(tmp_path / "out", "sub-01")
    sidecar = {"Atlas": {"Image": {"File": "tpl-MNIInfant_cohort-2_res-1_T1w.nii.gz"}}}
    (folder / "sub-01_from-T1w_to-A_mode-image_xfm.json").write_text(json.dumps(sidecar))
    [line] = hand_over(tmp_path / "out", tmp_path / "given")
    assert line.endswith("(MNIInfant+2)")
    assert {path.name for path in (tmp_path / "given").rglob("*.h5")} == {
        "sub-01_from-T1w_to-MNIInfant+2_mode-image_xfm.h5",
        "sub-01_from-MNIInfant+2_to-T1w_mode-image_xfm.h5",
    }


@pytest.mark.parametrize("way", ["from-T1w_to-A", "from-A_to-T1w"])
def test_the_field_lies_on_the_atlas_and_maps_as_before(way, tmp_path):
    name = f"sub-01/anat/sub-01_{way}_mode-image_xfm.h5"
    one_scan(tmp_path / "out", "sub-01")
    list(hand_over(tmp_path / "out", tmp_path / "given"))
    before, after = (read_itk(tmp_path / root / name) for root in ("out", "given"))
    [field] = [member for member in after.members if isinstance(member, Field)]
    assert field.grid.matches(ATLAS)
    points = ATLAS.world(np.argwhere(np.ones(ATLAS.shape)))
    if way == "from-A_to-T1w":  # those that the affine brings to the voxels of the atlas
        points = apply_affine(np.linalg.inv(before.members[0]), points)
    np.testing.assert_allclose(after(points), before(points), atol=0.02)


def test_a_registration_judged_a_failure_is_left_to_fmriprep(tmp_path):
    one_scan(tmp_path / "out", "sub-01", verdict="fail")
    one_scan(tmp_path / "out", "sub-02")
    first, second = hand_over(tmp_path / "out", tmp_path / "given")
    assert first == "sub-01: left out, its registration to A was judged a failure"
    assert second.startswith("sub-02 -> ")
    assert not (tmp_path / "given" / "sub-01").exists()


def test_what_another_output_has_handed_over_stays(tmp_path):
    for name in ("01", "02"):
        one_scan(tmp_path / f"out{name}", f"sub-{name}")
        list(hand_over(tmp_path / f"out{name}", tmp_path / "given"))
    assert {path.name for path in (tmp_path / "given").glob("sub-*")} == {"sub-01", "sub-02"}
    assert list((tmp_path / "given" / "sub-01" / "anat").iterdir())


def test_what_is_there_and_newer_is_kept(tmp_path):
    name = "sub-01_from-T1w_to-A_mode-image_xfm.h5"
    source = one_scan(tmp_path / "out", "sub-01") / name
    given = tmp_path / "given" / "sub-01" / "anat" / name
    list(hand_over(tmp_path / "out", tmp_path / "given"))
    made = given.stat().st_ino
    [line] = hand_over(tmp_path / "out", tmp_path / "given")
    assert line.endswith("/anat (A), up to date")
    assert given.stat().st_ino == made
    later = given.stat().st_mtime + 10
    os.utime(source, (later, later))
    [line] = hand_over(tmp_path / "out", tmp_path / "given")
    assert line.endswith("/anat (A)")
    assert given.stat().st_ino != made


def test_what_is_no_longer_handed_over_is_removed(tmp_path):
    for stem in ("sub-01_ses-1", "sub-01_ses-2", "sub-02"):
        folder = one_scan(tmp_path / "out", stem)
    root = tmp_path / "given"
    list(hand_over(tmp_path / "out", root, sessionwise=True))
    before = {path for path in root.rglob("*") if path.is_file()}
    assert len(before) == 1 + 3 * 5
    metrics = folder / "sub-02_space-A_desc-registration_metrics.json"
    metrics.write_text(json.dumps({"Quality": {"Verdict": "fail"}}))
    list(hand_over(tmp_path / "out", root))
    after = {path for path in root.rglob("*") if path.is_file()}
    assert after == {path for path in before if "ses-2" not in path.name and "02" not in path.name}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("from-T1w_to-A_mode-image_xfm.json", "{"),
        ("space-A_desc-registration_metrics.json", '{"Quality": {"Verdict": "fail"}'),
    ],
)
def test_a_scan_of_which_a_description_is_damaged_is_left_out_and_named(name, content, tmp_path):
    folder = one_scan(tmp_path / "out", "sub-01")
    (folder / f"sub-01_{name}").write_text(content)
    one_scan(tmp_path / "out", "sub-02")
    left, given = hand_over(tmp_path / "out", tmp_path / "given")
    assert f"sub-01_{name} is damaged" in left
    assert given.endswith("(A)")


@pytest.mark.parametrize("description", ['{"Name": "mine"}', "{", "[]"])
def test_another_dataset_is_not_written_into(description, tmp_path):
    one_scan(tmp_path / "out", "sub-01")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "dataset_description.json").write_text(description)
    for target in ("study", "out"):
        with pytest.raises(UsageError, match="give a folder of its own"):
            list(hand_over(tmp_path / "out", tmp_path / target))


def test_the_command_hands_over_by_session(tmp_path, capsys):
    for session in ("1", "2"):
        one_scan(tmp_path / "out", f"sub-01_ses-{session}")
    words = [str(tmp_path / "out"), "--sessionwise", "-o"]
    assert main([*words, str(tmp_path / "given"), "--format", "fmriprep"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main([*words, str(tmp_path / "a.x5")]) == 2
    assert "--sessionwise is for --format fmriprep" in capsys.readouterr().err


def test_the_command_tells_bad_input_in_one_line(tmp_path, capsys):
    given = ["--format", "fmriprep", "-o", str(tmp_path / "given")]
    assert main([str(tmp_path / "no"), *given]) == 2
    assert "wants one folder, vxmprep's OUTPUT_DIR" in capsys.readouterr().err
    assert main([str(tmp_path), *given]) == 2
    assert "no registered scans there" in capsys.readouterr().err
